"""Any length at constant memory: overlapping windows, joined by cross-fades where both sides have context.

The network normalizes over time (group norm), so a window is not exactly the same stretch of the whole: its
level and color differ a little. Two measures keep the seams inaudible. Neighboring windows overlap, and only
the middle of the overlap is used, where either has `CONTEXT_LATENTS` more to look at. There one is faded into
the other over `RAMP_LATENTS`: latents when encoding; samples when decoding, where both windows start from the
same noise (`m2l.streaming.noise`) and so agree in phase.

Latent i of the whole signal stands for the samples from i * 4096 of the audio padded by 3 hops in front. Audio
is held for two windows, never for the whole. Latents, a 64th of the audio, are collected: 10 MB per hour and
channel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from m2l.io.blocks import AudioReader, BlockReader, audio_writer
from m2l.io.latents import LatentsInfo, LatentsReader, write_latents
from m2l.representation import representation_to_waveform, waveform_to_representation
from m2l.streaming.noise import NoiseSource, seeded_noise
from m2l.streaming.windows import Window, join_windows, plan_windows

if TYPE_CHECKING:
    from m2l.model import Music2Latent

#: Called with the seconds of audio done so far.
Progress = Callable[[float], None]


def _lead(model: Music2Latent) -> int:
    """Samples of padding in front of the audio: 3 hops, which are covered by fewer than 4 STFT windows."""
    return model.config.n_fft - model.config.hop_length


class _Timeline:
    """A reader's samples addressed by latent, at most two windows of them held at a time."""

    def __init__(self, model: Music2Latent, reader: BlockReader) -> None:
        self._model = model
        self._reader = reader
        self._hop = model.config.downsampling_ratio
        # The padding in front is the first thing the buffer holds.
        self._buffer: np.ndarray = np.zeros((reader.channels, _lead(model)), np.float32)
        self._start = 0
        self.samples = 0
        self.ended = False

    def known(self, n_latents: int) -> int:
        wanted = n_latents * self._hop - self.samples
        if wanted > 0 and not self.ended:
            block = self._reader.read(wanted)
            self.ended = block.shape[1] < wanted
            self.samples += block.shape[1]
            self._buffer = np.concatenate([self._buffer, block], axis=1)
        return min(n_latents, self._model.n_latents(self.samples)) if self.ended else n_latents

    def segment(self, window: Window) -> Tensor:
        """(channels, samples) under a window; what came before its start is forgotten."""
        forget = window.start * self._hop - self._start
        self._buffer = self._buffer[:, forget:].copy()
        self._start += forget
        length = (window.stop - window.start) * self._hop + _lead(self._model)
        piece = torch.from_numpy(self._buffer[:, :length].copy())
        return torch.nn.functional.pad(piece, (0, length - piece.shape[1]))


def encode_long(
    model: Music2Latent,
    reader: BlockReader,
    *,
    network: Callable[[Tensor], Tensor] | None = None,
    window: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Latents of a source of any length, piece by piece.

    Args:
        model: the autoencoder.
        reader: blocks at the model's rate.
        network: representation -> (B, dim, L); `model.encode_representation` if None.
        window: latents per window; `model.WINDOW_LATENTS` if None.
        progress: called with the seconds done.

    Yields:
        (channels, dim, l) float32 on the CPU; their concatenation has `model.n_latents(samples)` latents.

    Raises:
        AudioError: from the reader.
        ValueError: if the reader's rate is not the model's.
    """
    config = model.config
    if reader.sample_rate != config.sample_rate:
        raise ValueError(f"the model needs {config.sample_rate} Hz, the reader gives {reader.sample_rate} Hz")
    run = network or model.encode_representation
    timeline = _Timeline(model, reader)

    def parts() -> Iterator[tuple[Window, Tensor]]:
        planned = plan_windows(timeline.known, window or model.WINDOW_LATENTS)
        for group in _groups(model, planned, reader.channels):
            audio = torch.cat([timeline.segment(one) for one in group])

            def encode(chosen: slice, audio: Tensor = audio) -> Tensor:
                return run(waveform_to_representation(audio[chosen].to(model.device), config))

            made = _in_batches(encode, len(audio), _batch_items(model))
            yield from zip(group, made.split(reader.channels), strict=True)

    done = 0
    for piece in join_windows(parts()):
        done += piece.shape[-1]
        if progress:
            progress(min(done * config.downsampling_ratio, timeline.samples) / config.sample_rate)
        yield piece


def decode_long(
    model: Music2Latent,
    read: Callable[[int, int], Tensor],
    n_latents: int,
    *,
    n_steps: int = 1,
    seed: int = 0,
    noise: NoiseSource | None = None,
    window: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Audio of latents of any length, piece by piece.

    Args:
        model: the autoencoder.
        read: `read(start, stop)` gives (channels, latent_dim, stop - start) latents.
        n_latents: how many there are.
        n_steps: denoising steps.
        seed: of the noise, see `m2l.streaming.noise`.
        noise: the noise itself, instead of a seed.
        window: latents per window; `model.WINDOW_LATENTS` if None.
        progress: called with the seconds done.

    Yields:
        (channels, samples) float32 on the CPU, in [-1, 1]; all together n_latents * 4096 + 3 hops samples, of
        which the first 3 hops are the encoder's padding.
    """
    config = model.config
    channels = len(read(0, 1))
    source = seeded_noise(config, seed) if noise is None else noise

    def parts() -> Iterator[tuple[Window, Tensor]]:
        planned = plan_windows(lambda n: min(n, n_latents), window or model.WINDOW_LATENTS)
        for group in _groups(model, planned, channels):
            latents = torch.cat([read(one.start, one.stop) for one in group]).float()
            places = [(one.start, item) for one in group for item in range(channels)]
            decode = partial(_decode_windows, model, latents, places, n_steps, source)
            made = _in_batches(decode, len(places), _batch_items(model))
            yield from zip(group, made.split(channels), strict=True)

    done = 0
    for piece in join_windows(parts(), unit=config.downsampling_ratio):
        done += piece.shape[-1]
        if progress:
            progress(done / config.sample_rate)
        yield piece


def _decode_windows(
    model: Music2Latent,
    all_latents: Tensor,
    all_places: list[tuple[int, int]],
    n_steps: int,
    source: NoiseSource,
    chosen: slice,
) -> Tensor:
    """Decode the chosen of (B, latent_dim, l), each from the noise of its place: (first latent, item)."""
    latents, places = all_latents[chosen], all_places[chosen]

    def noise(step: int) -> Tensor:
        return torch.cat([source(item, first, latents.shape[-1], step) for first, item in places])

    representation = model.decode_representation(
        latents, noise(0), n_steps=n_steps, renoise=lambda x, step: noise(step).to(x.device)
    )
    return representation_to_waveform(representation, model.config)


def _groups(model: Music2Latent, windows: Iterator[Window], channels: int) -> Iterator[list[Window]]:
    # Several windows at once only where that is faster: on an accelerator, until its batch is full. They are all
    # of one size, unless there is but one.
    count = max(1, _batch_items(model) // channels)
    while group := list(islice(windows, count)):
        yield group


def _in_batches(call: Callable[[slice], Tensor], count: int, size: int) -> Tensor:
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


def _batch_items(model: Music2Latent) -> int:
    # On the CPU a batch only costs memory.
    return 1 if model.device.type == "cpu" else model.BATCH_ITEMS


# --- arrays in memory: what `Music2Latent.encode` and `decode` do beyond one window ---------------------------


class _TensorReader:
    """`BlockReader` over items that are already at the model's rate."""

    def __init__(self, items: Tensor, sample_rate: int) -> None:
        self.sample_rate = self.source_rate = sample_rate
        self.channels = len(items)
        self.source_samples = 0
        self.expected_samples: int | None = items.shape[1]
        self._items = items.cpu().numpy()

    def read(self, samples: int) -> np.ndarray:
        block = self._items[:, self.source_samples : self.source_samples + samples]
        self.source_samples += block.shape[1]
        return block


def analyze_long(model: Music2Latent, items: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
    """(items, samples) at the model's rate -> (items, dim, L) through `network`, in windows."""
    reader = _TensorReader(items, model.config.sample_rate)
    return torch.cat(list(encode_long(model, reader, network=network)), dim=-1)


def synthesize(model: Music2Latent, items: Tensor, *, n_steps: int, noise: NoiseSource) -> Tensor:
    """(items, latent_dim, L) -> (items, 4096 L + 3 hops) audio on the CPU, in windows if it is long."""
    pieces = decode_long(
        model, lambda start, stop: items[..., start:stop], items.shape[-1], n_steps=n_steps, noise=noise
    )
    return torch.cat(list(pieces), dim=-1)


# --- file to file ---------------------------------------------------------------------------------------------


def encode_file(
    model: Music2Latent,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    name: str | None = None,
    checkpoint: str = "",
    digest: str | None = None,
    window: int | None = None,
    incomplete: bool = False,
    progress: Progress | None = None,
) -> LatentsInfo:
    """Encode an audio file into a latents file (`m2l.io.latents`).

    Args:
        model: the autoencoder.
        source: audio file.
        target: latents file; written beside and renamed.
        name: of the source, for the file's metadata; `source`'s own if None.
        checkpoint: how to find the model again, for the file's metadata.
        digest: `model.digest()` if already known.
        window: latents per window.
        incomplete: encode what is there of a source that is cut short, with a warning, instead of refusing it.
        progress: called with the seconds done.

    Returns:
        What the file's metadata says.

    Raises:
        AudioError: if the source cannot be used.
        OSError: if a file cannot be read or written.
    """
    latents, reader = _encode(model, source, window, incomplete, progress)
    info = LatentsInfo(
        channels=reader.channels,
        latent_dim=latents.shape[1],
        n_latents=latents.shape[2],
        sample_rate=reader.source_rate,
        samples=reader.source_samples,
        model_sample_rate=model.config.sample_rate,
        downsampling_ratio=model.config.downsampling_ratio,
        model=model.config.name,
        checkpoint=checkpoint,
        digest=digest or model.digest(),
        source=os.path.basename(os.fspath(source)) if name is None else name,
    )
    write_latents(target, latents, info)
    return info


def decode_file(
    model: Music2Latent,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    n_steps: int = 1,
    seed: int = 0,
    subtype: str | None = None,
    window: int | None = None,
    progress: Progress | None = None,
) -> LatentsInfo:
    """Decode a latents file into an audio file of the original's rate, channels and length.

    Args:
        model: the autoencoder that made the latents.
        source: latents file.
        target: audio file; its suffix chooses the format.
        n_steps: denoising steps.
        seed: of the noise.
        subtype: sample format, see `m2l.audio.write_audio`.
        window: latents per window.
        progress: called with the seconds done.

    Returns:
        The latents file's metadata.

    Raises:
        LatentsError: if the source is no latents file, is damaged, or does not fit the model.
        OSError, AudioError: if a file cannot be read or written.
    """
    with LatentsReader(source) as reader:
        reader.info.check_model(model.config, os.fspath(source))
        pieces = decode_long(
            model,
            lambda start, stop: torch.from_numpy(reader.read(start, stop)),
            reader.info.n_latents,
            n_steps=n_steps,
            seed=seed,
            window=window,
            progress=progress,
        )
        info = reader.info
        _write_pieces(model, pieces, target, info.sample_rate, info.channels, info.samples, subtype)
        return info


def reconstruct_file(
    model: Music2Latent,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    n_steps: int = 1,
    seed: int = 0,
    subtype: str | None = None,
    window: int | None = None,
    incomplete: bool = False,
    progress: Progress | None = None,
) -> tuple[int, int, int]:
    """Encode and decode an audio file; the result has its rate, channels and exact length.

    Takes the arguments of `decode_file`, with an audio file as `source`, and `incomplete` of `encode_file`; `progress`
    counts both passes.

    Returns:
        (sample_rate, channels, samples).

    Raises:
        AudioError: if the source cannot be used.
        OSError: if a file cannot be read or written.
    """
    latents, reader = _encode(model, source, window, incomplete, progress)
    tensor = torch.from_numpy(latents)
    seconds = reader.source_samples / reader.source_rate
    pieces = decode_long(
        model,
        lambda start, stop: tensor[..., start:stop],
        tensor.shape[-1],
        n_steps=n_steps,
        seed=seed,
        window=window,
        progress=None if progress is None else lambda done: progress(seconds + min(done, seconds)),
    )
    shape = (reader.source_rate, reader.channels, reader.source_samples)
    _write_pieces(model, pieces, target, *shape, subtype)
    return shape


def _encode(
    model: Music2Latent,
    source: str | os.PathLike[str],
    window: int | None,
    incomplete: bool,
    progress: Progress | None,
) -> tuple[np.ndarray, AudioReader]:
    with AudioReader(source, model.config.sample_rate, incomplete=incomplete) as reader:
        pieces = [piece.numpy() for piece in encode_long(model, reader, window=window, progress=progress)]
        return np.concatenate(pieces, axis=-1), reader


def _write_pieces(
    model: Music2Latent,
    pieces: Iterator[Tensor],
    target: str | os.PathLike[str],
    rate: int,
    channels: int,
    samples: int,
    subtype: str | None,
) -> None:
    skip = _lead(model)
    model_rate = model.config.sample_rate
    with audio_writer(
        target, rate, channels, frames=samples, source_rate=model_rate, subtype=subtype, clip=True
    ) as writer:
        for piece in pieces:
            writer.write(piece[:, skip:].numpy())
            skip = max(0, skip - piece.shape[1])
