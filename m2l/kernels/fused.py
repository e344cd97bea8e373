"""Passes over feature maps for which torch needs several calls, each compiled into one loop.

Maps lie frame by frame and channels last, so an array is a run of rows of C values each. The loops work on a period of
several rows, because a compiler vectorizes a long inner loop better than one over few channels. Sums of a pass are made
in chunks of a fixed size, so that the number of threads does not change a bit of them. bfloat16 is read and written as
uint16, and computed in float32.
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

from m2l.kernels.jit import jit

#: Precisions the loops exist for.
DTYPES = (torch.float32, torch.bfloat16)
#: Values of an inner loop, at least, and of the chunk that a thread takes at once.
_PERIOD, _CHUNK = 256, 1 << 16
#: Divisions by multiplication with a reciprocal and sums in another order would change results between processors.
_FLAGS = {"contract", "nsz"}

Array = npt.NDArray[Any]


def _widen(value: Any) -> Any: ...
def _narrow(value: Any, like: Any) -> Any: ...


@overload(_widen, inline="always", strict=False)
def _widened(value: Any) -> Any:
    """The float32 of an element, which is float32 or the bits of a bfloat16."""
    if isinstance(value, types.Integer):
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


@overload(_narrow, inline="always", strict=False)
def _narrowed(value: Any, like: Any) -> Any:
    """A float32 as an element of `like`; a bfloat16 is rounded to the nearest, ties to even."""
    if isinstance(like.dtype, types.Integer):

        def narrow(value: Any, like: Any) -> Any:
            bits = np.float32(value).view(np.uint32)
            odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            return np.uint16(np.uint32(bits + np.uint32(np.uint32(0x7FFF) + odd)) >> np.uint32(16))

        return narrow
    return lambda value, like: value


@jit(inline="always", fastmath=_FLAGS, error_model="numpy")
def _silu(x: Any) -> Any:
    """x / (1 + exp(-x)) to a relative error of 5e-7 (4e-6 at -80, where float32 holds the exponent no better).

    exp(-x) = 2^k 2^f with whole k and |f| <= 1/2: k goes into the exponent's bits, and 2^f is the first terms of its
    series around 0 with coefficients ln(2)^n / n!. Adding and subtracting 1.5 * 2^23 rounds to whole numbers.
    """
    power = x * np.float32(-1.4426950408889634)
    power = power if power < np.float32(126.0) else np.float32(126.0)
    power = power if power > np.float32(-126.0) else np.float32(-126.0)
    whole = np.float32(power + np.float32(12582912.0)) - np.float32(12582912.0)
    rest = power - whole
    series = np.float32(1.5403530393381610e-4)
    series = series * rest + np.float32(1.3333558146428443e-3)
    series = series * rest + np.float32(9.6181291076284772e-3)
    series = series * rest + np.float32(5.5504108664821580e-2)
    series = series * rest + np.float32(2.4022650695910072e-1)
    series = series * rest + np.float32(6.9314718055994531e-1)
    series = series * rest + np.float32(1.0)
    scale = np.int32(np.int32(np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return x / (np.float32(1.0) + series * scale)


# Slices of the arrays, because an index that might be negative keeps the compiler from vectorizing.


@jit(fastmath=_FLAGS, error_model="numpy")
def _normalize(x: Array, gain: Array, offset: Array, activate: bool, out: Array) -> None:
    """out = x gain + offset, with SiLU behind it if asked; gain and offset have one period."""
    for at in range(0, len(x), len(gain)):
        row, made = x[at : at + len(gain)], out[at : at + len(gain)]
        if activate:
            for i in range(len(row)):
                made[i] = _narrow(_silu(_widen(row[i]) * gain[i] + offset[i]), out)
        else:
            for i in range(len(row)):
                made[i] = _narrow(_widen(row[i]) * gain[i] + offset[i], out)


@jit(fastmath=_FLAGS, error_model="numpy")
def _add(x: Array, y: Array, scale: np.float32, out: Array) -> None:
    """out = (x + y) scale."""
    for i in range(len(out)):
        out[i] = _narrow((_widen(x[i]) + _widen(y[i])) * scale, out)


@jit(fastmath=_FLAGS, error_model="numpy")
def _add_two(x: Array, y: Array, z: Array, scale: np.float32, out: Array) -> None:
    """out = (x + y + z) scale."""
    for i in range(len(out)):
        out[i] = _narrow((_widen(x[i]) + _widen(y[i]) + _widen(z[i])) * scale, out)


@jit(fastmath=_FLAGS, error_model="numpy")
def _sums(x: Array, sums: Array) -> None:
    """Sums of x and of x^2 per place in the period, into float64 (2, period).

    What is summed in float32 is the distance from the first values, so a mean far from 0 costs no precision.
    """
    period = sums.shape[1]
    origin = np.zeros(period, np.float32)
    total = np.zeros(period, np.float32)
    square = np.zeros(period, np.float32)
    first = x[:period]
    for i in range(len(first)):
        origin[i] = _widen(first[i])
    for at in range(0, len(x), period):
        row = x[at : at + period]
        for i in range(len(row)):
            value = _widen(row[i]) - origin[i]
            total[i] += value
            square[i] += value * value
    for i in range(period):
        n = float((len(x) - i + period - 1) // period)
        o, t, q = float(origin[i]), float(total[i]), float(square[i])
        sums[0, i] = n * o + t
        sums[1, i] = q + 2 * o * t + n * o * o


def normalize(x: Tensor, gain: Tensor, offset: Tensor, activate: bool, out: Tensor) -> None:
    """out = x gain + offset, then SiLU if asked.

    Args:
        x: (rows, C), contiguous, of one of `DTYPES`.
        gain, offset: (C,) float32.
        activate: whether SiLU follows.
        out: like `x`.
    """
    a, b = (_periodic(values) for values in (gain, offset))
    flat, into = _flat(x), _flat(out)
    _in_threads(lambda part: _normalize(flat[part], a, b, activate, into[part]), flat.size, len(a))


def add(x: Tensor, *others: Tensor, scale: float, out: Tensor) -> None:
    """out = (x + the one or two others) scale, for contiguous maps of one shape and one of `DTYPES`."""
    arrays, into = [_flat(each) for each in (x, *others)], _flat(out)
    loop: Callable[..., None] = _add if len(others) == 1 else _add_two
    factor = np.float32(scale)
    _in_threads(lambda part: loop(*(array[part] for array in arrays), factor, into[part]), into.size, 1)


def sums(x: Tensor) -> Tensor:
    """(2, C) float64: sums of x and of x^2 over the rows of (rows, C), contiguous, of one of `DTYPES`."""
    flat, channels = _flat(x), x.shape[-1]
    period = _period(channels)
    chunk = _chunk(period)
    parts = np.zeros((-(-flat.size // chunk), 2, period))

    def gather(part: slice) -> None:
        for at in range(part.start, part.stop, chunk):
            _sums(flat[at : min(part.stop, at + chunk)], parts[at // chunk])

    _in_threads(gather, flat.size, period)
    return torch.from_numpy(parts.sum(axis=0).reshape(2, -1, channels).sum(axis=1))


def _flat(x: Tensor) -> Array:
    """A contiguous tensor's memory as a 1-D array; bfloat16 as uint16."""
    flat = x.detach().view(-1)
    return flat.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else flat.numpy()


def _period(channels: int) -> int:
    return channels * -(-_PERIOD // channels)


def _chunk(period: int) -> int:
    return period * -(-_CHUNK // period)


def _periodic(values: Tensor) -> Array:
    return np.tile(values.numpy(), _period(len(values)) // len(values))


def _in_threads(run: Callable[[slice], None], size: int, period: int) -> None:
    """`run` of slices of [0, size) on as many threads as torch uses, in stretches of whole chunks."""
    chunk = _chunk(period)
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
