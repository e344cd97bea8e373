"""Exit codes, and errors that are the user's to correct."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

#: Fine; failed units, failed clips with --strict, or worse than the baseline.
OK, FAILED, USAGE, MISSING, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(ValueError):
    """An option with a value that makes no sense; the message names it."""


def describe_os_error(error: OSError) -> str:
    """One line without "[Errno N]": the file, and what the system says."""
    if error.strerror is None:
        return str(error)
    name = error.filename2 if error.filename2 is not None else error.filename
    return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, (str, bytes)) else error.strerror


def discard_output() -> None:
    """Send the rest of stdout nowhere, if it cannot be written: its reader is gone, or the disk is full."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)


def check_folder(option: str, path: str | Path) -> None:
    """Refuse a folder that cannot be one, before hours of work end in it.

    Raises:
        UsageError: the path, or a part of it, is a file.
    """
    place = Path(path)
    for part in (place, *place.parents):
        if part.is_dir():
            return
        if part.exists():
            raise UsageError(f"{option} {path}: {part} is a file, not a folder")
