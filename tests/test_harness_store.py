"""The store: complete or absent, verified, and shared between processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.store.store import CorruptEntryError, Result, Store
from m2l.io.atomic import write_atomic
from m2l.io.cache import cache_dir

KEY = "ab" + "0" * 62

ARRAYS = st.dictionaries(
    st.text(max_size=12),
    hnp.arrays(st.sampled_from(["f4", "f8", "i2", "i8", "u1"]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(meta=st.dictionaries(st.text(), JSON, max_size=4), arrays=ARRAYS)
@settings(max_examples=40, deadline=None)
def test_what_is_put_comes_back(tmp_path_factory: pytest.TempPathFactory, meta: dict, arrays: dict) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.put(KEY, Result(meta, arrays))
    assert store.has(KEY)
    found = store.get(KEY)
    assert found.meta == meta
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_absent(tmp_path: Path) -> None:
    store = Store(tmp_path / "nothing")
    assert not store.has(KEY)
    assert list(store.keys()) == []
    with pytest.raises(KeyError, match=KEY):
        store.get(KEY)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped bit", "empty", "other file"])
def test_damage_is_noticed_and_removed(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    store.put(KEY, Result({"x": 1}, {"a": np.arange(1000.0)}))
    path = store.path(KEY)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-5]
    elif damage == "longer":
        data += b"more"
    elif damage == "flipped bit":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data = bytearray()
    else:
        data = bytearray(b"PNG or whatever")
    path.write_bytes(data)
    if damage != "flipped bit":  # same size and header: only reading tells
        assert not store.has(KEY)
    with pytest.raises(CorruptEntryError, match=KEY):
        store.get(KEY)
    assert not path.exists()
    assert not store.has(KEY)


def test_an_entry_under_another_key_is_refused(tmp_path: Path) -> None:
    other = "ab" + "1" * 62
    store = Store(tmp_path)
    store.put(KEY, Result({"x": 1}))
    store.path(KEY).rename(store.path(other))  # a store copied together by hand
    assert not store.has(other)
    assert store.has_many([other]) == set()
    with pytest.raises(KeyError):
        store.meta(other)
    with pytest.raises(CorruptEntryError, match=f"it is the result of {KEY}"):
        store.get(other)
    assert not store.path(other).exists()


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from benchmarks.store.store import Result, Store\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"Store(sys.argv[1]).put({KEY!r}, Result({{'x': 1}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.part"))) == 1
    Store(tmp_path).put(KEY, Result({"x": 1}))
    assert list(tmp_path.rglob("*.part")) == []
    assert Store(tmp_path).get(KEY).meta == {"x": 1}


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'a' has dtype object"):
        Store(tmp_path).put(KEY, Result(arrays={"a": np.array([None])}))
    assert list(Store(tmp_path).keys()) == []


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_atomic(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["table.md"]


def _write_for_ever(root: str) -> None:
    store, number = Store(root), 0
    while True:
        number += 1
        store.put(f"{number % 5:064x}", Result({"n": number}, {"a": np.full(200_000, number, np.float32)}))


def test_a_killed_writer_leaves_only_whole_entries(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(0)
    for _ in range(6):
        process = context.Process(target=_write_for_ever, args=(str(tmp_path),), daemon=True)
        process.start()
        time.sleep(float(rng.uniform(0.02, 0.12)))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        store = Store(tmp_path)
        found = list(store.keys())
        for key in found:
            result = store.get(key)
            assert (result.arrays["a"] == result.meta["n"]).all()


def test_two_writers_of_one_key_agree(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.put(KEY, Result({"x": 1}))
    second.put(KEY, Result({"x": 1}))
    assert list(first.keys()) == [KEY]
    assert first.get(KEY).meta == {"x": 1}


def test_rates_are_medians_and_survive_a_torn_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.rates() == {}
    for seconds in (1.0, 2.0, 30.0):
        store.add_rate("reconstruct", "opus", 10.0, seconds)
    with open(tmp_path / "rates.jsonl", "a") as file:
        file.write(json.dumps({"stage": "score"})[:9])
    assert store.rates() == {("reconstruct", "opus"): 0.2}


def test_the_default_store_lies_in_the_cache_in_folders_of_two_letters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    store = Store()
    store.put(KEY, Result({"a": 1}))
    assert store.path(KEY) == tmp_path / "store" / "objects" / "ab" / KEY
    assert store.path(KEY).is_file()


@pytest.mark.parametrize("count", [3, 15, 16, 40])
def test_many_keys_are_found_whether_asked_or_listed(tmp_path: Path, count: int) -> None:
    store = Store(tmp_path)
    keys = [f"{i:064x}" for i in range(count)]
    for key in keys[::2]:
        store.put(key, Result({"key": key}, {"x": np.arange(3)}))
    torn = store.path(keys[0])
    torn.write_bytes(torn.read_bytes()[:-1])
    asked: list[str] = []
    has = store.has
    store.has = lambda key: asked.append(key) or has(key)  # type: ignore[func-returns-value, method-assign]
    assert store.has_many(keys) == set(keys[2::2])
    # A few are asked for one by one; of many those that a listing shows.
    assert sorted(asked) == (keys if count < 16 else keys[::2])


@pytest.mark.parametrize("length", [0, 100, 70_000])
def test_meta_is_read_without_the_arrays_whatever_its_length(tmp_path: Path, length: int) -> None:
    store = Store(tmp_path)
    meta = {"text": "x" * length, "n": 3}
    store.put(KEY, Result(meta, {"x": np.arange(5)}))
    assert store.meta(KEY) == meta
    whole = store.path(KEY).read_bytes()
    for damaged in (whole[:-1], whole + b"x"):
        store.path(KEY).write_bytes(damaged)
        assert not store.has(KEY)
        with pytest.raises(KeyError, match="no stored result"):
            store.meta(KEY)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("M2L_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "m2l"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "m2l"
