"""What is known of a file before it is fetched, and whether a file is the one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from m2l.io.digest import file_digest


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand.

    Attributes:
        size: In bytes.
        digest: "sha256:HEX", "md5:HEX", "sha1:HEX", or "git:HEX" for a file that is not downloaded here.
        check: Called with the complete file before it is renamed; raises ValueError to refuse it.
    """

    size: int | None = None
    digest: str | None = None
    check: Callable[[Path], None] | None = None


def mismatch(path: Path, expected: Expected) -> str | None:
    """Why a file is not the expected one, or None if it is."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"{size} bytes, expected {expected.size}"
    if expected.digest:
        algorithm, _, wanted = expected.digest.partition(":")
        actual = _git_hash(path) if algorithm == "git" else file_digest(path, algorithm)
        if actual != wanted.lower():
            return f"{algorithm} is {actual}, expected {wanted.lower()}"
    try:
        if expected.check:
            expected.check(path)
    except ValueError as error:
        return str(error)
    return None


def is_right(path: Path, expected: Expected) -> bool:
    """Whether a file exists and is the expected one."""
    return path.is_file() and mismatch(path, expected) is None


def _git_hash(path: Path) -> str:
    """The name that git gives a file's content, and the model hub its small files."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
