"""The content-addressed store: one file per work unit, named by the unit's content key.

A file is written beside its place, synced and renamed (an object store publishes it with one PUT), so that it
is complete or absent whenever a run is killed. Its first line is a JSON header with the key, and the size and
sha256 of the rest, so that a file that is damaged or lies under another key is noticed when it is read, and
computed again. Several runs and machines may share a store: equal keys mean equal contents, and the last one to
publish wins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.store.files import LocalFiles, open_files
from benchmarks.store.processor import describe, processor
from m2l.io.cache import cache_dir

_FORMAT = 2
_HEADER_BYTES = 512
#: What `meta` reads at once: the meta of most units is smaller.
_META_BYTES = 1 << 16
#: Fewer keys than this are asked for one by one instead of listing a store.
_FEW = 16


class CorruptEntryError(RuntimeError):
    """A stored file that is not what was written."""


@dataclass(frozen=True)
class Result:
    """What a unit computed: JSON-ready `meta` (NaN allowed) and named arrays."""

    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Pruned:
    """What `Store.prune` did: numbers of results, and bytes of the removed ones."""

    kept: int
    removed: int
    bytes: int


class Store:
    """Results by content key, in one folder or below one URL.

    Args:
        root: a folder, or a URL that fsspec opens ("s3://bucket/prefix"); default `cache_dir()/store`. A
            folder is created by the first write.

    Attributes:
        location: absolute path or URL; `Store(location)` in another process opens the same store.

    Raises:
        ImportError: a URL, and the package that opens it is not installed.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.files = open_files(root if root is not None else cache_dir() / "store")
        self.location = self.files.location

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    @property
    def root(self) -> Path:
        """The folder.

        Raises:
            ValueError: the store is behind a URL.
        """
        if not isinstance(self.files, LocalFiles):
            raise ValueError(f"store {self.location!r} is not a folder")
        return self.files.root

    def path(self, key: str) -> Path:
        """The file of the result of `key`, whether it exists or not, in a store that is a folder."""
        return self.root / _name(key)

    def has(self, key: str) -> bool:
        """Whether a complete file exists. Its contents are verified when it is read."""
        try:
            head, size = self.files.head(_name(key), _HEADER_BYTES)
            header = _read_header(_first_line(head), key)
            return size == header["offset"] + header["size"]
        except (FileNotFoundError, CorruptEntryError):
            return False

    def has_many(self, keys: Collection[str]) -> set[str]:
        """The `keys` that `has` would find, by listing: a few requests for thousands of keys."""
        wanted = set(keys)
        if len(wanted) < _FEW:
            return {key for key in wanted if self.has(key)}
        listed = wanted.intersection(self.keys())
        return listed if self.files.listing_tells_all else {key for key in listed if self.has(key)}

    def put(self, key: str, result: Result) -> None:
        """Publish a result; an existing one is replaced."""
        body = _pack(result)
        head = {"format": _FORMAT, "key": key, "sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
        self.files.write(_name(key), json.dumps(head, sort_keys=True).encode() + b"\n" + body)

    def get(self, key: str) -> Result:
        """Read and verify a result.

        Raises:
            KeyError: the store has none.
            CorruptEntryError: the file was damaged; it is removed, so that the unit runs again.
        """
        try:
            data = self.files.read(_name(key))
        except FileNotFoundError:
            raise KeyError(f"no stored result {key}") from None
        try:
            return _unpack(data, key)
        except CorruptEntryError as error:
            self.delete(key)
            raise CorruptEntryError(f"stored result {key} is damaged ({error}); removed") from None

    def meta(self, key: str) -> dict[str, Any]:
        """The `meta` of a result, without reading its arrays; the checksum is not verified.

        Raises:
            KeyError: the store has no complete file of it.
        """
        try:
            head, size = self.files.head(_name(key), _META_BYTES)
            header = _read_header(_first_line(head), key)
            if size != header["offset"] + header["size"]:
                raise CorruptEntryError("cut short")
            start = header["offset"] + 8
            end = start + int.from_bytes(head[header["offset"] : start], "little")
            if end > len(head):
                head, _ = self.files.head(_name(key), end)
            return dict(json.loads(head[start:end])["meta"])
        except (FileNotFoundError, CorruptEntryError):
            raise KeyError(f"no stored result {key}") from None
        except (ValueError, KeyError):
            raise KeyError(f"stored result {key} is damaged") from None

    def delete(self, key: str) -> None:
        """Remove a result, if it exists."""
        self.files.delete(_name(key))

    def keys(self) -> Iterator[str]:
        """All keys that have a file."""
        for name in self.files.names("objects"):
            yield name.rpartition("/")[2]

    def prune(self, keep: Collection[str], *, dry_run: bool = False) -> Pruned:
        """Remove all results but those of `keep`. Records and rates stay.

        A run that publishes at the same time may lose a result, and would compute it again.

        Args:
            keep: content keys to keep.
            dry_run: remove nothing, only count.
        """
        keep = frozenset(keep)
        kept = removed = size = 0
        for key in list(self.keys()):
            if key in keep:
                kept += 1
                continue
            try:
                size += self.files.head(_name(key), 0)[1]
            except FileNotFoundError:  # another process was faster
                continue
            removed += 1
            if not dry_run:
                self.delete(key)
        return Pruned(kept, removed, size)

    # -- records of running jobs, for `m2l-bench status`: small JSON files that are replaced as jobs proceed.

    def put_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Publish a record; `name` is relative ("runs/paper/0-of-8.json")."""
        self.files.write(name, json.dumps(record, sort_keys=True).encode())

    def records(self, folder: str) -> dict[str, dict[str, Any]]:
        """All records below a folder, by name; files that are not JSON objects are skipped."""
        found = {}
        for name in self.files.names(folder):
            try:
                record = json.loads(self.files.read(name))
            except (FileNotFoundError, ValueError):
                continue
            if isinstance(record, dict):
                found[name] = record
        return found

    # -- measured rates: how long work takes on this machine. They never enter a table.

    def add_rate(
        self,
        stage: str,
        name: str,
        amount: float,
        cpu_seconds: float,
        *,
        device: str = "cpu",
        wall_seconds: float = 0.0,
    ) -> None:
        """Record what `stage` of `name` took for `amount` (seconds of audio).

        Args:
            stage: stage of the unit.
            name: name of the unit.
            amount: seconds of audio.
            cpu_seconds: CPU time of the process that ran it.
            device: torch device of its network.
            wall_seconds: elapsed time, which is what counts on an accelerator.
        """
        record = {"stage": stage, "name": name, "amount": amount, "cpu_seconds": cpu_seconds}
        record["processor"] = describe(processor())
        if device != "cpu":
            record |= {"device": device, "wall_seconds": wall_seconds}
        self.files.append("rates.jsonl", (json.dumps(record, sort_keys=True) + "\n").encode())

    def rates(self, device: str = "cpu", measured_on: str = "") -> dict[tuple[str, str], float]:
        """Seconds per second of audio by (stage, name): the median of the recorded ones.

        Args:
            device: "cpu" gives CPU seconds; another one ("cuda" includes "cuda:1") elapsed seconds.
            measured_on: leave out what other processors have measured; a record that names none counts.
        """
        seen: dict[tuple[str, str], list[float]] = {}
        seconds = "cpu_seconds" if device == "cpu" else "wall_seconds"
        for line in self.files.journal("rates.jsonl").splitlines():
            try:
                record = json.loads(line)
                if str(record.get("device", "cpu")).partition(":")[0] != device.partition(":")[0]:
                    continue
                if measured_on and record.get("processor", measured_on) != measured_on:
                    continue
                rate = float(record[seconds]) / float(record["amount"])
                key = (str(record["stage"]), str(record["name"]))
            except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
                continue  # a line cut short by a kill
            seen.setdefault(key, []).append(rate)
        return {name: float(np.median(values)) for name, values in seen.items()}

    def flush(self) -> None:
        """Publish rates that an object store holds back to save requests."""
        self.files.flush()


def _name(key: str) -> str:
    return f"objects/{key[:2]}/{key}"


def _first_line(data: bytes) -> bytes:
    return data[: data.find(b"\n") + 1]


def _pack(result: Result) -> bytes:
    index, blobs, offset = [], [], 0
    for name, array in result.arrays.items():
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"array {name!r} has dtype {array.dtype}; only numbers are stored")
        blob = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        index.append({"name": name, "dtype": array.dtype.newbyteorder("<").str, "shape": array.shape, "at": offset})
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps({"meta": result.meta, "arrays": index}, sort_keys=True).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *blobs])


def _read_header(line: bytes, key: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if header["format"] != _FORMAT or not line.endswith(b"\n"):
            raise ValueError("unknown format")
        if header["key"] != key:
            raise ValueError(f"it is the result of {header['key']}")
        return {"sha256": str(header["sha256"]), "size": int(header["size"]), "offset": len(line)}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptEntryError(f"bad header: {error}") from None


def _unpack(data: bytes, key: str) -> Result:
    header = _read_header(_first_line(data), key)
    body = memoryview(data)[header["offset"] :]
    if len(body) != header["size"]:
        raise CorruptEntryError(f"{len(body)} bytes instead of {header['size']}")
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise CorruptEntryError("checksum differs")
    length = int.from_bytes(body[:8], "little")
    head: Mapping[str, Any] = json.loads(bytes(body[8 : 8 + length]))
    blobs = body[8 + length :]
    arrays = {}
    for item in head["arrays"]:
        shape = tuple(item["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        view = np.frombuffer(blobs, dtype=item["dtype"], count=count, offset=item["at"])
        arrays[item["name"]] = view.reshape(shape).astype(view.dtype.newbyteorder("="))
    return Result(dict(head["meta"]), arrays)
