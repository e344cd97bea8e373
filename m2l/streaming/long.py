"""Any length at constant memory: overlapping windows, joined by cross-fades where both sides have context.

The network normalizes over time (group norm), so a window is not exactly the same stretch of the whole: its
level and color differ a little. Two measures keep the seams inaudible. Neighboring windows overlap, and only
the middle of the overlap is used, where each has `CONTEXT_LATENTS` more to look at. There one is faded into
the other over `RAMP_LATENTS`: latents when encoding; samples when decoding, where both windows start from the
same noise (`m2l.streaming.noise`) and so agree in phase.

Latent i of the whole signal stands for the samples from i * 4096 of the audio padded by 3 hops in front. At most two
windows of audio are held. Latents, a 64th of the audio, are collected: 10 MB per hour and channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from m2l.config import Music2LatentConfig
from m2l.io.blocks import BlockReader
from m2l.streaming.noise import NoiseSource
from m2l.streaming.windows import Window, join_windows, plan_windows

#: Called with the seconds of audio done so far.
Progress = Callable[[float], None]
#: (B, samples) under a window -> (B, dim, latents).
Encode = Callable[[Tensor], Tensor]


class Decode(Protocol):
    """(B, latent_dim, l) latents -> (B, l * 4096 + 3 hops) audio; `noise(step)` gives unit noise for them."""

    def __call__(self, latents: Tensor, noise: Callable[[int], Tensor]) -> Tensor: ...


@dataclass(frozen=True)
class Windowing:
    """How a signal is cut: latents in a window, and items (windows times channels) in a network call."""

    config: Music2LatentConfig
    window: int
    batch: int = 1

    def groups(self, windows: Iterator[Window], channels: int) -> Iterator[list[Window]]:
        """Windows that fill one batch; all have one size, unless there is only one window."""
        while group := list(islice(windows, max(1, self.batch // channels))):
            yield group


class Timeline:
    """A reader's samples addressed by latent, at most two windows of them held at a time."""

    def __init__(self, config: Music2LatentConfig, reader: BlockReader) -> None:
        self._config = config
        self._reader = reader
        # The padding in front is the first thing the buffer holds.
        self._buffer: np.ndarray = np.zeros((reader.channels, config.lead_samples), np.float32)
        self._start = 0
        self.samples = 0
        self.ended = False

    def known(self, n_latents: int) -> int:
        wanted = n_latents * self._config.downsampling_ratio - self.samples
        if wanted > 0 and not self.ended:
            block = self._reader.read(wanted)
            self.ended = block.shape[1] < wanted
            self.samples += block.shape[1]
            self._buffer = np.concatenate([self._buffer, block], axis=1)
        return min(n_latents, self._config.n_latents(self.samples)) if self.ended else n_latents

    def segment(self, window: Window) -> Tensor:
        """(channels, samples) under a window; what came before its start is forgotten."""
        ratio = self._config.downsampling_ratio
        forget = window.start * ratio - self._start
        self._buffer = self._buffer[:, forget:].copy()
        self._start += forget
        length = (window.stop - window.start) * ratio + self._config.lead_samples
        piece = torch.from_numpy(self._buffer[:, :length].copy())
        return torch.nn.functional.pad(piece, (0, length - piece.shape[1]))


def encode_long(
    encode: Encode, reader: BlockReader, cut: Windowing, progress: Progress | None = None
) -> Iterator[Tensor]:
    """Latents of a source of any length, piece by piece.

    Args:
        encode: the network, STFT included.
        reader: blocks at the model's rate.
        cut: how long windows and how large batches are.
        progress: called with the seconds done.

    Yields:
        (channels, dim, l) float32 on the CPU; `config.n_latents(samples)` latents in all.

    Raises:
        AudioError: from the reader.
        ValueError: if the reader's rate is not the model's.
    """
    config = cut.config
    if reader.sample_rate != config.sample_rate:
        raise ValueError(f"the model needs {config.sample_rate} Hz, the reader gives {reader.sample_rate} Hz")
    timeline = Timeline(config, reader)

    def parts() -> Iterator[tuple[Window, Tensor]]:
        for group in cut.groups(plan_windows(timeline.known, cut.window), reader.channels):
            audio = torch.cat([timeline.segment(one) for one in group])
            made = in_batches(partial(encode_items, encode, audio), len(audio), cut.batch)
            yield from zip(group, made.split(reader.channels), strict=True)

    done = 0
    for piece in join_windows(parts()):
        done += piece.shape[-1]
        if progress:
            progress(min(done * config.downsampling_ratio, timeline.samples) / config.sample_rate)
        yield piece


def decode_long(
    decode: Decode,
    read: Callable[[int, int], Tensor],
    n_latents: int,
    noise: NoiseSource,
    cut: Windowing,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Audio of latents of any length, piece by piece.

    Args:
        decode: the network, inverse STFT included.
        read: `read(start, stop)` gives (channels, latent_dim, stop - start) latents.
        n_latents: how many there are.
        noise: unit noise by place, see `m2l.streaming.noise`.
        cut: how long windows and how large batches are.
        progress: called with the seconds done.

    Yields:
        (channels, samples) float32 on the CPU, in [-1, 1]; n_latents * 4096 + 3 hops samples in all, of which the
        first 3 hops are the encoder's padding.
    """
    config = cut.config
    channels = len(read(0, 1))

    def parts() -> Iterator[tuple[Window, Tensor]]:
        for group in cut.groups(plan_windows(lambda n: min(n, n_latents), cut.window), channels):
            latents = torch.cat([read(one.start, one.stop) for one in group]).float()
            places = [(one.start, item) for one in group for item in range(channels)]
            made = in_batches(partial(decode_items, decode, latents, places, noise), len(places), cut.batch)
            yield from zip(group, made.split(channels), strict=True)

    done = 0
    for piece in join_windows(parts(), unit=config.downsampling_ratio):
        done += piece.shape[-1]
        if progress:
            progress(done / config.sample_rate)
        yield piece


def encode_items(encode: Encode, audio: Tensor, chosen: slice) -> Tensor:
    """Encode the chosen items."""
    return encode(audio[chosen])


def decode_items(
    decode: Decode, latents: Tensor, places: list[tuple[int, int]], noise: NoiseSource, chosen: slice
) -> Tensor:
    """Decode the chosen items, each from the noise of its place: (first latent, channel)."""
    size = latents.shape[-1]
    return decode(
        latents[chosen], lambda step: torch.cat([noise(item, first, size, step) for first, item in places[chosen]])
    )


def in_batches(call: Callable[[slice], Tensor], count: int, size: int) -> Tensor:
    """`call` on slices of `size` items, and on smaller ones once the device has no memory for that many."""
    made: list[Tensor] = []
    start = 0
    while start < count:
        try:
            made.append(call(slice(start, start + size)).cpu())
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            continue
        start += size
    return torch.cat(made)
