"""Inputs that are no regular files: pipes are read to their end first, everything else is refused."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2l.cli.errors import MissingError, message_of
from m2l.io.atomic import partial_file

#: Seconds that a named pipe may have no writer.
PATIENCE = 10.0

_KINDS = ((stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device or terminal"), (stat.S_ISBLK, "a disk"))


def check_input(text: str) -> Path:
    """The path of an input that is a file, a folder or a pipe.

    Raises:
        MissingError: if it does not exist, cannot be reached, or is a device or socket.
    """
    try:
        mode = os.stat(text).st_mode
    except FileNotFoundError:
        raise MissingError(f"no such file or folder: {text}") from None
    except (OSError, ValueError) as error:
        raise MissingError(message_of(error)) from error
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise MissingError(f"{text} is {name}; give a file, a folder or a pipe")
    return Path(text)


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a pipe, such as `/dev/stdin` behind `|` or what the shell makes of `<(command)`."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def as_file(source: Path, folder: Path) -> Iterator[Path]:
    """`source` itself, or for a pipe a file with all that came out of it, in `folder` until the block ends.

    Audio is looked at from both ends and decoding reads parts in any order, which a pipe does not let one do.

    Raises:
        OSError: the disk is full, or no program writes to the pipe.
    """
    if not is_pipe(source):
        yield source
        return
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", os.fspath(folder))
    with partial_file(folder) as path:
        _drain(source, path)
        yield path


def _drain(source: Path, target: Path) -> None:
    # Without O_NONBLOCK, opening a pipe that no one writes to would wait for ever.
    pipe = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with open(target, "wb") as file:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            deadline = time.monotonic() + PATIENCE
            while True:
                ready = poll.poll(100)
                try:
                    block = os.read(pipe, 2**20)
                except BlockingIOError:  # there is a writer, and it has not come to it yet
                    continue
                if block:
                    file.write(block)
                elif ready or file.tell():
                    return
                elif time.monotonic() > deadline:
                    raise OSError(errno.EPIPE, f"no program writes to this pipe (waited {PATIENCE:g} s)")
    finally:
        os.close(pipe)
