"""Look-up order, checks and downloads of weights."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.registry import UnknownNameError
from benchmarks.weights.find import (
    WeightsCorruptError,
    WeightsNotFoundError,
    find_weight,
    has_weight,
    restriction,
    weight_digest,
    weight_source,
)
from benchmarks.weights.table import WEIGHTS, WeightFile, WeightSource
from m2l.io import digest
from m2l.io.cache import HUB_COMMIT, HUB_FILE, HUB_NAME
from m2l.io.digest import known_sha256

CONTENT = bytes(range(256)) * 5000


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def add(monkeypatch: pytest.MonkeyPatch, name: str, origin: str, *files: WeightFile) -> None:
    monkeypatch.setitem(WEIGHTS, name, WeightSource(name, origin, files, "MIT", "tests"))


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_every_entry_is_complete() -> None:
    for name, source in WEIGHTS.items():
        assert source.name == name
        assert source.kind in ("hub", "github", "repository", "wheel")
        assert all(source.location)
        assert source.files
        assert source.license
        assert source.used_for
        assert len({file.basename for file in source.files}) == len(source.files)
        assert "/" in source.location[0] or source.kind == "wheel"
        assert "://" not in source.origin


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'musicnn-msd'"):
        find_weight("musicnn-mds")


def test_explicit_path_wins_and_may_be_a_folder(tmp_path: Path, empty_caches: Path) -> None:
    put(empty_caches / "vggish" / "vggish-10086976.pth")
    mine = put(tmp_path / "my" / "vggish-10086976.pth", b"mine")
    assert find_weight("vggish", mine) == mine
    assert find_weight("vggish", tmp_path / "my") == mine
    assert find_weight("vggish") != mine
    assert weight_digest("vggish", mine) == sha(b"mine")
    with pytest.raises(WeightsNotFoundError, match=r"no file .*gone.pth \(given explicitly\)"):
        find_weight("vggish", tmp_path / "gone.pth")


def test_sets_of_files_are_folders_and_complete_or_absent(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "pair", "github:a/b@1", WeightFile("one.bin"), WeightFile("sub/two.bin"))
    put(empty_caches / "pair" / "one.bin")
    with pytest.raises(WeightsNotFoundError, match=r"no two\.bin in .*pair"):
        find_weight("pair")
    put(empty_caches / "pair" / "two.bin", b"2")
    assert find_weight("pair") == empty_caches / "pair"
    before = weight_digest("pair")
    put(empty_caches / "pair" / "two.bin", b"3")
    assert weight_digest("pair") != before


def test_an_error_says_what_and_how() -> None:
    available, reason = has_weight("vggish")
    assert not available
    assert "no vggish-10086976.pth in" in reason
    assert reason.endswith("m2l-bench fetch vggish")


def test_an_installed_wheel_is_read_without_importing_it(
    tmp_path: Path, empty_caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    put(site / "fakenet" / "__init__.py", b"raise RuntimeError('imported')")
    model = put(site / "fakenet" / "models" / "net.bin")
    put(site / "fakenet-1.0.dist-info" / "METADATA", b"Metadata-Version: 2.1\nName: fakenet\nVersion: 1.0\n")
    put(site / "fakenet-1.0.dist-info" / "RECORD", b"fakenet/models/net.bin,,\n")
    add(monkeypatch, "fake", "wheel:fakenet==1.0", WeightFile("fakenet/models/net.bin", len(CONTENT), sha(CONTENT)))
    with pytest.raises(WeightsNotFoundError, match=r"fakenet is not installed.*pip install --no-deps fakenet==1.0"):
        find_weight("fake")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    assert find_weight("fake") == model
    assert weight_digest("fake") == sha(CONTENT)
    cached = put(empty_caches / "fake" / "net.bin")
    assert find_weight("fake") == cached


def test_damaged_files_are_named(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "sized", "github:a/b@1", WeightFile("x.bin", 4, sha(b"good")))
    put(empty_caches / "sized" / "x.bin", b"short"[:3])
    with pytest.raises(WeightsCorruptError, match="3 bytes, the published file has 4"):
        find_weight("sized")
    put(empty_caches / "sized" / "x.bin", b"evil")
    with pytest.raises(WeightsCorruptError, match=sha(b"good")):
        weight_digest("sized")
    present, reason = has_weight("sized")  # so that `fetch` gets it anew, and a table names it
    assert not present
    assert sha(b"good") in reason


def test_digest_follows_the_file(tmp_path: Path) -> None:
    path = put(tmp_path / "w.bin", b"one")
    assert known_sha256(path) == sha(b"one")
    put(path, b"other length")
    assert known_sha256(path) == sha(b"other length")


def test_the_digest_of_a_large_file_is_remembered_and_that_of_the_hub_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digest, "_LARGE", 4)
    blob = put(tmp_path / "blobs" / sha(b"good"), b"evil")
    assert known_sha256(blob) == sha(b"evil")
    (note,) = (tmp_path / "cache" / "digests").iterdir()
    assert note.read_text() == sha(b"evil")
    note.write_text(sha(b"noted"))
    digest._remembered.cache_clear()  # as in a later process
    assert known_sha256(blob) == sha(b"noted")
    put(blob, b"longer")
    assert known_sha256(blob) == sha(b"longer")
    for left in (tmp_path / "cache" / "digests").iterdir():
        left.write_text("damaged")
    digest._remembered.cache_clear()
    assert known_sha256(blob) == sha(b"longer")


def test_lookup_imports_no_torch() -> None:
    code = (
        "import sys; from benchmarks.weights.find import *; from benchmarks.weights.table import WEIGHTS;"
        "[has_weight(name) for name in WEIGHTS]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def hub_cache(root: Path, repository: str, name: str, revision: str, ref: str | None = None) -> Path:
    """A file as the hub's library leaves it, at a commit, which `ref` points to."""
    folder = root / "hub" / f"models--{repository.replace('/', '--')}"
    put(folder / "blobs" / sha(CONTENT))
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / name).symlink_to(folder / "blobs" / sha(CONTENT))
    if ref is not None:
        put(folder / "refs" / ref, revision.encode())
    return snapshot / name


def run_with_hub(root: Path, code: str) -> list[str]:
    """In a process of its own: the hub reads its settings once, on import."""
    environment = {**os.environ, "HF_HUB_CACHE": str(root / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


@pytest.mark.parametrize("ref", ["main", None])
def test_hub_files_are_found_in_the_hubs_cache(tmp_path: Path, ref: str | None) -> None:
    """At the pinned commit, as `fetch` leaves them, and at main, as the hub's own command does."""
    repository, commit = weight_source("clap-630k-best").location
    there = hub_cache(tmp_path, repository, "630k-best.pt", "abc" if ref else commit, ref)
    code = (
        "from benchmarks.weights.find import find_weight, weight_digest;"
        "print(find_weight('clap-630k-best')); print(weight_digest('clap-630k-best'))"
    )
    assert run_with_hub(tmp_path, code) == [str(there), sha(CONTENT)]


@pytest.mark.parametrize("place", ["pinned commit", "main", "cache"])
def test_the_published_weights_are_found_by_table_2_and_by_from_pretrained_alike(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    if place == "cache":
        there = put(tmp_path / "cache/weights/music2latent" / HUB_FILE)
    elif place == "main":
        there = hub_cache(tmp_path, HUB_NAME, HUB_FILE, "abc", "main")
    else:
        there = hub_cache(tmp_path, HUB_NAME, HUB_FILE, HUB_COMMIT)
    code = (
        "from benchmarks.weights.find import find_weight; from m2l.io.checkpoint_files import find_checkpoint;"
        f"print(find_weight('music2latent')); print(find_checkpoint({HUB_NAME!r}))"
    )
    assert run_with_hub(tmp_path, code) == [str(there), str(there)]


def test_known_weights_have_sources_sizes_and_full_commits() -> None:
    assert weight_source("musicnn-msd").location == ("musicnn", "0.1.0")
    assert weight_source("clap-630k-best").location[0] == "lukewys/laion_clap"
    for source in WEIGHTS.values():
        revision = source.location[1]
        if source.kind in ("hub", "repository") and source.name not in UNPINNED:
            assert re.fullmatch(r"[0-9a-f]{40}", revision), source.name
        assert revision
        assert restriction(source.license) is None or source.license in RESTRICTIVE, source.license
        for file in source.files:
            assert file.planned_size > 0, file
            assert file.size is None or file.about is None, file
            assert bool(file.sha256) != bool(file.no_digest), file
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256), file
            assert file.git is None or re.fullmatch(r"[0-9a-f]{40}", file.git), file


#: Their full commits are nowhere stated.
UNPINNED = {"kvae-audio", "ear-vae"}
#: Licenses that fetch asks for, as their owners name them.
RESTRICTIVE = {"CC BY-NC 4.0", "not stated", "Stability AI Community", "Stability AI Community (gated)"}
