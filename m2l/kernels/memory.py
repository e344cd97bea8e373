"""Memory for large feature maps that is reused instead of returned to the system after each layer."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np


class Pool:
    """Buffers of maps that are no longer used, for the next maps of the same size.

    The kernel zeroes fresh memory page by page first, which takes as long as writing the map. Up to `KEEP_BYTES` of
    what one `lending` block used are kept for the next, since clips tend to be of one length. They are freed together
    with the pool, so each model has its own.
    """

    KEEP_BYTES = 1 << 30

    def __init__(self) -> None:
        self.used: set[int] = set()
        self.free: dict[int, list[np.ndarray]] = {}
        self.lock = threading.Lock()
        self.depth = 0
        _pools.add(self)

    def take(self, size: int) -> np.ndarray:
        """`size` bytes, which return to the pool when the last tensor on them is gone."""
        with self.lock:
            self.used.add(size)
            waiting = self.free.get(size)
            memory = waiting.pop() if waiting else np.empty(size, np.uint8)
        view = memory[:]
        weakref.finalize(view, self._give_back, memory).atexit = False
        return view

    def _give_back(self, memory: np.ndarray) -> None:
        with self.lock:
            if self.depth:
                self.free.setdefault(memory.nbytes, []).append(memory)

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Inside the block, `fresh` takes memory from this pool."""
        with self.lock:
            self.depth += 1
        token = _lender.set(self)
        try:
            yield
        finally:
            _lender.reset(token)
            self._trim()

    def _trim(self) -> None:
        """At the end of the outermost block, keep only sizes that it used, up to `KEEP_BYTES`."""
        with self.lock:
            self.depth = max(0, self.depth - 1)  # zero already in a process forked inside the block
            if self.depth:
                return
            kept, room = {}, self.KEEP_BYTES
            for size in self.used & self.free.keys():
                kept[size] = self.free[size][: room // size]
                room -= size * len(kept[size])
            self.free, self.used = kept, set()

    # A copied or unpickled model starts with a pool of its own.
    def __deepcopy__(self, memo: Any) -> Pool:
        return Pool()

    def __reduce__(self) -> tuple[type[Pool], tuple[()]]:
        return Pool, ()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_lender: ContextVar[Pool | None] = ContextVar("m2l_lender", default=None)


def fresh(size: int) -> np.ndarray:
    """`size` uninitialized bytes, from the pool that is lending in this context if there is one."""
    pool = _lender.get()
    # numpy asks the kernel for huge pages where torch does not: one page fault per 2 MB instead of 4 kB.
    return np.empty(size, np.uint8) if pool is None else pool.take(size)


def _reset_after_fork() -> None:
    # A thread of the parent that does not exist here may have held a lock.
    for pool in list(_pools):
        pool.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
