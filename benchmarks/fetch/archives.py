"""Unpacking archives from untrusted sources: completely and below one folder, or not at all.

Each member's name and kind are checked before a byte of it is written, into a staging folder; only a complete
archive is moved to its destination. This is stricter than the data filter of `tarfile`, which strips a leading
slash and allows links inside the folder: data sets consist of plain files with plain names, so anything else is
damage or an attack, and refuses the whole archive.

Refused are names that are absolute, climb (`..`), contain NUL, control characters, backslashes or drive letters,
are too long or not Unicode; names that occur twice, differ only in case or accent encoding, or are both a file
and a folder; links, devices, pipes, sparse and encrypted members; overlapping or oversized members, too many
members, or more output than the archive's size allows; archives that end early or fail their own checksums.
Nested archives are ordinary files and are never opened. Modes, owners and times are dropped: files get 0644.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from benchmarks.datasets.records import Member
from benchmarks.fetch.archive_readers import ERRORS, ArchiveError, Entry, entries_of

_BLOCK = 1 << 20
_LONGEST_NAME, _LONGEST_PATH = 255, 1024  # bytes; what common file systems take
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        members: Largest number of files and folders.
        ratio: Largest output per byte of archive. Recordings stay below 10, zip bombs begin at about 1,000.
        floor: Output in bytes that is always allowed, whatever the ratio.
        bytes: Output in bytes that is never exceeded.
    """

    members: int = 2_000_000
    ratio: float = 100.0
    floor: int = 16 << 20
    bytes: int = 1 << 41


def safe_name(name: str, archive: str = "archive") -> str:
    """Path of a member relative to the destination, without `.` parts; "" for the root itself.

    Raises:
        ArchiveError: The name could leave the folder, or means different files on different systems.
    """

    def refuse(reason: str) -> ArchiveError:
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        return ArchiveError(f"{archive}: refusing member {shown!r}: {reason}")

    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise refuse("NUL or control characters in its name")
    if "\\" in name:
        raise refuse("a backslash in its name")
    if name.startswith("/") or _DRIVE.match(name):
        raise refuse("an absolute path")
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse("its name is not Unicode") from None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refuse("a path that climbs out of the folder")
    if len(encoded) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise refuse(f"a name of {len(encoded)} bytes")
    return "/".join(parts)


@dataclass
class _Names:
    """Names seen so far, so that no member lands on another one."""

    archive: str
    files: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def add(self, path: str, is_file: bool) -> None:
        key = unicodedata.normalize("NFC", path).casefold()
        parents = [str(parent) for parent in PurePosixPath(key).parents][:-1]
        clash = next((p for p in parents if p in self.files), None)
        if clash is not None or (is_file and key in self.folders) or (not is_file and key in self.files):
            raise ArchiveError(f"{self.archive}: refusing member {path!r}: both a file and a folder")
        self.folders.update(parents)
        if not is_file:
            self.folders.add(key)
        elif key in self.files:
            other = self.files[key]
            how = "occurs twice" if other == path else f"differs from {other!r} only in case or accents"
            raise ArchiveError(f"{self.archive}: refusing member {path!r}: {how}")
        else:
            self.files[key] = path


def unpack(
    archive: Path | Sequence[Path],
    dest: Path,
    *,
    keep: Callable[[str], str | None] | None = None,
    limits: Limits | None = None,
    staging: Path | None = None,
) -> list[Member]:
    """Unpack an archive below a folder; existing files of the same names are replaced.

    Args:
        archive: A tar (plain, gzip, bzip2, xz) or a zip, identified by its first bytes; several files are read as
            the consecutive parts of one.
        dest: Folder below which everything lands.
        keep: Maps a member's path to its destination, relative to `dest`, or to None to leave it out. By default
            paths are kept.
        limits: Bounds on the output.
        staging: Folder to unpack into first, on the same file system; removed afterward.

    Returns:
        The files, in the order of the archive.

    Raises:
        ArchiveError: Refused or damaged; `dest` is unchanged.
        OSError: No space, no permission.
    """
    parts = [archive] if isinstance(archive, Path) else list(archive)
    name = parts[0].name
    rules = limits or Limits()
    size = sum(part.stat().st_size for part in parts)
    allowed = min(rules.bytes, max(rules.floor, int(rules.ratio * size)))
    folder = staging or dest.with_name(f".{dest.name}.unpacking")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names, placed = _Names(name), _Names(name)
    members: list[Member] = []
    try:
        for number, entry in enumerate(entries_of(parts)):
            # Judge the member before anything of it is written.
            if number >= rules.members:
                raise ArchiveError(f"{name}: more than {rules.members} members")
            path = safe_name(entry.name, name)
            if entry.kind not in ("file", "folder"):
                raise ArchiveError(f"{name}: refusing member {entry.name!r}: it is {entry.kind}")
            if not path:
                if entry.kind == "file":
                    raise ArchiveError(f"{name}: refusing a member without a name")
                continue
            names.add(path, entry.kind == "file")
            if entry.kind == "folder":
                continue
            if entry.size > allowed:
                raise ArchiveError(f"{name}: refusing member {path!r}: too many bytes of output")
            # Write it into the staging folder.
            target = keep(path) if keep else path
            if target is None:
                continue
            target = safe_name(target, name)
            placed.add(target, True)
            members.append(_write(entry, folder, target, name, allowed))
            allowed -= members[-1].size
        place(folder, dest, [member.path for member in members])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return members


def _write(entry: Entry, folder: Path, relative: str, archive: str, allowed: int) -> Member:
    """Write one member to a new file. What counts is the size that was read, not that of the header."""
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o644)
    with os.fdopen(handle, "wb") as file:
        for block in _blocks(entry, archive):
            size += len(block)
            if size > allowed:
                raise ArchiveError(f"{archive}: refusing member {relative!r}: too many bytes of output")
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if size != entry.size:
        raise ArchiveError(f"{archive}: member {relative!r} has {size} bytes, its header says {entry.size}")
    return Member(relative, size, digest.hexdigest())


def _blocks(entry: Entry, archive: str) -> Iterator[bytes]:
    """The content of a member; an error here is one of reading it, never of writing it elsewhere."""
    try:
        with entry.open() as source:
            while block := source.read(_BLOCK):
                yield block
    except ERRORS as error:
        message = f"{archive}: member {entry.name!r} is damaged ({error})"
        raise ArchiveError(message, damaged=entry.parts) from error


def place(source: Path, dest: Path, paths: Sequence[str]) -> None:
    """Move complete files from one folder into another, one rename each.

    Raises:
        ArchiveError: A folder on the way is a link, or a folder has the name of a file, so that moving would
            write outside `dest`. Nothing has been moved then.
    """
    dest.mkdir(parents=True, exist_ok=True)
    for relative in paths:
        for parent in [*PurePosixPath(relative).parents][:-1]:
            if (dest / parent).is_symlink():
                raise ArchiveError(f"{dest / parent} is a link; nothing is unpacked through links")
            if (dest / parent).exists() and not (dest / parent).is_dir():
                raise ArchiveError(f"{dest / parent} is in the way: it is not a folder")
        if (dest / relative).is_dir() and not (dest / relative).is_symlink():
            raise ArchiveError(f"{dest / relative} is in the way: it is a folder")
    for relative in paths:
        (dest / relative).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source / relative, dest / relative)
