"""Checksums of files."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path


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

    Raises:
        OSError: the file cannot be read.
    """
    real = Path(path).resolve()
    # The model hub's cache names large files by the sha256 that it verified when it downloaded them.
    if len(real.name) == 64 and real.parent.name == "blobs" and set(real.name) <= set("0123456789abcdef"):
        return real.name
    status = real.stat()
    return _remembered(real, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8192)
def _remembered(path: Path, size: int, mtime_ns: int) -> str:
    return file_sha256(path)
