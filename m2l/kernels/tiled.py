"""CPU inference in tiles of time: the same network, the same numbers, a fraction of the memory traffic.

At the top of the UNet a feature map of ten seconds has 225 MB. Computed layer by layer, each map is written to fresh
memory and read back several times, and the machine spends as long on page faults and traffic as on arithmetic. Here a
convolution runs together with what precedes it (normalization, SiLU, upsampling) on tiles of a few frames that stay
in the processor's cache, and only its result goes to memory. The statistics of GroupNorm span all of time, so they
are gathered while its input is being written, by Chan's merge of the tiles' moments.

Maps made here lie in memory frame by frame, (T, F, C), though their shape stays (1, C, F, T): a stretch of frames is
one block of memory, and no tile has to be gathered from scattered rows. Convolutions run on transposed tiles
(1, C, t, F), which torch treats as channels-last images, with transposed kernels.

`m2l.kernels.steps` decides when these functions are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.kernels import memory

#: Size to aim at for a tile: with its normalized copy and the convolution's result it fits a core's share of cache.
TILE_BYTES = 4 << 20

Frames = Callable[[int, int], Tensor]


class NormConv(NamedTuple):
    """conv(scale * silu(norm(x))) + condition(embedding)."""

    norm: nn.Module
    conv: nn.Module
    #: Whether SiLU is applied.
    activate: bool = True
    #: (B, 1, F, 1), multiplied in front of the convolution, or None.
    scale: Tensor | None = None
    #: (B, E) -> (B, C_out), added behind the convolution if there is an embedding.
    condition: nn.Module | None = None
    embedding: Tensor | None = None

    def shift(self) -> Tensor | None:
        """(B, C_out), what is added behind the convolution, or None."""
        if self.condition is None or self.embedding is None:
            return None
        return self.condition(self.embedding)

    def of_item(self, one: slice) -> NormConv:
        """The step for one item of the batch."""
        scale = None if self.scale is None else self.scale[one]
        return self._replace(scale=scale, embedding=None if self.embedding is None else self.embedding[one])


class NormBranch(NamedTuple):
    """y -> y + function(norm(y)), for a function (B, C, F, T) -> (B, C, F, T) that mixes no frames."""

    norm: nn.GroupNorm
    function: Callable[[Tensor], Tensor]


def tile_of(x: Tensor, start: int, stop: int) -> Tensor:
    """Frames of (1, C, F, T) as a channels-last tile (1, C, t, F); a view if `x` was made here."""
    return x[..., start:stop].transpose(2, 3).contiguous(memory_format=torch.channels_last)


def empty(channels: int, bins: int, frames: int, dtype: torch.dtype) -> Tensor:
    """Uninitialized (1, C, F, T), frame by frame in memory."""
    storage = torch.from_numpy(memory.fresh(channels * bins * frames * dtype.itemsize)).view(dtype)
    return storage.view(1, frames, bins, channels).permute(0, 3, 2, 1)


def _empty_like(x: Tensor) -> Tensor:
    _, channels, bins, frames = x.shape
    return empty(channels, bins, frames, x.dtype)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The precision that sums and kernels of a network of this precision are computed in."""
    return torch.promote_types(dtype, torch.float32)


class Moments:
    """Mean and variance per group over everything added, merged in float64."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        self.norm = norm
        self.dtype = at_least_float32(norm.weight.dtype)
        self.ones = norm.weight.new_ones(norm.num_channels, dtype=self.dtype)
        self.zeros = norm.weight.new_zeros(norm.num_channels, dtype=self.dtype)
        self.count = 0
        self.mean = self.m2 = norm.weight.new_zeros(norm.num_groups, dtype=torch.float64)

    def add(self, tile: Tensor) -> None:
        """Take in a tile (1, C, t, F)."""
        # The normalized tile that comes with the statistics is thrown away: no other kernel for them is as fast.
        # float32 parameters make it keep float32 statistics of a bfloat16 tile. It sums x and x^2 in float32,
        # which is 1e-3 off on a whole map but good enough on a tile; tiles are merged in float64.
        eps = 1e-12
        _, channels, frames, bins = tile.shape
        groups = self.norm.num_groups
        tile = tile.permute(0, 2, 3, 1).reshape(1, frames, bins, channels).permute(0, 3, 1, 2)
        _, mean, rstd = torch.native_group_norm(tile, self.ones, self.zeros, 1, channels, frames * bins, groups, eps)
        count = tile.numel() // groups
        tile_mean, tile_m2 = mean[0].double(), count * (rstd[0].double() ** -2 - eps)
        delta, total = tile_mean - self.mean, self.count + count
        self.m2 = self.m2 + tile_m2 + delta**2 * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total

    def normalize(self, activate: bool) -> Callable[[Tensor], Tensor]:
        """The GroupNorm with these statistics, with SiLU behind it if asked: a function of a tile."""
        norm = self.norm
        repeats = norm.num_channels // norm.num_groups
        mean = self.mean.to(self.dtype).repeat_interleave(repeats)
        variance = (self.m2 / self.count).to(self.dtype).repeat_interleave(repeats)
        weight, bias = norm.weight.to(self.dtype), norm.bias.to(self.dtype)

        def apply(tile: Tensor) -> Tensor:
            tile = F.batch_norm(tile, mean, variance, weight, bias, False, 0.0, norm.eps)
            return F.silu(tile, inplace=True) if activate else tile

        return apply


def moments_of(norm: nn.GroupNorm, x: Tensor) -> Moments:
    """Statistics of a map that is already in memory."""
    moments = Moments(norm)
    for start, stop in _tiles(x.shape[3], x):
        moments.add(tile_of(x, start, stop))
    return moments


def per_item(function: Callable[[slice], Tensor], count: int) -> Tensor:
    """`function` of each item's slice of the batch: GroupNorm's statistics belong to one item."""
    made = [function(slice(index, index + 1)) for index in range(count)]
    return made[0] if count == 1 else torch.cat(made)


def convolve(
    conv: nn.Conv2d,
    source: Frames,
    frames: int,
    like: Tensor,
    *,
    shift: Tensor | None = None,
    finish: Callable[[Tensor, int, int], Tensor] | None = None,
    moments: Moments | None = None,
) -> Tensor:
    """A convolution over a map that is made tile by tile and never stored.

    Args:
        conv: the convolution; stride and zero padding are its own.
        source: `source(start, stop)` makes a tile of the input, (1, C, stop - start, F).
        frames: how many frames the input has.
        like: a map of the input's size, to choose the tiles by.
        shift: (1, C_out) added to the result.
        finish: `finish(tile, start, stop)` makes the stored tile (1, C_out, t, F) of the convolution's.
        moments: gathers the statistics of the result.

    Returns:
        (1, C_out, F_out, T_out).
    """
    kernel, stride, padding = conv.kernel_size[1], conv.stride[1], int(conv.padding[1])
    length = (frames + 2 * padding - kernel) // stride + 1
    weight = conv.weight.transpose(2, 3).contiguous(memory_format=torch.channels_last)
    bias = conv.bias if shift is None or conv.bias is None else conv.bias + shift[0]
    out: Tensor | None = None
    for start, stop in _tiles(length, like):
        # Input of this tile with its halo, cut to what exists: beyond the ends there is zero padding. The left
        # edge stays on the stride's grid, so that the tile's outputs are the whole map's.
        left = max(0, start * stride - padding) // stride * stride
        right = min(frames, (stop - 1) * stride + kernel - padding)
        tile = source(left, right)
        made = F.conv2d(tile, weight, bias, conv.stride[::-1], (padding, int(conv.padding[0])))
        first = start - left // stride
        made = made[:, :, first : first + stop - start]
        if finish is not None:
            made = finish(made, start, stop)
        if moments is not None:
            moments.add(made)
        if out is None:
            out = empty(made.shape[1], made.shape[3], length, made.dtype)
        out[..., start:stop] = made.transpose(2, 3)
    assert out is not None
    return out


def upsampled_convolution(conv: nn.Conv2d, x: Tensor, factor: tuple[int, int]) -> Tensor:
    """Nearest-neighbor upsampling and a convolution with kernel factor + 1, at the lower resolution.

    Along an axis upsampled by u, output u i + p sees only inputs i - 1 and i, or i and i + 1: the taps that fall on the
    same input are added up beforehand, and each phase p is a convolution with 2 taps where there were u + 1.

    Args:
        conv: stride 1, "same" padding; kernel 1 along an axis with factor 1.
        x: (1, C, F, T).
        factor: (frequency, time).

    Returns:
        (1, C_out, F * factor[0], T * factor[1]).
    """
    bins, frames = x.shape[2:]
    phases = []
    for time_phase in range(factor[1]):
        by_time, time_start = _phase_kernel(
            conv.weight.to(at_least_float32(conv.weight.dtype)), 3, factor[1], time_phase
        )
        for bin_phase in range(factor[0]):
            kernel, bin_start = _phase_kernel(by_time, 2, factor[0], bin_phase)
            kernel = kernel.to(conv.weight.dtype).transpose(2, 3).contiguous(memory_format=torch.channels_last)
            phases.append((kernel, time_phase, time_start, bin_phase, bin_start))
    halo, margin = int(factor[1] > 1), int(factor[0] > 1)
    out = empty(conv.out_channels, bins * factor[0], frames * factor[1], x.dtype)
    for start, stop in _tiles(frames, x):
        left, right = max(0, start - halo), min(frames, stop + halo)
        edges = (margin, margin, halo - (start - left), halo - (right - stop))
        tile = F.pad(tile_of(x, left, right), edges).contiguous(memory_format=torch.channels_last)
        for kernel, time_phase, time_start, bin_phase, bin_start in phases:
            made = F.conv2d(tile[:, :, time_start : time_start + stop - start + halo], kernel, conv.bias)
            made = made[..., bin_start : bin_start + bins].transpose(2, 3)
            place = slice(start * factor[1] + time_phase, stop * factor[1], factor[1])
            out[:, :, bin_phase :: factor[0], place] = made
    return out


def _phase_kernel(weight: Tensor, axis: int, factor: int, phase: int) -> tuple[Tensor, int]:
    """The kernel that one phase of an upsampled axis applies at the lower resolution, and where it starts.

    Returns:
        `weight` with 2 taps along `axis` (as it was if `factor` is 1), and the first tap's place in an input padded
        by one.
    """
    if factor == 1:
        return weight, 0
    reach = weight.shape[axis] // 2
    first = (phase - reach) // factor
    taps = [torch.zeros_like(weight.select(axis, 0)) for _ in range(2)]
    for offset in range(-reach, reach + 1):
        taps[(phase + offset) // factor - first] += weight.select(axis, offset + reach)
    return torch.stack(taps, axis), first + 1


def normalized_convolutions(
    x: Tensor, steps: Sequence[NormConv], plus: Callable[[Tensor], Tensor] | None, branch: NormBranch | None
) -> Tensor:
    """`m2l.kernels.steps.normalized_convolutions` of (1, C, F, T)."""
    hidden, gathered = x, None
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        # The statistics of the next normalization are gathered while this convolution's result is written.
        inner = None if following is None else _moments(following.norm)
        hidden = convolve(
            cast(nn.Conv2d, step.conv),
            _prepared(step, hidden, gathered),
            hidden.shape[3],
            hidden,
            shift=step.shift(),
            moments=inner,
            finish=None if following is not None or plus is None else _adding(plus, x),
        )
        gathered = inner
    return hidden if branch is None else _add_branch(hidden, branch)


def _moments(norm: nn.Module) -> Moments | None:
    return Moments(norm) if isinstance(norm, nn.GroupNorm) else None


def _prepared(step: NormConv, x: Tensor, gathered: Moments | None) -> Frames:
    """The input of a step's convolution, tile by tile."""
    if not isinstance(step.norm, nn.GroupNorm):
        return lambda start, stop: tile_of(x, start, stop)
    normalize = (gathered or moments_of(step.norm, x)).normalize(step.activate)
    if step.scale is None:
        return lambda start, stop: normalize(tile_of(x, start, stop))
    scale = step.scale.transpose(2, 3)
    return lambda start, stop: scale * normalize(tile_of(x, start, stop))


def _adding(plus: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor, int, int], Tensor]:
    return lambda tile, start, stop: tile.add_(plus(tile_of(x, start, stop)))


def _add_branch(x: Tensor, branch: NormBranch) -> Tensor:
    """A branch of (1, C, F, T), in place."""
    normalize = moments_of(branch.norm, x).normalize(activate=False)
    for start, stop in _tiles(x.shape[3], x):
        x[..., start:stop] += branch.function(normalize(tile_of(x, start, stop)).transpose(2, 3))
    return x


def pointwise(function: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    """`function` of (1, C, F, T) maps of one size, if it mixes neither frames nor bins."""
    out = _empty_like(maps[0])
    for start, stop in _tiles(maps[0].shape[3], maps[0]):
        out[..., start:stop] = function(*(tile_of(x, start, stop) for x in maps)).transpose(2, 3)
    return out


def _tiles(frames: int, like: Tensor) -> Iterator[tuple[int, int]]:
    """Cut `frames` output frames of a layer with maps like `like` into stretches of equal size."""
    frame_bytes = max(1, like.shape[1] * like.shape[2] * like.element_size())
    # A layer that changes the number of frames does so by a factor; its tiles may be that much off the mark.
    count = max(1, round(like.shape[3] * frame_bytes / TILE_BYTES))
    step = max(4, -(-frames // count))
    for start in range(0, frames, step):
        yield start, min(frames, start + step)
