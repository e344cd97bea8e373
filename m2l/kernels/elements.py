"""What the compiled passes have in common: elements in float32 or bfloat16, memory as flat arrays, threads.

bfloat16 is read and written as uint16 and computed in float32. Numba's cache notices an edit of the file that a kernel
is in, not one of these functions: after an edit here, touch the files of the kernels.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

#: Divisions by multiplication with a reciprocal and sums in another order would change results between processors.
FLAGS = {"contract", "nsz"}
#: Values of a chunk, at least: what a thread takes at once.
_CHUNK = 1 << 16

Array = npt.NDArray[Any]


def widen(value: Any) -> Any: ...
def narrow(value: Any, like: Any) -> Any: ...


@overload(widen, inline="always", strict=False)
def _widened(value: Any) -> Any:
    """The float32 of an element, which is float32 or the bits of a bfloat16."""
    if isinstance(value, types.Integer):
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


@overload(narrow, inline="always", strict=False)
def _narrowed(value: Any, like: Any) -> Any:
    """A float32 as an element of `like`; a bfloat16 is rounded to the nearest, ties to even."""
    if isinstance(like.dtype, types.Integer):

        def narrow(value: Any, like: Any) -> Any:
            bits = np.float32(value).view(np.uint32)
            odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            return np.uint16(np.uint32(bits + np.uint32(np.uint32(0x7FFF) + odd)) >> np.uint32(16))

        return narrow
    return lambda value, like: value


def as_array(x: Tensor) -> Array:
    """A contiguous tensor's memory as a 1-D array; bfloat16 as uint16."""
    flat = x.detach().view(-1)
    return flat.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else flat.numpy()


def chunk_of(period: int) -> int:
    """Values of a chunk of whole periods."""
    return period * -(-_CHUNK // period)


def in_threads(run: Callable[[slice], None], size: int, period: int = 1) -> None:
    """`run` of slices of [0, size) on as many threads as torch uses, in stretches of whole chunks."""
    chunk = chunk_of(period)
    chunks, threads = -(-size // chunk), torch.get_num_threads()
    if min(chunks, threads) <= 1:
        return run(slice(0, size))
    bounds = [min(size, chunk * (chunks * i // threads)) for i in range(threads + 1)]
    jobs = [_threads(os.getpid(), threads).submit(run, slice(*pair)) for pair in itertools.pairwise(bounds)]
    for job in jobs:
        job.result()
    return None


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """The threads of this process: those of a parent do not exist in a forked child."""
    return ThreadPoolExecutor(count, thread_name_prefix=f"m2l-{process}")
