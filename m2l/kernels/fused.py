"""Passes over feature maps for which torch needs several calls, each compiled into one loop.

Maps lie frame by frame and channels last, so an array is a run of rows of C values each. The loops work on a period of
several rows, because a compiler vectorizes a long inner loop better than one over few channels. Sums of a pass are made
in chunks of a fixed size, so that the number of threads does not change a bit of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2l.kernels.elements import FLAGS, Array, as_array, chunk_of, in_threads, narrow, widen
from m2l.kernels.jit import jit

#: Precisions the loops exist for.
DTYPES = (torch.float32, torch.bfloat16)
#: Values of an inner loop, at least.
_PERIOD = 256


@jit(inline="always", fastmath=FLAGS, error_model="numpy")
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


@jit(fastmath=FLAGS, error_model="numpy")
def _normalize(x: Array, gain: Array, offset: Array, activate: bool, out: Array) -> None:
    """out = x gain + offset, with SiLU behind it if asked; gain and offset have one period."""
    for at in range(0, len(x), len(gain)):
        row, made = x[at : at + len(gain)], out[at : at + len(gain)]
        if activate:
            for i in range(len(row)):
                made[i] = narrow(_silu(widen(row[i]) * gain[i] + offset[i]), out)
        else:
            for i in range(len(row)):
                made[i] = narrow(widen(row[i]) * gain[i] + offset[i], out)


@jit(fastmath=FLAGS, error_model="numpy")
def _add(x: Array, y: Array, scale: np.float32, out: Array) -> None:
    """out = (x + y) scale."""
    for i in range(len(out)):
        out[i] = narrow((widen(x[i]) + widen(y[i])) * scale, out)


@jit(fastmath=FLAGS, error_model="numpy")
def _add_two(x: Array, y: Array, z: Array, scale: np.float32, out: Array) -> None:
    """out = (x + y + z) scale."""
    for i in range(len(out)):
        out[i] = narrow((widen(x[i]) + widen(y[i]) + widen(z[i])) * scale, out)


@jit(fastmath=FLAGS, error_model="numpy")
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
        origin[i] = widen(first[i])
    for at in range(0, len(x), period):
        row = x[at : at + period]
        for i in range(len(row)):
            value = widen(row[i]) - origin[i]
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
    flat, into = as_array(x), as_array(out)
    in_threads(lambda part: _normalize(flat[part], a, b, activate, into[part]), flat.size, len(a))


def add(x: Tensor, *others: Tensor, scale: float, out: Tensor) -> None:
    """out = (x + the one or two others) scale, for contiguous maps of one shape and one of `DTYPES`."""
    arrays, into = [as_array(each) for each in (x, *others)], as_array(out)
    loop: Callable[..., None] = _add if len(others) == 1 else _add_two
    factor = np.float32(scale)
    in_threads(lambda part: loop(*(array[part] for array in arrays), factor, into[part]), into.size)


def sums(x: Tensor) -> Tensor:
    """(2, C) float64: sums of x and of x^2 over the rows of (rows, C), contiguous, of one of `DTYPES`."""
    flat, channels = as_array(x), x.shape[-1]
    period = _period(channels)
    chunk = chunk_of(period)
    parts = np.zeros((-(-flat.size // chunk), 2, period))

    def gather(part: slice) -> None:
        for at in range(part.start, part.stop, chunk):
            _sums(flat[at : min(part.stop, at + chunk)], parts[at // chunk])

    in_threads(gather, flat.size, period)
    return torch.from_numpy(parts.sum(axis=0).reshape(2, -1, channels).sum(axis=1))


def _period(channels: int) -> int:
    return channels * -(-_PERIOD // channels)


def _periodic(values: Tensor) -> Array:
    return np.tile(values.numpy(), _period(len(values)) // len(values))
