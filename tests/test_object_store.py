"""The store behind a URL: an S3 server in this process where its packages are, fsspec's memory elsewhere."""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from scale_systems import N_CLIPS
from test_scale import write_suite

from benchmarks.cli.main import main
from benchmarks.store import files as store_files
from benchmarks.store.files import LocalFiles, open_files
from benchmarks.store.store import CorruptEntryError, Pruned, Result, Store


class Renaming(LocalFileSystem):
    """A file system whose PUT is not atomic, below folders of this machine."""

    protocol = ("renaming",)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("renaming://")


fsspec.register_implementation("renaming", Renaming)

KEYS = [f"{i:02x}" + "0" * 62 for i in range(40)]


@pytest.fixture(scope="module")
def s3_bucket() -> Iterator[str]:
    """URL of a bucket on an S3 server in this process."""
    server_module = pytest.importorskip("moto.server", reason="no S3 server here: pip install 'moto[server]'")
    pytest.importorskip("s3fs", reason="no S3 client here: pip install 's3fs'")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fsspec.filesystem("s3").mkdir("m2l-test")
        yield "s3://m2l-test"
    server.stop()


@pytest.fixture(params=["memory", "s3", "renaming", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Memory with atomic PUT, an S3 bucket, a file system that publishes by renaming, and a folder."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/store"
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"
    return f"renaming://{tmp_path / 'store'}"


def test_results_come_back_from_another_process_s_view(url: str) -> None:
    first, second = Store(url), Store(url)
    result = Result({"x": 1.5, "text": "é"}, {"a": np.arange(1000.0), "none": np.zeros((0, 3), np.int16)})
    assert not first.has(KEYS[0])
    assert list(first.keys()) == []
    first.put(KEYS[0], result)
    assert second.has(KEYS[0])
    found = second.get(KEYS[0])
    assert found.meta == result.meta
    assert second.meta(KEYS[0]) == result.meta
    for name, array in result.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    with pytest.raises(KeyError, match=KEYS[1]):
        second.get(KEYS[1])
    with pytest.raises(KeyError, match=KEYS[1]):
        second.meta(KEYS[1])
    second.delete(KEYS[0])
    second.delete(KEYS[0])
    assert not first.has(KEYS[0])


def test_many_are_found_by_listing_and_listings_are_fresh(url: str) -> None:
    first, second = Store(url), Store(url)
    assert first.has_many(KEYS) == set()
    for key in KEYS[:-1]:
        second.put(key, Result({"key": key}))
    assert first.has_many(KEYS) == set(KEYS[:-1])
    assert first.has_many(KEYS[-2:]) == {KEYS[-2]}
    assert list(first.keys()) == KEYS[:-1]
    second.delete(KEYS[3])
    assert KEYS[3] not in first.has_many(KEYS)


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "empty", "other file"])
def test_damage_is_noticed_and_removed(url: str, damage: str) -> None:
    store = Store(url)
    store.put(KEYS[0], Result({"x": 1}, {"a": np.arange(100.0)}))
    name = f"objects/{KEYS[0][:2]}/{KEYS[0]}"
    data = bytearray(store.files.read(name))
    if damage == "cut":
        data = data[:-5]
    elif damage == "flipped bit":
        data[len(data) // 2] ^= 1
    else:
        data = bytearray(b"" if damage == "empty" else b"<html>504</html>")
    store.files.write(name, bytes(data))
    if damage != "flipped bit":
        assert not store.has(KEYS[0])
    with pytest.raises(CorruptEntryError, match=KEYS[0]):
        store.get(KEYS[0])
    assert not store.has(KEYS[0])


def test_large_meta_is_read_in_full(url: str) -> None:
    store = Store(url)
    meta = {"values": {f"clip{i}": float(i) for i in range(N_CLIPS)}}
    store.put(KEYS[0], Result(meta, {"a": np.zeros(10)}))
    assert store.meta(KEYS[0]) == meta


def test_rates_of_several_writers_add_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_files, "_JOURNAL_LINES", 4)
    first, second = Store(url), Store(url)
    for seconds in (1.0, 2.0, 3.0, 30.0, 40.0):
        first.add_rate("reconstruct", "opus", 10.0, seconds)
        second.add_rate("embed", "clap", 10.0, 9 * seconds, device="cuda:1", wall_seconds=seconds)
    first.flush()
    second.flush()
    assert Store(url).rates() == {("reconstruct", "opus"): 0.3}
    assert Store(url).rates("cuda") == {("embed", "clap"): 0.3}


@pytest.mark.parametrize("dry_run", [True, False])
def test_prune_removes_all_but_what_is_kept(url: str, dry_run: bool) -> None:
    store = Store(url)
    for key in KEYS[:6]:
        store.put(key, Result({"key": key}))
    store.put_record("runs/s/0-of-1.json", {"done": 1})
    size = sum(len(store.files.read(f"objects/{key[:2]}/{key}")) for key in KEYS[2:6])
    keep = {*KEYS[:2], "f" * 64}
    assert store.prune(keep, dry_run=dry_run) == Pruned(kept=2, removed=4, bytes=size)
    assert list(Store(url).keys()) == (KEYS[:6] if dry_run else KEYS[:2])
    assert store.records("runs") != {}
    assert store.get(KEYS[0]).meta == {"key": KEYS[0]}
    if not dry_run:
        assert store.prune(keep) == Pruned(kept=2, removed=0, bytes=0)


def test_records_are_replaced(url: str) -> None:
    store = Store(url)
    for done in (1, 2):
        store.put_record("runs/s/0-of-2.json", {"done": done})
    store.files.write("runs/s/1-of-2.json", b"{ cut")
    assert Store(url).records("runs/s") == {"runs/s/0-of-2.json": {"done": 2}}


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a PUT is not atomic, half a file never has the final name."""
    store = Store(f"renaming://{tmp_path}/store")
    store.put(KEYS[0], Result({"x": "old"}))
    files = store.files
    assert not files.listing_tells_all

    def half(path: str, data: bytes, **_: object) -> None:
        Path(path).write_bytes(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.fs, "pipe_file", half)
    with pytest.raises(OSError, match="No space"):
        store.put(KEYS[0], Result({"x": "new"}))
    with pytest.raises(OSError, match="No space"):
        store.put(KEYS[1], Result({"x": "new"}))
    monkeypatch.undo()
    assert store.get(KEYS[0]).meta == {"x": "old"}
    assert list(store.keys()) == [KEYS[0]]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [KEYS[0]]


@given(data=st.binary(max_size=400), length=st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_heads_are_beginnings(data: bytes, length: int) -> None:
    files = open_files("memory://heads")
    files.write("a/b", data)
    assert files.head("a/b", length) == (data[:length], len(data))
    assert files.read("a/b") == data


def test_what_a_location_is(tmp_path: Path) -> None:
    assert isinstance(open_files(tmp_path), LocalFiles)
    for protocol in ("file", "local"):
        assert open_files(f"{protocol}://{tmp_path}").location == str(tmp_path)
    assert pickle.loads(pickle.dumps(open_files(tmp_path))).location == str(tmp_path)
    remote = Store("memory://bucket/store/")
    assert remote.location == "memory://bucket/store"
    assert pickle.loads(pickle.dumps(remote.files)).location == remote.location
    with pytest.raises(ValueError, match="not a folder"):
        _ = remote.root
    with pytest.raises(ValueError, match="quark"):
        Store("quark://bucket/store")


@pytest.mark.parametrize("url", ["memory", "s3"], indirect=True)
def test_a_suite_on_an_object_store_gives_the_bytes_of_a_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards, then the tables, each with a store of its own opened from the URL."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    toml = write_suite(tmp_path, size=20, systems=["scale_systems:Instant0", "scale_systems:Instant1"],
                       unit_clips=4)  # fmt: skip
    common = ["--suite", str(toml), "--quiet", "--executor", "serial"]
    folder = tmp_path / "folder"
    assert main(["tables", *common, "--store", str(folder), "--results", str(tmp_path / "one")]) == 0
    for index in (1, 0):
        assert main(["run", *common, "--store", url, "--shard", f"{index}/2"]) == 0
    assert main(["tables", *common, "--store", url, "--results", str(tmp_path / "two")]) == 0
    for name in ("table2.json", "table2.csv", "table2.md"):
        expected = (tmp_path / "one" / "simulated" / name).read_bytes()
        assert (tmp_path / "two" / "simulated" / name).read_bytes() == expected
    assert set(Store(url).keys()) == set(Store(folder).keys())
    assert os.path.isdir(folder)
