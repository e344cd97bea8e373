"""Cross-correlation of real signals by float32 FFTs with sixteen transforms side by side in the lanes.

Library FFTs of one long signal run scalar, and their fresh buffers of some megabytes cost as much again
in page faults. Here a transform of M = N1·N2 points is N2 transforms of N1 points, a rotation, and N1
transforms of N2 points (Bailey's four steps), always sixteen together in cache; the spectrum stays in the
order in which it comes out, since a product and the way back need no other.

Two real signals of up to M samples correlate through *one* complex transform of M points each: with
z[n] = a[n]·exp(-iπn/2M) the transform gives the values of a's polynomial at roots of x^{2M} + 1, and
their products come back as c[n] + i·c[n - M] (Crandall's right-angle convolution).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchmarks.metrics.visqol.lanes import Lanes
from m2l.kernels.jit import jit

Floats = NDArray[np.float32]
LANES = 16


def _dft(v: Lanes, x: list[tuple[Any, Any]], inverse: bool) -> list[tuple[Any, Any]]:
    """Discrete Fourier transform of 2, 3, 4 or 5 complex vectors."""
    b, r = v.builder, len(x)

    def add(p: tuple[Any, Any], q: tuple[Any, Any]) -> tuple[Any, Any]:
        return b.fadd(p[0], q[0]), b.fadd(p[1], q[1])

    def subtract(p: tuple[Any, Any], q: tuple[Any, Any]) -> tuple[Any, Any]:
        return b.fsub(p[0], q[0]), b.fsub(p[1], q[1])

    def turned(p: tuple[Any, Any], q: tuple[Any, Any], sign: int) -> tuple[Any, Any]:
        """p + sign·i·q."""
        first, second = (b.fsub, b.fadd) if sign > 0 else (b.fadd, b.fsub)
        return first(p[0], q[1]), second(p[1], q[0])

    forward = 1 if inverse else -1
    if r == 2:
        return [add(*x), subtract(*x)]
    if r == 4:
        even, odd = (add(x[0], x[2]), subtract(x[0], x[2])), (add(x[1], x[3]), subtract(x[1], x[3]))
        return [
            add(even[0], odd[0]), turned(even[1], odd[1], forward),
            subtract(even[0], odd[0]), turned(even[1], odd[1], -forward),
        ]  # fmt: skip
    half = r // 2
    sums = [add(x[q], x[r - q]) for q in range(1, half + 1)]
    differences = [subtract(x[q], x[r - q]) for q in range(1, half + 1)]
    out = [x[0]] * r
    for s in sums:
        out[0] = add(out[0], s)
    for k in range(1, half + 1):
        even_part, odd_part = x[0], (v.constant(0.0), v.constant(0.0))
        for q in range(1, half + 1):
            cosine = v.constant(float(np.cos(2 * np.pi * q * k / r)))
            sine = v.constant(float(np.sin(2 * np.pi * q * k / r)))
            s, d = sums[q - 1], differences[q - 1]
            even_part = v.fused(cosine, s[0], even_part[0]), v.fused(cosine, s[1], even_part[1])
            odd_part = v.fused(sine, d[0], odd_part[0]), v.fused(sine, d[1], odd_part[1])
        out[k] = turned(even_part, odd_part, forward)
        out[r - k] = turned(even_part, odd_part, -forward)
    return out


def _complex_product(v: Lanes, x: tuple[Any, Any], w: tuple[Any, Any], conjugate: bool) -> tuple[Any, Any]:
    """x·w, or x times w's conjugate."""
    b = v.builder
    if conjugate:
        return v.fused(x[1], w[1], b.fmul(x[0], w[0])), v.fused(x[1], w[0], b.fneg(b.fmul(x[0], w[1])))
    return v.fused(x[0], w[0], b.fneg(b.fmul(x[1], w[1]))), v.fused(x[0], w[1], b.fmul(x[1], w[0]))


def _butterfly(radix: int, inverse: bool) -> Callable[..., Any]:
    """Intrinsic (re, im, tw_re, tw_im, row, step, w): one butterfly on rows `row`, `row + step`, …."""

    @intrinsic
    def butterfly(
        typing_context: Any, re: Any, im: Any, tw_re: Any, tw_im: Any, row: Any, step: Any, w: Any
    ) -> tuple[Any, Any]:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = Lanes(context, builder, ir.FloatType(), LANES)
            real, imaginary, table_re, table_im = v.arrays(signature, args, 0, 1, 2, 3)
            first, distance, twiddle = (v.index(signature, args, i) for i in (4, 5, 6))
            rows = [builder.add(first, builder.mul(distance, v.number(q))) for q in range(radix)]
            places = [builder.mul(r, v.number(LANES)) for r in rows]
            x = [(v.load(real.data, p), v.load(imaginary.data, p)) for p in places]
            factors = [builder.add(twiddle, v.number(k)) for k in range(radix - 1)]
            w = [(v.splat(table_re.data, k), v.splat(table_im.data, k)) for k in factors]
            if inverse:
                x[1:] = [_complex_product(v, a, b, True) for a, b in zip(x[1:], w, strict=True)]
            x = _dft(v, x, inverse)
            if not inverse:
                x[1:] = [_complex_product(v, a, b, False) for a, b in zip(x[1:], w, strict=True)]
            for (a, b), place in zip(x, places, strict=True):
                v.store(a, real.data, place)
                v.store(b, imaginary.data, place)
            return context.get_dummy_value()

        return types.void(re, im, tw_re, tw_im, row, step, w), generate

    return butterfly


_forward2, _forward3, _forward4, _forward5 = (_butterfly(r, False) for r in (2, 3, 4, 5))
_inverse2, _inverse3, _inverse4, _inverse5 = (_butterfly(r, True) for r in (2, 3, 4, 5))


def _rotation(conjugate: bool) -> Callable[..., Any]:
    """Intrinsic (re, im, row, t_re, t_im, t_row, s_re, s_im, k): row times (table row times scalar k)."""

    @intrinsic
    def rotate(
        typing_context: Any, re: Any, im: Any, row: Any, t_re: Any, t_im: Any, t_row: Any, s_re: Any,
        s_im: Any, k: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = Lanes(context, builder, ir.FloatType(), LANES)
            real, imaginary, table_re, table_im, scalar_re, scalar_im = v.arrays(signature, args, 0, 1, 3, 4, 6, 7)
            place, t = (builder.mul(v.index(signature, args, i), v.number(LANES)) for i in (2, 5))
            s = v.index(signature, args, 8)
            table = v.load(table_re.data, t), v.load(table_im.data, t)
            w = _complex_product(v, table, (v.splat(scalar_re.data, s), v.splat(scalar_im.data, s)), False)
            x = _complex_product(v, (v.load(real.data, place), v.load(imaginary.data, place)), w, conjugate)
            v.store(x[0], real.data, place)
            v.store(x[1], imaginary.data, place)
            return context.get_dummy_value()

        return types.void(re, im, row, t_re, t_im, t_row, s_re, s_im, k), generate

    return rotate


rotate, rotate_back = _rotation(False), _rotation(True)


@intrinsic
def transpose(typing_context: Any, x: Any, row: Any, out: Any, out_row: Any) -> tuple[Any, Any]:
    """Sixteen rows from `row` of `x`, transposed, to sixteen rows from `out_row` of `out`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Lanes(context, builder, ir.FloatType(), LANES)
        source, target = v.arrays(signature, args, 0, 2)
        first, to = (builder.mul(v.index(signature, args, i), v.number(LANES)) for i in (1, 3))
        rows = [v.load(source.data, builder.add(first, v.number(i * LANES))) for i in range(LANES)]
        # Zipping both halves turns the eight bits of (row, column) by one; four turns swap them.
        for _ in range(4):
            rows = [z for i in range(LANES // 2) for z in v.zip_with(rows[i], rows[i + LANES // 2])]
        for i, lanes in enumerate(rows):
            v.store(lanes, target.data, builder.add(to, v.number(i * LANES)))
        return context.get_dummy_value()

    return types.void(x, row, out, out_row), generate


@jit()
def forward(re: Floats, im: Floats, n: int, radices: NDArray[np.int64], w_re: Floats, w_im: Floats) -> None:
    """Sixteen transforms of n points in place, rows × lanes; the output order is `Axis.order`."""
    length, w = n, 0
    for radix in radices:
        step = length // radix
        for block in range(0, n, length):
            if radix == 4:
                for j in range(step):
                    _forward4(re, im, w_re, w_im, block + j, step, w + 3 * j)
            elif radix == 2:
                for j in range(step):
                    _forward2(re, im, w_re, w_im, block + j, step, w + j)
            elif radix == 3:
                for j in range(step):
                    _forward3(re, im, w_re, w_im, block + j, step, w + 2 * j)
            else:
                for j in range(step):
                    _forward5(re, im, w_re, w_im, block + j, step, w + 4 * j)
        w += (radix - 1) * step
        length = step


@jit()
def inverse(re: Floats, im: Floats, n: int, radices: NDArray[np.int64], w_re: Floats, w_im: Floats) -> None:
    """The way back of `forward`, times n."""
    step, w = 1, w_re.shape[0]
    for radix in radices[::-1]:
        length = radix * step
        w -= (radix - 1) * step
        for block in range(0, n, length):
            if radix == 4:
                for j in range(step):
                    _inverse4(re, im, w_re, w_im, block + j, step, w + 3 * j)
            elif radix == 2:
                for j in range(step):
                    _inverse2(re, im, w_re, w_im, block + j, step, w + j)
            elif radix == 3:
                for j in range(step):
                    _inverse3(re, im, w_re, w_im, block + j, step, w + 2 * j)
            else:
                for j in range(step):
                    _inverse5(re, im, w_re, w_im, block + j, step, w + 4 * j)
        step = length


@dataclass(frozen=True)
class Axis:
    """Transforms along one axis: radices, twiddle factors stage after stage, and the order they leave."""

    n: int
    radices: NDArray[np.int64]
    re: Floats
    im: Floats
    order: NDArray[np.int64]


def factors(n: int) -> list[int] | None:
    """Radices of n, or None if it has a prime factor over 5."""
    radices = []
    for radix in (5, 3, 4, 2):
        while n % radix == 0:
            radices.append(radix)
            n //= radix
    return radices if n == 1 else None


@lru_cache(maxsize=64)
def axis(n: int) -> Axis:
    radices = factors(n) or []
    order: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
    parts, length = [], n
    for radix in radices:
        j, k = np.arange(length // radix)[:, None], np.arange(1, radix)
        parts.append(np.exp(-2j * np.pi * j * k / length).ravel())
        length //= radix
    for radix in reversed(radices):
        order = np.concatenate([k + radix * order for k in range(radix)])
    w = np.concatenate(parts)
    return Axis(n, np.array(radices), w.real.astype(np.float32), w.imag.astype(np.float32), order)


def planes(x: NDArray[np.complex128]) -> tuple[Floats, Floats]:
    return np.ascontiguousarray(x.real, dtype=np.float32), np.ascontiguousarray(x.imag, dtype=np.float32)
