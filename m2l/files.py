"""Files that are either whole or absent: written beside their target, renamed when complete."""

from __future__ import annotations

import os
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, in the target's folder; it takes the target's name when the block ends well.

    If the block raises (a full disk, Ctrl-C), the partial file is removed and the target stays as it was.
    What a killed process leaves behind is removed by the next write of the same target on the same machine.
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
    # A name of fixed length, since the target's own may already be as long as the file system allows.
    tag = zlib.crc32(os.fsencode(f"{socket.gethostname()}/{target.name}"))
    partial = target.parent / f".m2l-{tag:08x}-{os.getpid()}-{threading.get_native_id()}.part"
    _remove_leftovers(target.parent, f".m2l-{tag:08x}-")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """`Path.write_bytes` through `written_beside`.

    Raises:
        OSError: naming the target.
    """
    with written_beside(path) as partial:
        partial.write_bytes(content)


def _remove_leftovers(folder: Path, prefix: str) -> None:
    with suppress(OSError):
        for name in os.listdir(folder):
            if (
                name.startswith(prefix)
                and name.endswith(".part")
                and not _is_running(name[len(prefix) : -5].partition("-")[0])
            ):
                with suppress(OSError):
                    os.unlink(folder / name)


def _is_running(pid: str) -> bool:
    try:
        if int(pid) == os.getpid():
            return True
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):  # someone else's process, or no name of ours: leave it alone
        return True
    return True


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
            raise InUseError(
                f"{folder} is being written to by another process ({file.read().strip()})"
            ) from None
        except OSError:  # a network file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
