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

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.kernels import fused, memory, winograd

#: Size to aim at for a tile: with its normalized copy and the convolution's result it fits a core's share of cache.
TILE_BYTES = 4 << 20
#: Products of fewer channels than this leave lanes of a vector register empty.
FEW_CHANNELS = 16

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
    return _last(x[..., start:stop].transpose(2, 3))


def rows_of(tile: Tensor) -> Tensor:
    """A channels-last tile (1, C, t, F) as rows (t F, C) of the same memory."""
    return tile.permute(0, 2, 3, 1).view(-1, tile.shape[1])


def _last(tile: Tensor) -> Tensor:
    return tile.contiguous(memory_format=torch.channels_last)


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
    """Sums of each channel and of its squares over everything added, in float64: the statistics of a GroupNorm."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        self.norm = norm
        self.count = 0
        self.sums = torch.zeros(2, norm.num_channels, dtype=torch.float64)

    def add(self, tile: Tensor) -> None:
        """Take in a tile (1, C, t, F)."""
        rows = rows_of(tile)
        self.sums += fused.sums(rows)
        self.count += len(rows)

    def normalize(self, activate: bool) -> Callable[[Tensor], Tensor]:
        """The GroupNorm with these statistics, with SiLU behind it if asked: a function of a tile (1, C, t, F)."""
        norm = self.norm
        repeats = norm.num_channels // norm.num_groups
        mean, square = self.sums.view(2, norm.num_groups, repeats).sum(dim=2) / (self.count * repeats)
        deviation = ((square - mean**2).clamp_min(0) + norm.eps).sqrt()
        gain = norm.weight.double() / deviation.repeat_interleave(repeats)
        offset = (norm.bias.double() - mean.repeat_interleave(repeats) * gain).float()
        gain = gain.float()

        def apply(tile: Tensor) -> Tensor:
            out = torch.empty_like(tile)
            fused.normalize(rows_of(tile), gain, offset, activate, rows_of(out))
            return out

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
    plus: Frames | None = None,
    moments: Moments | None = None,
) -> Tensor:
    """A convolution over a map that is made tile by tile and never stored.

    Args:
        conv: the convolution; stride and zero padding are its own.
        source: `source(start, stop)` makes a tile of the input, (1, C, stop - start, F).
        frames: how many frames the input has.
        like: a map of the input's size, to choose the tiles by.
        shift: (1, C_out) added to the result.
        plus: `plus(start, stop)` makes the tile (1, C_out, stop - start, F_out) that is added to the result.
        moments: gathers the statistics of the result.

    Returns:
        (1, C_out, F_out, T_out).
    """
    kernel, stride, padding = conv.kernel_size[1], conv.stride[1], int(conv.padding[1])
    length = (frames + 2 * padding - kernel) // stride + 1
    bias = conv.bias if shift is None or conv.bias is None else conv.bias + shift[0]
    of_tile = _convolution(conv, bias, like.dtype)
    out: Tensor | None = None
    for start, stop in _tiles(length, like):
        # The tile's input with its halo. Beyond the ends of the map there is zero padding.
        left, right = start * stride - padding, (stop - 1) * stride + kernel - padding
        tile = source(max(0, left), min(frames, right))
        if left < 0 or right > frames:
            tile = F.pad(tile, (0, 0, max(0, -left), max(0, right - frames)))
        made = _last(of_tile(_last(tile)))
        if out is None:
            out = empty(made.shape[1], made.shape[3], length, made.dtype)
        stored = tile_of(out, start, stop)
        if plus is None:
            stored.copy_(made)
        else:
            fused.add(rows_of(made), rows_of(_last(plus(start, stop))), scale=1.0, out=rows_of(stored))
        if moments is not None:
            moments.add(stored)
    assert out is not None
    return out


def _convolution(conv: nn.Conv2d, bias: Tensor | None, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The layer with another bias, as a function of a tile (1, C, t, F) that holds its padding of frames."""
    if winograd.applies(conv, dtype):
        return winograd.convolution(conv, bias)
    weight = _last(conv.weight.transpose(2, 3))
    return lambda tile: F.conv2d(tile, weight, bias, conv.stride[::-1], (0, int(conv.padding[0])))


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
    # The kernels of all phases are output channels of one convolution: (Q P C_out, C, 2, 2), or 1 for 2 where nothing
    # is upsampled. `starts` says where each phase's output begins.
    wide = conv.weight.to(at_least_float32(conv.weight.dtype))
    by_time = [_phase_kernel(wide, 3, factor[1], phase) for phase in range(factor[1])]
    by_bin = [[_phase_kernel(kernel, 2, factor[0], phase) for phase in range(factor[0])] for kernel, _ in by_time]
    kernels = torch.cat([kernel for phases in by_bin for kernel, _ in phases])
    kernels = _last(kernels.to(conv.weight.dtype).transpose(2, 3))
    bias = None if conv.bias is None else conv.bias.repeat(factor[0] * factor[1])
    frame_starts, bin_starts = [start for _, start in by_time], [start for _, start in by_bin[0]]

    # A tile at a time, and each phase to its place among the others.
    halo, margin = int(factor[1] > 1), int(factor[0] > 1)
    out = empty(conv.out_channels, bins * factor[0], frames * factor[1], x.dtype)
    by_phase = out.permute(0, 3, 2, 1).view(frames, factor[1], bins, factor[0], conv.out_channels)
    for start, stop in _tiles(frames, x):
        left, right = max(0, start - halo), min(frames, stop + halo)
        edges = (margin, margin, halo - (start - left), halo - (right - stop))
        made = F.conv2d(_last(F.pad(tile_of(x, left, right), edges)), kernels, bias)
        made = made[0].permute(1, 2, 0).unflatten(2, (factor[1], factor[0], conv.out_channels))
        for frame_phase, first in enumerate(frame_starts):
            rows = made[first : first + stop - start, :, frame_phase]
            for first_bin in sorted(set(bin_starts)):
                phases = [phase for phase, place in enumerate(bin_starts) if place == first_bin]
                run = slice(phases[0], phases[-1] + 1)
                by_phase[start:stop, frame_phase, :, run] = rows[:, first_bin : first_bin + bins, run]
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
            plus=None if following is not None or plus is None else _tiles_of(plus, x),
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


def _tiles_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Frames:
    return lambda start, stop: function(tile_of(x, start, stop))


def _add_branch(x: Tensor, branch: NormBranch) -> Tensor:
    """A branch of (1, C, F, T), in place."""
    normalize = moments_of(branch.norm, x).normalize(activate=False)
    for start, stop in _tiles(x.shape[3], x):
        x[..., start:stop] += branch.function(normalize(tile_of(x, start, stop)).transpose(2, 3))
    return x


def cross_connection(projection: nn.Conv2d, condition: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """`m2l.kernels.steps.cross_connection` of (1, C, F, T) and one or two maps."""
    out = _empty_like(condition)
    project = _projection(projection, condition.shape[2])
    for start, stop in _tiles(condition.shape[3], condition):
        projected = project(tile_of(condition, start, stop))
        terms = [rows_of(_last(projected)), *(rows_of(tile_of(x, start, stop)) for x in maps)]
        fused.add(*terms, scale=1 / math.sqrt(len(terms)), out=rows_of(tile_of(out, start, stop)))
    return out


def _projection(conv: nn.Conv2d, bins: int) -> Callable[[Tensor], Tensor]:
    """A 1x1 convolution of tiles (1, C, t, F), as a product of matrices that fill a processor's registers."""
    together = FEW_CHANNELS // conv.in_channels
    if together < 2 or bins % together:
        weight = _last(conv.weight.transpose(2, 3))
        return lambda tile: F.conv2d(tile, weight, conv.bias)
    # With few channels, several bins are multiplied at once, by a matrix with a block for each.
    weight = torch.kron(torch.eye(together, dtype=conv.weight.dtype), conv.weight[:, :, 0, 0])
    bias = None if conv.bias is None else conv.bias.repeat(together)

    def project(tile: Tensor) -> Tensor:
        rows = F.linear(rows_of(tile).view(-1, weight.shape[1]), weight, bias)
        return rows.view(1, *tile.shape[2:], conv.out_channels).permute(0, 3, 1, 2)

    return project


def _tiles(frames: int, like: Tensor) -> Iterator[tuple[int, int]]:
    """Cut `frames` output frames of a layer with maps like `like` into stretches of equal size."""
    frame_bytes = max(1, like.shape[1] * like.shape[2] * like.element_size())
    # A layer that changes the number of frames does so by a factor; its tiles may be that much off the mark.
    count = max(1, round(like.shape[3] * frame_bytes / TILE_BYTES))
    step = max(1, -(-frames // (count * winograd.FRAMES))) * winograd.FRAMES
    for start in range(0, frames, step):
        yield start, min(frames, start + step)
