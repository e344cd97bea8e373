"""Files through the model at constant memory: audio to latents, latents to audio, audio to audio."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from m2l.io.blocks import AudioReader, audio_writer
from m2l.io.latents import LatentsInfo, LatentsReader, write_latents
from m2l.model import Music2Latent
from m2l.streaming.long import Progress


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
        name: name of the source in the file's metadata; `source`'s own if None.
        checkpoint: how to find the model again, for the file's metadata.
        digest: `model.digest()` if already known.
        window: latents per window.
        incomplete: encode what exists of a source that is cut short, with a warning, instead of refusing it.
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
        seed: seed of the noise.
        subtype: sample format, see `m2l.io.blocks.write_audio`.
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
        pieces = model.decode_blocks(
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
    pieces = model.decode_blocks(
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
    model: Music2Latent, source: str | os.PathLike[str], window: int | None, incomplete: bool, progress: Progress | None
) -> tuple[np.ndarray, AudioReader]:
    with AudioReader(source, model.config.sample_rate, incomplete=incomplete) as reader:
        pieces = [piece.numpy() for piece in model.encode_blocks(reader, window=window, progress=progress)]
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
    skip = model.config.lead_samples
    model_rate = model.config.sample_rate
    with audio_writer(
        target, rate, channels, frames=samples, source_rate=model_rate, subtype=subtype, clip=True
    ) as writer:
        for piece in pieces:
            writer.write(piece[:, skip:].numpy())
            skip = max(0, skip - piece.shape[1])
