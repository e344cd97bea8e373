"""Processes that end with the ones that started them: SIGTERM as Ctrl-C, workers without a parent, programs of others.

A run can be stopped by Ctrl-C, by a scheduler's SIGTERM or by SIGKILL. The first two are handled alike
(`interrupt_on_sigterm`). The last leaves no chance to clean up, so a worker checks whether its parent still
exists (`end_with_parent`), and programs and temporary folders are reported to a small process that outlives ours
by a moment (`Guard`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: Seconds between two looks at the parent.
_INTERVAL = 0.5
#: Seconds that the guard may take to start.
_START_SECONDS = 30

#: What the guard runs: a line names a process group or a folder, or says that it is gone. At the end of the input,
#: which is the end of its owner, everything that is left is ended and removed. It leaves its owner's family first: who
#: ends a worker with all its descendants must not end the guard.
_GUARD = """
import json, os, shutil, signal, sys
if os.fork():
    os._exit(0)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
kept = {}
for line in sys.stdin.buffer:
    kind, value, here = json.loads(line)
    if here:
        kept[(kind, value)] = None
    else:
        kept.pop((kind, value), None)
for kind, value in kept:
    try:
        if kind == "group":
            os.killpg(value, signal.SIGKILL)
    except OSError:
        pass
for kind, value in kept:
    if kind == "folder":
        shutil.rmtree(value, ignore_errors=True)
"""


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside the block, so that a polite kill cleans up as Ctrl-C does.

    Only a process's main thread may set handlers; in another one this does nothing.
    """

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


_watched: set[int] = set()


def end_with_parent(parent: int) -> None:
    """End this process when `parent`, which started it, is gone. Further calls do nothing.

    The process ends at once, as by SIGKILL, within a second of its parent; only the `Guard` cleans up after it.

    Args:
        parent: its process id, as the parent itself knows it.
    """
    if parent in _watched or parent == os.getpid():
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, name="m2l-parent", daemon=True).start()


class Guard:
    """A process that outlives this one by a moment, to end the programs and remove the folders it left.

    It is started at the first use and costs nothing after that.
    """

    def __init__(self) -> None:
        self._pipe: IO[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def _tell(self, kind: str, value: int | str, here: bool) -> None:
        line = json.dumps([kind, value, here]).encode() + b"\n"
        # Without a guard there is one safety less, and no error.
        with self._lock, contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self._pipe is None or self._owner != os.getpid():
                self._start()
            assert self._pipe is not None
            self._pipe.write(line)

    def _start(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _GUARD]
        # A session of its own: a signal to our group must not end it.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0, start_new_session=True
        )
        try:
            process.wait(_START_SECONDS)  # for the fork
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.stdin is not None
        # A guard that somebody stopped must not stop us when its pipe is full.
        os.set_blocking(process.stdin.fileno(), False)
        self._pipe, self._owner = process.stdin, os.getpid()

    def reset_after_fork(self) -> None:
        """In a forked process: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def group(self, leader: int) -> Iterator[None]:
        """The process group of `leader` ends with this process, if that comes first."""
        self._tell("group", leader, True)
        try:
            yield
        finally:
            self._tell("group", leader, False)

    @contextlib.contextmanager
    def temporary_folder(self, prefix: str) -> Iterator[Path]:
        """A new temporary folder, removed at the end of the block or of this process."""
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            self._tell("folder", folder, True)
            try:
                yield Path(folder)
            finally:
                self._tell("folder", folder, False)


#: The one of this process.
GUARD = Guard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=GUARD.reset_after_fork)
