"""Lag of two envelopes: the first maximum of their cross-correlation, by the transforms of `visqol_fft`.

Google's C++ means to take the Hilbert envelope but keeps only the real part of the inverse FFT, which
makes it rectification: envelope = 2·|x - mean| + mean. Being exact means doing the same.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol.fft import (
    LANES,
    Axis,
    Floats,
    axis,
    factors,
    forward,
    inverse,
    planes,
    rotate,
    rotate_back,
    transpose,
)
from m2l.kernels.jit import jit


@jit(fastmath={"contract", "reassoc"})
def _mean(x: NDArray[np.float64], start: int, stop: int) -> float:
    total = 0.0
    for i in range(start, stop):
        total += x[i]
    return total / (stop - start)


@jit()
def _load_envelope(
    x: NDArray[np.float64], start: int, stop: int, mean: float, stride: int, n1: int, re: Floats, im: Floats
) -> None:
    """Sixteen columns of the envelope: re[row, lane] = envelope(x[start + row·stride + lane])."""
    for row in range(n1):
        first = start + row * stride
        n = min(max(stop - first, 0), LANES)
        source = x[first : first + n]
        target = re[row * LANES : (row + 1) * LANES]
        for lane in range(n):
            target[lane] = 2.0 * abs(source[lane] - mean) + mean
        target[n:] = 0.0
    im[:] = 0.0


@jit()
def _spectrum(
    x: NDArray[np.float64],
    start: int,
    stop: int,
    n: tuple[int, int],
    radices: tuple[NDArray[np.int64], NDArray[np.int64]],
    w: tuple[Floats, Floats, Floats, Floats],
    twiddles: tuple[Floats, Floats, Floats, Floats],
    weights: tuple[Floats, Floats, Floats, Floats],
    out_re: Floats,
    out_im: Floats,
    re: Floats,
    im: Floats,
) -> None:
    n1, n2 = n
    mean = _mean(x, start, stop)
    re, im = re[: n1 * LANES], im[: n1 * LANES]
    for block in range(n2 // LANES):
        _load_envelope(x, start + block * LANES, stop, mean, n2, n1, re, im)
        for row in range(n1):
            rotate(re, im, row, weights[0], weights[1], block, weights[2], weights[3], row)
        forward(re, im, n1, radices[0], w[0], w[1])
        for row in range(n1):
            rotate(re, im, row, twiddles[0], twiddles[1], row, twiddles[2], twiddles[3], block * n1 + row)
        for k in range(n1 // LANES):
            transpose(re, k * LANES, out_re, k * n2 + block * LANES)  # type: ignore[call-arg]
            transpose(im, k * LANES, out_im, k * n2 + block * LANES)  # type: ignore[call-arg]
    size = n2 * LANES
    for k in range(n1 // LANES):
        part_re, part_im = out_re[k * size : (k + 1) * size], out_im[k * size : (k + 1) * size]
        forward(part_re, part_im, n2, radices[1], w[2], w[3])


@jit()
def _correlate(
    a: Floats,
    b: Floats,
    n: tuple[int, int],
    radices: tuple[NDArray[np.int64], NDArray[np.int64]],
    w: tuple[Floats, Floats, Floats, Floats],
    twiddles: tuple[Floats, Floats, Floats, Floats],
    weights: tuple[Floats, Floats, Floats, Floats],
    work: Floats,
    re: Floats,
    im: Floats,
    out: Floats,
) -> None:
    """out[0, k] = correlation at lag k, out[1, k] = at lag k - N1·N2."""
    n1, n2 = n
    size = n2 * LANES
    work_re, work_im = work[0], work[1]
    part_re, part_im = re[:size], im[:size]
    for k in range(n1 // LANES):
        a_re, a_im = a[0, k * size : (k + 1) * size], a[1, k * size : (k + 1) * size]
        b_re, b_im = b[0, k * size : (k + 1) * size], b[1, k * size : (k + 1) * size]
        for i in range(size):
            part_re[i] = a_re[i] * b_re[i] + a_im[i] * b_im[i]
        for i in range(size):
            part_im[i] = a_im[i] * b_re[i] - a_re[i] * b_im[i]
        inverse(part_re, part_im, n2, radices[1], w[2], w[3])
        for block in range(n2 // LANES):
            transpose(part_re, block * LANES, work_re, block * n1 + k * LANES)  # type: ignore[call-arg]
            transpose(part_im, block * LANES, work_im, block * n1 + k * LANES)  # type: ignore[call-arg]
    size = n1 * LANES
    for block in range(n2 // LANES):
        column_re = work_re[block * size : (block + 1) * size]
        column_im = work_im[block * size : (block + 1) * size]
        for row in range(n1):
            rotate_back(
                column_re, column_im, row, twiddles[0], twiddles[1], row, twiddles[2], twiddles[3],
                block * n1 + row,
            )  # fmt: skip
        inverse(column_re, column_im, n1, radices[0], w[0], w[1])
        for row in range(n1):
            rotate_back(column_re, column_im, row, weights[0], weights[1], block, weights[2], weights[3], row)
            place = row * n2 + block * LANES
            ahead, behind = out[0, place : place + LANES], out[1, place : place + LANES]
            for lane in range(LANES):
                ahead[lane] = column_re[row * LANES + lane]
            for lane in range(LANES):
                behind[lane] = column_im[row * LANES + lane]


@dataclass(frozen=True)
class Correlator:
    """Correlates pairs of signals of up to `capacity` samples.

    Attributes:
        first: transforms of N1 points, over samples N2 apart.
        second: transforms of N2 points.
        twiddles: exp(-2πi·k·c/M) as (N1, 16) in the order of `first`, and its steps of 16 columns.
        weights: exp(-iπn/2M) as (N2 / 16, 16), and its steps of N2.
    """

    first: Axis
    second: Axis
    twiddles: tuple[Floats, Floats, Floats, Floats]
    weights: tuple[Floats, Floats, Floats, Floats]

    @property
    def capacity(self) -> int:
        return self.first.n * self.second.n

    def _tables(self) -> tuple[object, ...]:
        return (
            (self.first.n, self.second.n),
            (self.first.radices, self.second.radices),
            (self.first.re, self.first.im, self.second.re, self.second.im),
            self.twiddles,
            self.weights,
        )

    def spectrum(self, x: NDArray[np.float64], start: int, stop: int, out: Floats | None = None) -> Floats:
        """Spectrum of the envelope of x[start:stop], (2, capacity), in an order of its own.

        Args:
            x: (samples,).
            start: first sample.
            stop: one past the last sample.
            out: where to write it; a new array by default.
        """
        if out is None:
            out = np.empty((2, self.capacity), dtype=np.float32)
        re, im = _workspace("columns", 2, LANES * max(self.first.n, self.second.n))
        _spectrum(x, start, stop, *self._tables(), out[0], out[1], re, im)
        return out

    def correlation(self, target: Floats, preds: Floats, out: Floats) -> None:
        """The correlation times `capacity`: out[0, k] at lag k, out[1, k] at lag k - capacity."""
        re, im = _workspace("columns", 2, LANES * max(self.first.n, self.second.n))
        work = _workspace("product", 2, self.capacity)
        _correlate(target, preds, *self._tables(), work, re, im, out)

    def lag(self, target: Floats, preds: Floats, n: int) -> int:
        """The first maximum of the correlation over the lags -(n-1) … n-1.

        A positive lag means that `preds` is ahead of `target` and has to be delayed.

        Args:
            target: from `spectrum`.
            preds: from `spectrum`.
            n: samples of the longer of the two signals.
        """
        size = self.capacity
        out = _workspace("correlation", 2, size)
        self.correlation(target, preds, out)
        ahead, behind = out[0, :n], out[1, size - (n - 1) :]
        k = int(np.argmax(ahead))
        if n > 1:
            j = int(np.argmax(behind))
            if behind[j] >= ahead[k]:
                return j - (n - 1)
        return k

    def lag_of(self, target: Floats, preds: NDArray[np.float64], start: int, stop: int, n: int) -> int:
        """`lag` of preds[start:stop], whose spectrum is not kept."""
        spectrum = self.spectrum(preds, start, stop, _workspace("spectrum", 2, self.capacity))
        return self.lag(target, spectrum, n)


_threads = threading.local()
#: Larger buffers are not kept: 64 MiB is nearly three minutes of audio.
_KEPT = 1 << 24


def _workspace(name: str, *shape: int) -> Floats:
    """A buffer of this thread that the next call with the same name may overwrite.

    Fresh buffers of megabytes would cost more in page faults than the transforms do in arithmetic.
    """
    size = int(np.prod(shape))
    if size > _KEPT:
        return np.empty(shape, dtype=np.float32)
    buffers: dict[str, Floats] = _threads.__dict__
    if name not in buffers or buffers[name].size < size:
        buffers[name] = np.empty(size, dtype=np.float32)
    return buffers[name][:size].reshape(shape)


@lru_cache(maxsize=16)
def _lengths(largest: int) -> tuple[int, ...]:
    """Transform lengths with factors 2, 3 and 5 that fill the lanes."""
    return tuple(n for n in range(LANES, largest + 1, LANES) if factors(n) is not None)


@lru_cache(maxsize=256)
def _split(n: int) -> tuple[int, int]:
    """N1·N2 >= n with little to spare and N1 close to N2."""
    root = int(np.sqrt(n))
    lengths = _lengths(LANES * (4 * root // LANES + 2))
    pairs = [(a, b) for a in lengths if 2 * a >= min(root, 32) and a <= 2 * root + LANES
             for b in lengths[: np.searchsorted(lengths, -(-n // a)) + 1] if a * b >= n]  # fmt: skip
    return min(pairs, key=lambda p: p[0] * p[1] * (1 + 0.02 * abs(np.log2(p[0] / p[1]))))


@lru_cache(maxsize=8)
def _make(n1: int, n2: int) -> Correlator:
    first, second, m = axis(n1), axis(n2), n1 * n2
    lane, block = np.arange(LANES), np.arange(n2 // LANES)
    turn = -2j * np.pi / m
    fine = np.exp(turn * first.order[:, None] * lane)
    coarse = np.exp(turn * LANES * block[:, None] * first.order)
    half = -0.5j * np.pi / m
    inner = np.exp(half * np.arange(n2)).reshape(-1, LANES)
    outer = np.exp(half * n2 * np.arange(n1))
    flat = [planes(x.ravel()) for x in (fine, coarse, inner, outer)]
    return Correlator(first, second, (*flat[0], *flat[1]), (*flat[2], *flat[3]))


def correlator(n: int) -> Correlator:
    """The correlator for signals of up to `n` samples; the same object for the same sizes."""
    return _make(*_split(n))
