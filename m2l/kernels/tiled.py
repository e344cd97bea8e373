"""CPU inference in tiles of time: the same network, the same numbers, a fraction of the memory traffic.

At the top of the UNet a feature map of ten seconds has 225 MB. Layer by layer in the ordinary way, each one is
written to fresh memory and read back several times, and the machine spends as long on page faults and traffic as
on arithmetic. Here a convolution runs together with what comes before it (normalize, SiLU, upsample, add the cross
connection) on tiles of a few frames that stay in the processor's cache, and only its result goes to memory.
GroupNorm's statistics span all of time, so they are gathered while its input is being written, by Chan's merge of
the tiles' moments.

Maps made here lie in memory frame by frame, (T, F, C), though their shape stays (1, C, F, T): so a stretch of
frames is one block of memory, and no tile is ever gathered from scattered rows. Convolutions run on transposed
tiles (1, C, t, F), which torch takes for channels-last images, with transposed kernels.

The layers in `m2l.layers` and `m2l.unet` call these functions when `worthwhile` says so: no gradients, CPU, a map
too large for the cache.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from m2l.layers import FrequencyAttention, ResBlock

#: Maps smaller than this are left to the ordinary path.
WORTHWHILE_BYTES = 4 << 20
#: Aimed-at size of a tile: with its normalized copy and the convolution's result it fits a core's share of cache.
TILE_BYTES = 4 << 20

Frames = Callable[[int, int], Tensor]


def worthwhile(x: Tensor) -> bool:
    """Whether the tiled path applies to feature maps (B, C, F, T) like `x`."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() * x.element_size() > WORTHWHILE_BYTES
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not _ordinary
    )


_ordinary: list[bool] = []


@contextmanager
def ordinary() -> Iterator[None]:
    """No tiles in this block: a training step's teacher sees short crops, but whole batches of them."""
    _ordinary.append(True)
    try:
        yield
    finally:
        _ordinary.pop()


def tile_of(x: Tensor, start: int, stop: int) -> Tensor:
    """Frames of (1, C, F, T) as a channels-last tile (1, C, t, F); a view if `x` was made here."""
    return x[..., start:stop].transpose(2, 3).contiguous(memory_format=torch.channels_last)


class Pool:
    """Memory of maps that are done with, for the next ones of the same size.

    Memory fresh from the kernel is zeroed page by page first, which takes as long as writing the map. Inside `with
    POOL:` it goes round instead. Up to `KEEP_BYTES` of what a call used stays for the next call, as clips tend to be of
    one length; `release` gives it back to the system.
    """

    KEEP_BYTES = 1 << 30

    def __init__(self) -> None:
        self.used: set[int] = set()
        self.free: dict[int, list[np.ndarray]] = {}
        self.lock = threading.Lock()
        self.depth = 0

    def take(self, size: int) -> np.ndarray:
        """`size` bytes; they come back by themselves when the last tensor on them is gone."""
        with self.lock:
            self.used.add(size)
            waiting = self.free.get(size)
            # numpy asks the kernel for huge pages where torch does not: a page fault per 2 MB, not per 4 kB.
            memory = waiting.pop() if waiting else np.empty(size, np.uint8)
        view = memory[:]
        weakref.finalize(view, self._give_back, memory).atexit = False
        return view

    def _give_back(self, memory: np.ndarray) -> None:
        with self.lock:
            if self.depth:
                self.free.setdefault(memory.nbytes, []).append(memory)

    def __enter__(self) -> None:
        with self.lock:
            self.depth += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth:
                return
            kept, room = {}, self.KEEP_BYTES
            for size in self.used & self.free.keys():
                kept[size] = self.free[size][: room // size]
                room -= size * len(kept[size])
            self.free, self.used = kept, set()

    def release(self) -> None:
        """Give all waiting memory back to the system."""
        with self.lock:
            self.free.clear()

    def forget(self) -> None:
        """Start afresh in a forked process: a thread that is not there may have held the lock."""
        self.__init__()  # type: ignore[misc]


POOL = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


def empty(channels: int, bins: int, frames: int, dtype: torch.dtype) -> Tensor:
    """Uninitialized (1, C, F, T), frame by frame in memory."""
    memory = torch.from_numpy(POOL.take(channels * bins * frames * dtype.itemsize)).view(dtype)
    return memory.view(1, frames, bins, channels).permute(0, 3, 2, 1)


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
        _, mean, rstd = torch.native_group_norm(
            tile, self.ones, self.zeros, 1, channels, frames * bins, groups, eps
        )
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


def per_item(function: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    """Call `function` on each item of a batch; statistics are per item."""
    if len(maps[0]) == 1:
        return function(*maps)
    return torch.cat([function(*(x[index : index + 1] for x in maps)) for index in range(len(maps[0]))])


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


def upsample_convolve(conv: nn.Conv2d, x: Tensor, factor: tuple[int, int]) -> Tensor:
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
            kernel = (
                kernel.to(conv.weight.dtype).transpose(2, 3).contiguous(memory_format=torch.channels_last)
            )
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


def res_block(block: ResBlock, x: Tensor, embedding: Tensor | None) -> Tensor:
    """`ResBlock.forward` on (1, C, F, T)."""
    frames = x.shape[3]
    shift = None if block.condition is None or embedding is None else block.condition(embedding)
    before = moments_of(block.norm1, x).normalize(activate=True)
    inner = Moments(block.norm2)
    hidden = convolve(
        block.conv1,
        lambda a, b: before(tile_of(x, a, b)),
        frames,
        x,
        shift=shift,
        moments=inner,
    )
    between = inner.normalize(activate=True)
    out = convolve(
        block.conv2,
        lambda a, b: between(tile_of(hidden, a, b)),
        frames,
        hidden,
        finish=lambda tile, a, b: tile.add_(block.residual(tile_of(x, a, b))),
    )
    return out if block.attention is None else attend(block.attention, out)


def attend(attention: FrequencyAttention, x: Tensor) -> Tensor:
    """`FrequencyAttention.forward` on (1, C, F, T), in place."""
    normalize = moments_of(attention.norm, x).normalize(activate=False)
    for start, stop in _tiles(x.shape[3], x):
        x[..., start:stop] += attention.attend(normalize(tile_of(x, start, stop)).transpose(2, 3))
    return x


def combine(terms: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    """`terms(*maps)` tile by tile, for maps of one size and an expression that mixes neither frames nor bins."""
    like = maps[0]
    _, channels, bins, frames = like.shape
    out = empty(channels, bins, frames, like.dtype)
    for start, stop in _tiles(frames, like):
        out[..., start:stop] = terms(*(tile_of(x, start, stop) for x in maps)).transpose(2, 3)
    return out


def _tiles(frames: int, like: Tensor) -> Iterator[tuple[int, int]]:
    """Cut `frames` output frames of a layer with maps like `like` into stretches of equal size."""
    frame_bytes = max(1, like.shape[1] * like.shape[2] * like.element_size())
    # A layer that changes the number of frames does so by a factor; its tiles may be that much off the mark.
    count = max(1, round(like.shape[3] * frame_bytes / TILE_BYTES))
    step = max(4, -(-frames // count))
    for start in range(0, frames, step):
        yield start, min(frames, start + step)
