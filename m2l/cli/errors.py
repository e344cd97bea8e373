"""Exit codes, errors and messages of the `m2l` command.

They have a module of their own because `python -m m2l.cli` loads `m2l.cli.main` twice, once as `__main__`: classes
defined there would differ from those that the commands raise, and the exit codes would be lost.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

FINE, FAILED, USAGE, MISSING, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """Arguments that argparse accepts and that still make no sense together."""


class MissingError(Exception):
    """Data or weights that do not exist, or cannot be read."""


def say(message: object) -> None:
    """Print one message to stderr. A terminal that is gone or a full disk behind it does not end the work."""
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        mute(sys.stderr)


def fail(error: object, code: int) -> int:
    """Say what went wrong; returns `code`."""
    say(f"m2l: {message_of(error)}")
    return code


def message_of(error: object) -> str:
    """An error in words: "name: reason" for those of the operating system, without their number."""
    if isinstance(error, OSError) and error.strerror:
        return (
            error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
        )
    return str(error) or type(error).__name__


def mute(stream: TextIO) -> None:
    """Send what `stream` still holds to nowhere, so that the interpreter does not complain at its end."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
