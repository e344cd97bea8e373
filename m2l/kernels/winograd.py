"""3x3 convolutions in float32 with half the multiplications: Winograd's F(4, 3) along time.

Four frames of the result are polynomial products of six frames of the input with the kernel's three taps, and those are
computed as six products of values at the points 0, ±a, ±b and infinity (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016, who take 1 and 2 for a and b). Along frequency each product stays a convolution
with three taps, which torch computes, so 6 times 3 multiplications do the work of 4 times 9. The transforms before and
after are compiled passes over a tile.

The price is precision. The points a = 5/8 and b = 3/2, whose products are exact, were the best of those tried, and the
error stays below 2e-6 of the result's norm (`tests/test_winograd.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.kernels.elements import FLAGS, Array, as_array, in_threads
from m2l.kernels.jit import jit

#: Frames of the result that are computed together.
FRAMES = 4
#: With fewer channels than this on either side, the transforms cost what the products save.
FEWEST_CHANNELS = 32

_A, _B = 0.625, 1.5
_POINTS = (0.0, _A, -_A, _B, -_B)
#: (products, taps): values of the kernel's polynomial at the points, over those of what the points interpolate.
_KERNEL_TRANSFORM = torch.tensor(
    [
        [p**power / float(np.prod([p - q for q in _POINTS if q != p])) for power in range(3)] for p in _POINTS
    ] + [[0.0, 0.0, 1.0]],
    dtype=torch.float64,
)  # fmt: skip
_A1, _A2, _A3 = (np.float32(_A**power) for power in (1, 2, 3))
_B1, _B2, _B3 = (np.float32(_B**power) for power in (1, 2, 3))
_SUM, _PRODUCT = _A2 + _B2, _A2 * _B2


def applies(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether `convolution` computes this layer, and faster than torch does."""
    return (
        dtype == torch.float32 == conv.weight.dtype
        and conv.kernel_size == (3, 3)
        and conv.stride == (1, 1) == conv.dilation
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= FEWEST_CHANNELS
    )


def convolution(conv: nn.Conv2d, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The layer, with another bias (C_out,), as a function of tiles with their neighboring frames.

    Returns:
        A function of a channels-last tile (1, C, t + 2, F) that returns (1, C_out, t, F). Bins are padded as the
        layer pads them, frames are not.

    Raises:
        ValueError: a layer to which this does not apply.
    """
    if not applies(conv, torch.float32):
        raise ValueError(f"no Winograd convolution for {conv}")
    kernels = torch.einsum("nt,oibt->nobi", _KERNEL_TRANSFORM, conv.weight.double()).float()
    kernels = kernels.permute(0, 1, 3, 2).unsqueeze(3)
    padding = (0, int(conv.padding[0]))

    def apply(tile: Tensor) -> Tensor:
        frames, bins = tile.shape[2] - 2, tile.shape[3]
        groups = -(-frames // FRAMES)
        if frames % FRAMES:
            tile = F.pad(tile, (0, 0, 0, groups * FRAMES - frames))
        points = torch.empty(6, groups, bins, conv.in_channels)
        _to_points(_rows(tile), points.view(6, groups, -1).numpy())
        products = [
            F.conv2d(point.permute(2, 0, 1).unsqueeze(0), kernel, padding=padding)
            for point, kernel in zip(points, kernels, strict=True)
        ]
        bins = products[0].shape[3]
        out = torch.empty(groups * FRAMES, bins, conv.out_channels)
        shift = np.zeros(conv.out_channels, np.float32) if bias is None else as_array(bias)
        _from_points([_rows(product) for product in products], np.tile(shift, bins), out.flatten(1).numpy())
        return out[:frames].permute(2, 0, 1).unsqueeze(0)

    return apply


def _rows(tile: Tensor) -> Array:
    """(1, C, t, F) as (t, F C)."""
    tile = tile.contiguous(memory_format=torch.channels_last)
    return as_array(tile.permute(0, 2, 3, 1)).reshape(tile.shape[2], -1)


def _to_points(x: Array, points: Array) -> None:
    """Frames (4 n + 2, row) at the six points, (6, n, row)."""
    _, groups, row = points.shape

    def some(part: slice) -> None:
        _evaluate(x, points, part.start // row, part.stop // row)

    in_threads(some, groups * row, row)


def _from_points(products: list[Array], bias: Array, out: Array) -> None:
    """Six products (n, row) to the 4 n frames they interpolate, plus a bias (row,)."""
    groups, row = products[0].shape

    def some(part: slice) -> None:
        _interpolate(*products, bias, out, part.start // row, part.stop // row)

    in_threads(some, groups * row, row)


@jit(fastmath=FLAGS, error_model="numpy")
def _evaluate(x: Array, points: Array, start: int, stop: int) -> None:
    for group in range(start, stop):
        at = group * FRAMES
        a, b, c, d, e, f = x[at], x[at + 1], x[at + 2], x[at + 3], x[at + 4], x[at + 5]
        zero, infinity = points[0, group], points[5, group]
        for i in range(len(zero)):
            zero[i] = _PRODUCT * a[i] - _SUM * c[i] + e[i]
            infinity[i] = _PRODUCT * b[i] - _SUM * d[i] + f[i]
        plus, minus = points[1, group], points[2, group]
        for i in range(len(plus)):
            even, odd = e[i] - _B2 * c[i], _A1 * (d[i] - _B2 * b[i])
            plus[i] = even + odd
            minus[i] = even - odd
        plus, minus = points[3, group], points[4, group]
        for i in range(len(plus)):
            even, odd = e[i] - _A2 * c[i], _B1 * (d[i] - _A2 * b[i])
            plus[i] = even + odd
            minus[i] = even - odd


@jit(fastmath=FLAGS, error_model="numpy")
def _interpolate(
    zero: Array, plus_a: Array, minus_a: Array, plus_b: Array, minus_b: Array, infinity: Array,
    bias: Array, out: Array, start: int, stop: int,
) -> None:  # fmt: skip
    for group in range(start, stop):
        at = group * FRAMES
        first, second, third, fourth = out[at], out[at + 1], out[at + 2], out[at + 3]
        pa, ma, pb, mb = plus_a[group], minus_a[group], plus_b[group], minus_b[group]
        bottom, top = zero[group], infinity[group]
        for i in range(len(bias)):
            a, b = pa[i] + ma[i], pb[i] + mb[i]
            first[i] = bottom[i] + a + b + bias[i]
            third[i] = _A2 * a + _B2 * b + bias[i]
        for i in range(len(bias)):
            a, b = pa[i] - ma[i], pb[i] - mb[i]
            second[i] = _A1 * a + _B1 * b + bias[i]
            fourth[i] = _A3 * a + _B3 * b + top[i] + bias[i]
