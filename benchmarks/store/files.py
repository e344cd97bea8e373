"""Where a store's bytes lie: a folder, or (in `benchmarks.store.objects`) below a URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from m2l.io.atomic import write_bytes


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file beside `path`, sync it, and rename it into place; parents are made.

    What a killed process left of the same file is removed (`m2l.io.atomic.written_beside`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data.encode() if isinstance(data, str) else data)
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


class Files(Protocol):
    """Named byte strings below one place, each published whole or not at all.

    Names are relative, with "/" between their parts. `FileNotFoundError` means that there is no such name.
    """

    @property
    def location(self) -> str:
        """Absolute path or URL: `open_files(location)` elsewhere opens the same files."""
        ...

    def read(self, name: str) -> bytes:
        """All bytes."""
        ...

    def head(self, name: str, length: int) -> tuple[bytes, int]:
        """The first `length` bytes, and the size of the whole."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Publish `data` under `name`; what was there is replaced."""
        ...

    def delete(self, name: str) -> None:
        """Remove a name, if it is there."""
        ...

    def names(self, folder: str) -> Iterator[str]:
        """All published names below a folder, sorted."""
        ...

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a journal that several processes write."""
        ...

    def journal(self, name: str) -> bytes:
        """All lines of a journal, in no particular order of writers; empty where there is none."""
        ...

    def flush(self) -> None:
        """Publish lines that are still held back."""
        ...

    @property
    def listing_tells_all(self) -> bool:
        """Whether a listed name is known to be whole, so that asking for each of them can be saved."""
        ...


class LocalFiles:
    """Files of a folder, on this machine or on a file system that several machines mount."""

    #: A file system can cut a published file short (a full disk, a lost server); a header tells.
    listing_tells_all = False

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def location(self) -> str:
        return str(self.root.absolute())

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def head(self, name: str, length: int) -> tuple[bytes, int]:
        with open(self.root / name, "rb", buffering=0) as file:
            return file.read(length) or b"", os.fstat(file.fileno()).st_size

    def write(self, name: str, data: bytes) -> None:
        write_atomic(self.root / name, data)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def names(self, folder: str) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.is_dir():
                yield from self.names(f"{folder}/{entry.name}")
            elif not entry.name.startswith("."):
                yield f"{folder}/{entry.name}"

    def append(self, name: str, line: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)  # one append: lines of several runs do not mix
        finally:
            os.close(handle)

    def journal(self, name: str) -> bytes:
        try:
            return self.read(name)
        except FileNotFoundError:
            return b""

    def flush(self) -> None:
        """Nothing is held back."""


def open_files(root: str | Path) -> Files:
    """The files at a folder or at a URL of an object store ("s3://bucket/prefix").

    Raises:
        ImportError: a URL, and fsspec (or its driver for that protocol) is not installed.
    """
    text = str(root)
    if text.startswith("file://"):
        return LocalFiles(Path(text.removeprefix("file://")))
    if "://" not in text:
        return LocalFiles(Path(root).expanduser())
    from benchmarks.store.objects import ObjectFiles

    return ObjectFiles(text)
