"""Writing files so that they are either whole or absent: beside their target, and renamed when complete."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_names = count()


@contextmanager
def written_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, in the target's folder; it takes the target's name when the block ends well.

    If the block raises (a full disk, Ctrl-C), the partial file is removed and the target stays as it was.
    What killed processes of this machine left behind is removed by the next write into the folder.
    A symlink is followed: the file it points to is replaced, not the link.

    Args:
        path: the target. Its folder must exist.

    Yields:
        The path of the partial file. It does not exist yet, and must when the block ends.

    Raises:
        OSError: naming the target: its folder is missing or not writable, it is a folder, the disk is full.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: no folder {target.parent}")
    remove_leftovers(target.parent)
    with partial_file(target.parent) as partial:
        try:
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, target)
        except OSError as error:
            raise type(error)(error.errno, f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def partial_file(folder: Path) -> Iterator[Path]:
    """The path of a new file in `folder` that is removed when the block ends, or later if the process is killed."""
    # The names of targets may already be as long as the file system allows.
    pid = os.getpid()
    path = folder / f"{_prefix()}{pid}-{_started(pid)}-{next(_names)}.part"
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove from `folder` the partial files that processes of this machine left behind when they were killed."""
    prefix = _prefix()
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(prefix) and name.endswith(".part") and not _is_running(name[len(prefix) : -5]):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def write_atomic(path: str | os.PathLike[str], content: bytes | str, *, parents: bool = True) -> None:
    """Write a whole file through `written_beside`, and make its new name durable.

    Args:
        path: the target.
        content: bytes, or text that is written as UTF-8.
        parents: create missing folders.

    Raises:
        OSError: naming the target.
    """
    if parents:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    _sync_folder(Path(path).parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, on file systems that can sync a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _prefix() -> str:
    return f".m2l-{zlib.crc32(os.fsencode(socket.gethostname())):08x}-"


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did: containers use the same few ids again and again."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):  # no such process, or no such system
        return "0"


def _is_running(mark: str) -> bool:
    pid, _, rest = mark.partition("-")
    started = rest.partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # someone else's process
    except (OSError, ValueError, OverflowError):  # no name of ours: leave it alone
        return True
    now = _started(int(pid))
    return now == started or "0" in (now, started)


class InUseError(OSError):
    """A folder that another process is writing to."""


@contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold `folder` as its only writer; the lock ends with the process, however it ends.

    Where the system or the file system has no such locks, nothing is locked.

    Raises:
        InUseError: another process holds it; the message names its process id and host.
        OSError: the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    with open(Path(folder) / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InUseError(f"{folder} is being written to by another process ({file.read().strip()})") from None
        except OSError:  # a network file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
