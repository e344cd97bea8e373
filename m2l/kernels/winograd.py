"""3x3 convolutions in float32 with a quarter of the multiplications: Winograd's F(4x4, 3x3).

Along an axis, four values of the result are polynomial products of six values of the input with the kernel's three
taps, computed as six products of values at the points 0, ±a, ±b and infinity (Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016, who take 1 and 2 for a and b). Along both axes 36 products do the work of 16 times
9, and each is a product of matrices: places by channels, channels by channels. The transforms before and after are
compiled passes over a tile, an axis at a time.

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

#: Frames of the result that are computed together, and bins.
FRAMES = 4
#: With fewer channels than this on either side, the transforms may cost what the products save.
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
    # The weight's first axis of taps lies along bins.
    kernels = torch.einsum("pt,qb,oibt->pqio", _KERNEL_TRANSFORM, _KERNEL_TRANSFORM, conv.weight.double())
    kernels = kernels.flatten(0, 1).float().contiguous()
    shift = np.zeros(conv.out_channels, np.float32) if bias is None else as_array(bias)
    padding = int(conv.padding[0])

    def apply(tile: Tensor) -> Tensor:
        frames, bins = tile.shape[2] - 2, tile.shape[3] + 2 * padding - 2
        n_frames, n_bins = -(-frames // FRAMES), -(-bins // FRAMES)
        if frames % FRAMES:
            tile = F.pad(tile, (0, 0, 0, n_frames * FRAMES - frames))
        rows = as_array(tile.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1))
        points = _to_points(rows.reshape(tile.shape[2], -1), padding, n_frames, n_bins, conv.in_channels)
        products = torch.bmm(points.view(36, n_frames * n_bins, -1), kernels)
        out = torch.empty(n_frames * FRAMES, bins, conv.out_channels)
        _from_points(products.view(6, 6, n_frames, -1).numpy(), shift, out.flatten(1).numpy())
        return out[:frames].permute(2, 0, 1).unsqueeze(0)

    return apply


def _to_points(x: Array, padding: int, n_frames: int, n_bins: int, channels: int) -> Tensor:
    """Rows (4 n_frames + 2, F C) at the points of both axes, (6, 6, n_frames, n_bins C)."""
    row = n_bins * channels
    by_bin, points = np.empty((len(x), 6, row), np.float32), torch.empty(6, 6, n_frames, row)
    made = points.numpy()

    def along_bins(part: slice) -> None:
        _evaluate_bins(x, padding, channels, by_bin, part.start // row, part.stop // row)

    def along_frames(part: slice) -> None:
        _evaluate_frames(by_bin, made, part.start // row, part.stop // row)

    in_threads(along_bins, len(x) * row, row)
    in_threads(along_frames, n_frames * row, row)
    return points


def _from_points(products: Array, bias: Array, out: Array) -> None:
    """Products (6, 6, n_frames, n_bins C) to the rows (4 n_frames, F C) they interpolate, plus a bias (C,)."""
    n_frames, row = products.shape[2:]
    by_bin = np.empty((n_frames * FRAMES, 6, row), np.float32)

    def along_frames(part: slice) -> None:
        _interpolate_frames(products, by_bin, part.start // row, part.stop // row)

    def along_bins(part: slice) -> None:
        _interpolate_bins(by_bin, bias, out, part.start // row, part.stop // row)

    in_threads(along_frames, n_frames * row, row)
    in_threads(along_bins, len(by_bin) * row, row)


# The passes: `start` and `stop` count frames of the input or result along bins, groups of four along frames.


@jit(fastmath=FLAGS, error_model="numpy")
def _evaluate_bins(x: Array, padding: int, channels: int, out: Array, start: int, stop: int) -> None:
    n, bins = out.shape[2] // channels, x.shape[1] // channels
    edge = np.empty(6 * channels, np.float32)
    for at in range(start, stop):
        row = x[at]
        for group in range(n):
            first = group * FRAMES - padding
            if first < 0 or first + 6 > bins:
                edge[:] = 0.0
                low, high = max(first, 0), min(first + 6, bins)
                edge[(low - first) * channels : (high - first) * channels] = row[low * channels : high * channels]
                block = edge
            else:
                block = row[first * channels : (first + 6) * channels]
            place = slice(group * channels, (group + 1) * channels)
            _at_points(
                block[:channels], block[channels : 2 * channels], block[2 * channels : 3 * channels],
                block[3 * channels : 4 * channels], block[4 * channels : 5 * channels], block[5 * channels :],
                out[at, 0][place], out[at, 1][place], out[at, 2][place], out[at, 3][place], out[at, 4][place],
                out[at, 5][place],
            )  # fmt: skip


@jit(fastmath=FLAGS, error_model="numpy")
def _evaluate_frames(x: Array, points: Array, start: int, stop: int) -> None:
    for group in range(start, stop):
        at = group * FRAMES
        for q in range(6):
            _at_points(
                x[at, q], x[at + 1, q], x[at + 2, q], x[at + 3, q], x[at + 4, q], x[at + 5, q],
                points[0, q, group], points[1, q, group], points[2, q, group], points[3, q, group],
                points[4, q, group], points[5, q, group],
            )  # fmt: skip


@jit(fastmath=FLAGS, error_model="numpy")
def _interpolate_frames(products: Array, out: Array, start: int, stop: int) -> None:
    for group in range(start, stop):
        at = group * FRAMES
        for q in range(6):
            _between_points(
                products[0, q, group], products[1, q, group], products[2, q, group], products[3, q, group],
                products[4, q, group], products[5, q, group],
                out[at, q], out[at + 1, q], out[at + 2, q], out[at + 3, q],
            )  # fmt: skip


@jit(fastmath=FLAGS, error_model="numpy")
def _interpolate_bins(x: Array, bias: Array, out: Array, start: int, stop: int) -> None:
    channels = len(bias)
    block = np.empty(FRAMES * channels, np.float32)
    for at in range(start, stop):
        row = out[at]
        for group in range(x.shape[2] // channels):
            place = slice(group * channels, (group + 1) * channels)
            _between_points(
                x[at, 0][place], x[at, 1][place], x[at, 2][place], x[at, 3][place], x[at, 4][place], x[at, 5][place],
                block[:channels], block[channels : 2 * channels], block[2 * channels : 3 * channels],
                block[3 * channels :],
            )  # fmt: skip
            first = group * FRAMES * channels
            made = row[first : first + FRAMES * channels]  # the last group may have fewer bins
            for bin in range(len(made) // channels):
                some, found = made[bin * channels : (bin + 1) * channels], block[bin * channels : (bin + 1) * channels]
                for i in range(channels):
                    some[i] = found[i] + bias[i]


@jit(inline="always", fastmath=FLAGS, error_model="numpy")
def _at_points(
    a: Array, b: Array, c: Array, d: Array, e: Array, f: Array,
    zero: Array, plus_a: Array, minus_a: Array, plus_b: Array, minus_b: Array, infinity: Array,
) -> None:  # fmt: skip
    """The polynomial of six arrays at the points."""
    for i in range(len(zero)):
        zero[i] = _PRODUCT * a[i] - _SUM * c[i] + e[i]
        infinity[i] = _PRODUCT * b[i] - _SUM * d[i] + f[i]
    for i in range(len(zero)):
        even, odd = e[i] - _B2 * c[i], _A1 * (d[i] - _B2 * b[i])
        plus_a[i] = even + odd
        minus_a[i] = even - odd
    for i in range(len(zero)):
        even, odd = e[i] - _A2 * c[i], _B1 * (d[i] - _A2 * b[i])
        plus_b[i] = even + odd
        minus_b[i] = even - odd


@jit(inline="always", fastmath=FLAGS, error_model="numpy")
def _between_points(
    zero: Array, plus_a: Array, minus_a: Array, plus_b: Array, minus_b: Array, infinity: Array,
    first: Array, second: Array, third: Array, fourth: Array,
) -> None:  # fmt: skip
    """Four coefficients of the polynomial with these values at the points."""
    for i in range(len(zero)):
        a, b = plus_a[i] + minus_a[i], plus_b[i] + minus_b[i]
        first[i] = zero[i] + a + b
        third[i] = _A2 * a + _B2 * b
    for i in range(len(zero)):
        a, b = plus_a[i] - minus_a[i], plus_b[i] - minus_b[i]
        second[i] = _A1 * a + _B1 * b
        fourth[i] = _A3 * a + _B3 * b + infinity[i]
