"""The content-addressed store: one file per work unit, named by the unit's content key.

A file is written beside its place, synced and renamed: it is there complete, or not at all, whatever moment
a run is killed at. Its first line is a JSON header with the size and sha256 of the rest, so that a damaged
file is noticed when it is read, and computed again. Several runs on one file system may share a store:
equal keys mean equal contents, and the last rename wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = 1


class CorruptEntryError(RuntimeError):
    """A stored file that is not what was written."""


@dataclass(frozen=True)
class Result:
    """What a unit computed: JSON-ready `meta` (NaN allowed) and named arrays."""

    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def cache_dir() -> Path:
    """Where caches live: `M2L_CACHE`, else `XDG_CACHE_HOME/m2l`, else `~/.cache/m2l`."""
    if explicit := os.environ.get("M2L_CACHE"):
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "m2l"


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file beside `path`, sync it, and rename it into place; parents are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; file systems that cannot sync a folder are left alone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


class Store:
    """Results by content key under one folder.

    Args:
        root: the folder; default `cache_dir()/store`. It is made at the first write.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else cache_dir() / "store"

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def path(self, key: str) -> Path:
        """Where the result of `key` is, or would be."""
        return self.root / "objects" / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether a complete file is there. Its contents are verified when it is read."""
        try:
            with open(self.path(key), "rb") as file:
                header = _read_header(file.readline(4096))
                return os.fstat(file.fileno()).st_size == header["offset"] + header["size"]
        except (FileNotFoundError, CorruptEntryError):
            return False

    def put(self, key: str, result: Result) -> None:
        """Publish a result; an existing one is replaced."""
        body = _pack(result)
        head = {"format": _FORMAT, "sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
        write_atomic(self.path(key), json.dumps(head, sort_keys=True).encode() + b"\n" + body)

    def get(self, key: str) -> Result:
        """Read and verify a result.

        Raises:
            KeyError: there is none.
            CorruptEntryError: the file was damaged; it is removed, so that the unit runs again.
        """
        path = self.path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise KeyError(f"no stored result {key}") from None
        try:
            return _unpack(data)
        except CorruptEntryError as error:
            path.unlink(missing_ok=True)
            raise CorruptEntryError(f"stored result {key} is damaged ({error}); removed") from None

    def meta(self, key: str) -> dict[str, Any]:
        """The `meta` of a result, without reading its arrays; the checksum is not verified.

        Raises:
            KeyError: there is no complete file.
        """
        if not self.has(key):
            raise KeyError(f"no stored result {key}")
        with open(self.path(key), "rb") as file:
            file.readline()
            length = int.from_bytes(file.read(8), "little")
            try:
                return dict(json.loads(file.read(length))["meta"])
            except (ValueError, KeyError):
                raise KeyError(f"stored result {key} is damaged") from None

    def delete(self, key: str) -> None:
        """Forget a result, if there is one."""
        self.path(key).unlink(missing_ok=True)

    def keys(self) -> Iterator[str]:
        """All keys that have a file."""
        for path in sorted((self.root / "objects").glob("??/*")):
            if not path.name.startswith("."):
                yield path.name

    # -- measured rates: how long work takes on this machine. They never enter a table file.

    def add_rate(self, stage: str, name: str, amount: float, cpu_seconds: float) -> None:
        """Record that `stage` of `name` took `cpu_seconds` for `amount` (seconds of audio)."""
        self.root.mkdir(parents=True, exist_ok=True)
        record = {"stage": stage, "name": name, "amount": amount, "cpu_seconds": cpu_seconds}
        line = (json.dumps(record, sort_keys=True) + "\n").encode()
        handle = os.open(self.root / "rates.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)  # one append: lines of several runs do not mix
        finally:
            os.close(handle)

    def rates(self) -> dict[tuple[str, str], float]:
        """CPU seconds per second of audio by (stage, name): the median of what was recorded."""
        seen: dict[tuple[str, str], list[float]] = {}
        try:
            lines = (self.root / "rates.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            try:
                record = json.loads(line)
                rate = float(record["cpu_seconds"]) / float(record["amount"])
            except (ValueError, KeyError, ZeroDivisionError):
                continue  # a line cut short by a kill
            seen.setdefault((record["stage"], record["name"]), []).append(rate)
        return {name: float(np.median(values)) for name, values in seen.items()}


def _pack(result: Result) -> bytes:
    index, blobs, offset = [], [], 0
    for name, array in result.arrays.items():
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"array {name!r} has dtype {array.dtype}; only numbers are stored")
        blob = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        index.append(
            {"name": name, "dtype": array.dtype.newbyteorder("<").str, "shape": array.shape, "at": offset}
        )
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps({"meta": result.meta, "arrays": index}, sort_keys=True).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *blobs])


def _read_header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        if header["format"] != _FORMAT or not line.endswith(b"\n"):
            raise ValueError("unknown format")
        return {"sha256": str(header["sha256"]), "size": int(header["size"]), "offset": len(line)}
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptEntryError(f"bad header: {error}") from None


def _unpack(data: bytes) -> Result:
    header = _read_header(data[: data.find(b"\n") + 1])
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
