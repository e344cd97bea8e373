"""The members of tar and zip archives, one after the other, whatever their headers claim.

`tarfile` and `zipfile` parse. Added here are archives in several parts, a bound on what a header can make the
reader allocate, checks that `tarfile` omits (the end marker, the compressor's checksum), and zip headers that
contradict each other.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.fetch.download import FetchError

#: Header blocks (long names, PAX records) are read in one piece; no legitimate archive has a larger one.
LARGEST_READ = 4 << 20

#: What reading a damaged archive raises.
ERRORS: tuple[type[Exception], ...] = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, ValueError,
    OverflowError, RuntimeError, OSError,
)  # fmt: skip


class ArchiveError(FetchError):
    """An archive that is refused or damaged; the message names it, the member, and the reason.

    Attributes:
        damaged: The files with the damage, if known: fetching them again helps.
    """

    def __init__(self, message: str, *, damaged: Sequence[Path] = ()) -> None:
        super().__init__(message)
        self.damaged = tuple(damaged)


@dataclass(frozen=True)
class Entry:
    """One member.

    Attributes:
        name: As in the archive.
        kind: "file", "folder", or a description of anything else.
        size: In bytes, according to its header.
        open: Opens its content.
        parts: The files of the archive that contain it.
    """

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes]]
    parts: tuple[Path, ...]


class Joined(io.RawIOBase):
    """Files read as one, in order, as `cat a b c` would give them; seekable."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._files = [path.open("rb") for path in paths]
        sizes = [path.stat().st_size for path in paths]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._size, self._at = sum(sizes), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        index = max(i for i, start in enumerate(self._starts) if start <= self._at)
        file = self._files[index]
        file.seek(self._at - self._starts[index])
        data = file.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def holding(self, first: int, last: int) -> tuple[Path, ...]:
        """The parts that hold the bytes from `first` up to `last`."""
        ends = [*self._starts[1:], self._size]
        return tuple(
            path
            for path, start, end in zip(self.paths, self._starts, ends, strict=True)
            if start <= last and end > first
        )

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


class _Bounded:
    """A stream for `tarfile` that only moves forward and refuses to read much at once."""

    def __init__(self, raw: IO[bytes], name: str) -> None:
        self._raw, self._name, self._at = raw, name, 0
        self.at_marker = False  # whether the last block read was all zeros, as at the end of a tar

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_READ:
            raise ArchiveError(f"{self._name}: refusing a header of {size} bytes")
        data = self._raw.read(size)
        self.at_marker = len(data) == tarfile.BLOCKSIZE and not any(data)
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> int:
        if offset < self._at:
            raise tarfile.ReadError("members out of order")
        if offset > self._at:
            self._raw.seek(offset)
            self._at = offset
        return self._at


def entries_of(parts: Sequence[Path]) -> Iterator[Entry]:
    """The members of an archive, which its first bytes identify as a zip or a tar.

    Raises:
        ArchiveError: Neither, damaged, or ending early (possibly raised after the last member).
    """
    name = parts[0].name
    with ExitStack() as stack:
        joined = stack.enter_context(Joined(parts))
        stream = stack.enter_context(io.BufferedReader(joined, 1 << 18))
        start = stream.read(6)
        stream.seek(0)
        if not start:
            raise ArchiveError(f"{name}: empty", damaged=parts)
        if start[:2] == b"PK":
            yield from _zip_entries(stream, joined, name)
            return
        opened: IO[bytes] = stream
        if start[:2] == b"\x1f\x8b":
            opened = stack.enter_context(gzip.open(stream))  # type: ignore[arg-type]
        elif start[:3] == b"BZh":
            opened = stack.enter_context(bz2.BZ2File(stream))
        elif start == b"\xfd7zXZ\x00":
            opened = stack.enter_context(lzma.LZMAFile(stream))
        yield from _tar_entries(opened, name, tuple(parts))


def _tar_entries(stream: IO[bytes], name: str, parts: tuple[Path, ...]) -> Iterator[Entry]:
    bounded = _Bounded(stream, name)
    try:
        with tarfile.TarFile(fileobj=bounded, mode="r") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # a bomb of members would fill this list
                yield Entry(
                    member.name,
                    _tar_kind(member),
                    member.size,
                    lambda member=member: _content(tar, member),  # type: ignore[misc]
                    parts,
                )
            if not bounded.at_marker:  # `tarfile` takes a damaged header for the end
                raise ArchiveError(f"{name}: ends without its end marker: cut or damaged", damaged=parts)
        while stream.read(1 << 18):  # the compressor's checksum stands at the very end
            pass
    except ArchiveError:
        raise
    except ERRORS as error:
        raise ArchiveError(f"{name}: cannot be read ({error})", damaged=parts) from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:  # only for kinds that are refused before
        raise tarfile.ReadError(f"{member.name!r} has no content")
    return content


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issparse():
        return "a sparse file"
    if member.isreg() or member.isdir():
        return "file" if member.isreg() else "folder"
    if member.issym() or member.islnk():
        return f"a {'symbolic' if member.issym() else 'hard'} link to {member.linkname!r}"
    if member.ischr() or member.isblk() or member.isfifo():
        return "a pipe" if member.isfifo() else "a device"
    return f"of unknown type {member.type!r}"


def _zip_entries(stream: IO[bytes], joined: Joined, name: str) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(stream)
        members = archive.infolist()
    except ERRORS as error:
        raise ArchiveError(f"{name}: cannot be read ({error})", damaged=joined.paths) from error
    with archive:
        _refuse_overlaps(members, name)
        for info in members:
            first = info.header_offset
            yield Entry(
                _zip_name(info),
                _zip_kind(info),
                info.file_size,
                lambda info=info: archive.open(info),  # type: ignore[misc]
                joined.holding(first, first + info.compress_size + 30),
            )


def _refuse_overlaps(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Refuse members that share bytes of the archive, by which a few kB become many GB."""
    end, before = 0, ""
    for info in sorted(members, key=lambda member: member.header_offset):
        if info.header_offset < end:
            raise ArchiveError(f"{name}: refusing member {info.filename!r}: it overlaps {before!r}")
        end, before = info.header_offset + 30 + info.compress_size, info.filename


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The whole name, which `zipfile` cuts at NUL; without the Unicode flag, it is UTF-8 in practice."""
    name: str = info.orig_filename
    if info.flag_bits & 0x800:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 0x1:
        return "encrypted"
    mode = info.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and stat.S_IFMT(mode):
        return "a symbolic link" if stat.S_ISLNK(mode) else "a device or a pipe"
    return "folder" if info.filename.endswith("/") else "file"
