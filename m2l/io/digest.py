"""Checksums of files."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from m2l.io.atomic import write_atomic
from m2l.io.cache import cache_dir

#: From this size on, in bytes, reading a file again costs more than looking up what it was: a tenth of a second.
_LARGE = 64 << 20


def file_digest(path: str | os.PathLike[str], algorithm: str) -> str:
    """Hex digest of a file's bytes by the name of an algorithm ("md5", "sha256").

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's bytes, always read anew.

    Raises:
        OSError: the file cannot be read.
    """
    return file_digest(path, "sha256")


def known_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file, remembered while its size and modification time stay the same.

    That of a large file is remembered in our cache, for later processes too. It is always computed from the bytes: the
    model hub's cache names its files by their sha256, but its library compares only sizes.

    Raises:
        OSError: the file cannot be read.
    """
    real = Path(path).resolve()
    status = real.stat()
    return _remembered(real, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8192)
def _remembered(path: Path, size: int, mtime_ns: int) -> str:
    if size < _LARGE:
        return file_sha256(path)
    note = cache_dir() / "digests" / hashlib.sha256(f"{path}\n{size}\n{mtime_ns}".encode()).hexdigest()
    with suppress(OSError):
        if re.fullmatch(r"[0-9a-f]{64}", found := note.read_text(encoding="utf-8", errors="replace")):
            return found
    found = file_sha256(path)
    with suppress(OSError):  # a cache that cannot be written costs time, not the result
        write_atomic(note, found)
    return found
