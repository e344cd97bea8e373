"""Encoding and decoding by blocks as they come: the windows, seams and noise of `m2l.streaming.long`, pushed.

A window is computed once all that it rests on is there, which is when the length of the window after it is known. So
what comes out lags behind what went in by up to two windows, and is the same whatever the blocks were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2l.arrays import float_tensor, like, without_gradients
from m2l.audio import AudioError, as_channels_first
from m2l.config import Music2LatentConfig
from m2l.io.blocks import PushReader, Resampler
from m2l.streaming.long import Decode, Encode, Timeline, Windowing, decode_items, encode_items, in_batches
from m2l.streaming.noise import NoiseSource
from m2l.streaming.windows import OVERLAP_LATENTS, Window, join_windows, plan_windows


class Stream:
    """Audio to latents and latents to audio, block by block; `Music2Latent.stream` makes one. It has two ends, each of
    which starts anew after its last block.

    Args:
        encode: audio at the model's rate -> latents.
        decode: latents and their noise -> audio at the model's rate.
        noise: the decoder's, by place.
        cut: how long windows and how large batches are.
        sample_rate: of the blocks of audio, in Hz.
        channels: of the blocks.
    """

    def __init__(
        self, encode: Encode, decode: Decode, noise: NoiseSource, cut: Windowing, sample_rate: int, channels: int
    ) -> None:
        if channels < 1:
            raise ValueError(f"channels must be at least 1, not {channels}")
        self.config, self.channels, self.sample_rate = cut.config, channels, sample_rate
        self._new_encoder = partial(_Encoder, encode, cut, sample_rate, channels)
        self._new_decoder = partial(_Decoder, decode, noise, cut, sample_rate, channels)
        self._encoder: _Encoder = self._new_encoder()
        self._decoder: _Decoder = self._new_decoder()

    @without_gradients
    def encode(self, block: Any, *, last: bool = False) -> Any:
        """The latents that are final after this block.

        Args:
            block: (channels, n) or, of one channel, (n,), n of any size, 0 too; numpy or torch.
            last: whether the audio ends with it.

        Returns:
            (channels, latent_dim, l), l of any size; joined they are `Music2Latent.encode` of the whole.

        Raises:
            AudioError: another number of channels, or samples that are not finite; no sample at all at the end.
        """
        samples = as_channels_first(block) if np.size(block) else np.zeros((self.channels, 0), np.float32)
        if samples.ndim != 2 or len(samples) != self.channels:
            raise AudioError(f"a block has shape {np.shape(block)}; this stream has {self.channels} channel(s)")
        pieces = self._encoder.push(np.asarray(samples, np.float32), last)
        if last:
            self._encoder = self._new_encoder()
        return like(block, _joined(pieces, (self.channels, self.config.latent_dim)))

    @without_gradients
    def decode(self, latents: Any, *, last: bool = False) -> Any:
        """The audio that is final after these latents.

        Args:
            latents: (channels, latent_dim, l), l of any size, 0 too; numpy or torch.
            last: whether the latents end with them.

        Returns:
            (channels, n) at the stream's rate; joined they are `Music2Latent.decode` of the whole.

        Raises:
            ValueError: latents of another shape, or not finite; none at all at the end.
        """
        tensor = float_tensor(latents, "latents")
        shape = (self.channels, self.config.latent_dim)
        if tensor.dim() != 3 or tuple(tensor.shape[:2]) != shape:
            raise ValueError(f"latents must be {(*shape, 'l')}, not {tuple(tensor.shape)}")
        audio = self._decoder.push(tensor, last)
        if last:
            self._decoder = self._new_decoder()
        return like(latents, torch.from_numpy(audio))


class _Windows:
    """The windows of a signal that grows, each computed once and joined to the one before.

    Args:
        known: for `plan_windows`; only called for what is there.
        size: latents per window.
        unit: signal positions per latent.
        run: the signal of a window.
    """

    def __init__(self, known: Callable[[int], int], size: int, unit: int, run: Callable[[Window], Tensor]) -> None:
        self._plan, self._run = plan_windows(known, size), run
        self._parts = join_windows(self._made(), unit)
        self._step = size - OVERLAP_LATENTS
        self._need = size + self._step
        self._window: Window | None = None

    def _made(self) -> Iterator[tuple[Window, Tensor]]:
        for window in self._plan:
            self._window = window
            yield window, self._run(window)

    def pieces(self, there: int, ended: bool) -> list[Tensor]:
        """What is final now that so many latents are there, or all."""
        found: list[Tensor] = []
        while ended or there >= self._need:
            found.append(next(self._parts))
            assert self._window is not None
            if self._window.fade_in is not None:  # that was the seam before it
                found.append(next(self._parts))
            self._need += self._step
            if self._window.fade_out is None:
                break
        return found


class _Encoder:
    def __init__(self, encode: Encode, cut: Windowing, sample_rate: int, channels: int) -> None:
        self._ratio = cut.config.downsampling_ratio
        self._reader = PushReader(sample_rate, cut.config.sample_rate, channels)
        self._timeline = timeline = Timeline(cut.config, self._reader)

        def run(window: Window) -> Tensor:
            audio = timeline.segment(window)
            return in_batches(partial(encode_items, encode, audio), len(audio), cut.batch)

        self._windows = _Windows(timeline.known, cut.window, 1, run)

    def push(self, block: np.ndarray, last: bool) -> list[Tensor]:
        self._reader.push(block, last)
        there = (self._timeline.samples + self._reader.available) // self._ratio
        return self._windows.pieces(there, last)


class _Decoder:
    def __init__(self, decode: Decode, noise: NoiseSource, cut: Windowing, sample_rate: int, channels: int) -> None:
        self._config: Music2LatentConfig = cut.config
        self._resampler = Resampler(cut.config.sample_rate, sample_rate, channels)
        self._latents = torch.zeros(channels, cut.config.latent_dim, 0)
        self._start = self._samples = 0
        self._ended = False

        def known(n: int) -> int:
            return min(n, self._there) if self._ended else n

        def run(window: Window) -> Tensor:
            self._latents = self._latents[..., window.start - self._start :].clone()
            self._start = window.start
            latents = self._latents[..., : window.stop - window.start]
            places = [(window.start, item) for item in range(channels)]
            return in_batches(partial(decode_items, decode, latents, places, noise), channels, cut.batch)

        self._windows = _Windows(known, cut.window, cut.config.downsampling_ratio, run)

    @property
    def _there(self) -> int:
        return self._start + self._latents.shape[-1]

    def push(self, latents: Tensor, last: bool) -> np.ndarray:
        self._latents, self._ended = torch.cat([self._latents, latents.float().cpu()], dim=-1), last
        if last and not self._there:
            raise ValueError("the stream ends without any latents")
        pieces = self._windows.pieces(self._there, last)
        audio = _joined(pieces, (len(self._latents),)).numpy()
        # The encoder's padding in front goes, and as much behind.
        lead = self._config.lead_samples
        start, self._samples = self._samples, self._samples + audio.shape[1]
        stop = self._there * self._config.downsampling_ratio if last else self._samples
        block = audio[:, max(0, lead - start) : max(0, stop - start)]
        return np.clip(self._resampler.push(block, last), -1.0, 1.0)


def _joined(pieces: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.cat([torch.zeros(*shape, 0), *pieces], dim=-1)
