"""`EncoderDecoder`: the published package's interface on our model, number for number.

    from m2l import EncoderDecoder      # was: from music2latent import EncoderDecoder

Its conventions are kept, the inconvenient ones included: no resampling, up to 4095 samples cut off the end, long
signals cut into pieces without overlap, the last piece filled up with the signal's own beginning, noise from torch's
global generator in the order in which the published class draws it. `Music2Latent` has none of these. The functions
that others import from the package's modules are in `m2l.inference` and `m2l.audio`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2l.arrays import float_tensor, without_gradients
from m2l.audio import AudioError
from m2l.io.blocks import read_audio
from m2l.io.cache import HUB_NAME
from m2l.model import Music2Latent
from m2l.representation import n_frames, n_samples, representation_to_waveform, waveform_to_representation

#: The published defaults: 60 s at 44.1 kHz, one item at a time.
MAX_WAVEFORM_LENGTH = 44_100 * 60
MAX_BATCH_SIZE = 1


class EncoderDecoder:
    """Encode to and decode from the latents of the published Music2Latent.

    Both run without gradients, as in the published class, and warn when an input asks for one. With gradients:
    `gen.encoder(to_representation_encoder(audio)) / 0.06`, and `to_waveform(gen(0.06 * latents, 80 * noise))`.

    Attributes:
        gen: the network, with `encoder(representation, extract_features=False)`, `decoder(latents)` and a call
            `gen(latents, x, sigma)`; a `Music2Latent`.
        device: where it was put.

    Args:
        load_path_inference: checkpoint to load (anything `Music2Latent.from_pretrained` takes); the published
            weights, if they are on this machine, when None.
        device: "cuda", "cpu", …; CUDA if available when None.
        dtype: precision of the network, see `Music2Latent.from_pretrained`.
    """

    def __init__(
        self,
        load_path_inference: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        source = HUB_NAME if load_path_inference is None else load_path_inference
        self.gen = Music2Latent.from_pretrained(source, device=device, dtype=dtype)
        self.device = self.gen.device
        self.load_path_inference = load_path_inference

    @classmethod
    def around(cls, gen: Music2Latent) -> EncoderDecoder:
        """The published interface to a model that is loaded already."""
        made = cls.__new__(cls)
        made.gen, made.device, made.load_path_inference = gen, gen.device, None
        return made

    @without_gradients
    def encode(
        self,
        path_or_audio: str | os.PathLike[str] | np.ndarray | Tensor,
        max_waveform_length: int | None = None,
        max_batch_size: int | None = None,
        extract_features: bool = False,
    ) -> Tensor:
        """Audio -> latents.

        Args:
            path_or_audio: file, or (samples,) or (channels, samples) waveform taken to be at 44.1 kHz.
            max_waveform_length: longest piece in samples; longer signals are cut into pieces, without overlap.
            max_batch_size: pieces per network call.
            extract_features: return the 8192-dimensional encoder features instead, unscaled.

        Returns:
            (channels, 64, L) latents divided by 0.06, or (channels, 8192, L) features, with
            L = (samples // 512 - 3) // 8.

        Raises:
            AudioError: if the audio is shorter than 5632 samples (one latent), or oddly shaped.
        """
        config = self.gen.config
        audio = self._waveform(path_or_audio)
        ratio = config.time_downsampling
        frames = n_frames(audio.shape[-1], config) // ratio * ratio
        if frames == 0:
            raise AudioError(
                f"audio of {audio.shape[-1]} samples is shorter than one latent ({n_samples(ratio, config)} samples)"
            )
        representation = waveform_to_representation(audio[:, : n_samples(frames, config)], config)
        network = self.gen.features_representation if extract_features else self.gen.encode_representation
        longest = (max_waveform_length or MAX_WAVEFORM_LENGTH) // config.hop_length // ratio * ratio
        pieces, channels = _cut(representation, longest, "max_waveform_length"), len(representation)
        out = torch.cat([network(part) for part in pieces.split(max_batch_size or MAX_BATCH_SIZE)])
        return _join(out, channels)[..., : frames // ratio]

    @without_gradients
    def decode(
        self,
        latent: np.ndarray | Tensor,
        denoising_steps: int = 1,
        max_waveform_length: int | None = None,
        max_batch_size: int | None = None,
        *,
        noise: np.ndarray | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Latents -> audio.

        Args:
            latent: (channels, 64, L), or (64, L), as `encode` returns them.
            denoising_steps: steps of the consistency model.
            max_waveform_length: as in `encode`.
            max_batch_size: as in `encode`.
            noise: start noise of unit variance, (channels, 2, 1024, 8 L); not in the published class, whose results
                differ from run to run.
            generator: source of all other noise; torch's global one if None. After `torch.manual_seed` the noise is
                that of the published class.

        Returns:
            (channels, 4096 L + 1536) float32 on the CPU, in [-1, 1].

        Raises:
            ValueError: for latents or noise of a wrong shape.
        """
        config = self.gen.config
        latents = float_tensor(latent, "latent")
        if latents.dim() == 2:
            latents = latents[None]
        if latents.dim() != 3 or latents.shape[1] != config.latent_dim or 0 in latents.shape:
            raise ValueError(f"latent must be (channels, {config.latent_dim}, L), not {tuple(latents.shape)}")
        channels, _, length = latents.shape
        ratio = config.time_downsampling
        longest = (max_waveform_length or MAX_WAVEFORM_LENGTH) // config.hop_length // ratio
        pieces = _cut(latents, longest, "max_waveform_length")
        # The published class cuts one piece too many where the pieces just fill the length, and draws for it.
        count = channels * (length // longest + 1) if length > longest else channels
        starts = None
        if noise is not None:
            start, shape = float_tensor(noise, "noise"), (channels, 2, config.n_bins, ratio * length)
            if tuple(start.shape) != shape:
                raise ValueError(f"noise must have shape {shape} for these latents, not {tuple(start.shape)}")
            starts, count = _cut(start, longest * ratio, "max_waveform_length"), len(pieces)
        size = max_batch_size or MAX_BATCH_SIZE
        parts = []
        for first in range(0, count, size):
            batch = slice(first, min(first + size, count))
            begin = None if starts is None else starts[batch]
            parts.append(
                self.decode_batch(
                    pieces[batch], batch.stop - first, n_steps=denoising_steps, start=begin, generator=generator
                )
            )
        representation = _join(torch.cat(parts), channels)[..., : ratio * length]
        return representation_to_waveform(representation, config)

    def decode_batch(
        self,
        latents: Tensor,
        count: int,
        *,
        n_steps: int = 1,
        start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(b, 64, l) latents -> (b, 2, 1024, 8 l), the noise as the published class draws it for `count` items."""
        config = self.gen.config
        shape = (count, 2, config.n_bins, config.time_downsampling * latents.shape[-1])

        def draw(device: torch.device) -> Tensor:
            place = generator.device if generator else device
            return torch.randn(shape, generator=generator, dtype=torch.float32, device=place)[: len(latents)]

        begin = draw(torch.device("cpu")) if start is None else start
        made = begin.cpu()
        if len(latents):
            made = self.gen.decode_representation(
                latents, begin, n_steps=n_steps, renoise=lambda like, _: draw(like.device).to(like.device)
            )
        for _ in range(0 if start is not None else 1 if len(latents) else n_steps):
            draw(made.device)  # it draws after the last step, too, and decodes the piece too many
        return made.cpu()

    def _waveform(self, path_or_audio: Any) -> Tensor:
        audio = read_audio(path_or_audio)[0] if isinstance(path_or_audio, (str, os.PathLike)) else path_or_audio
        try:
            waveform = float_tensor(audio, "audio")
        except ValueError as error:
            raise AudioError(f"{error}; expected a float waveform (samples,) or (channels, samples)") from None
        if waveform.dim() == 1:
            waveform = waveform[None]
        if waveform.dim() != 2:
            raise AudioError(
                f"audio must be a float waveform (samples,) or (channels, samples), not {tuple(waveform.shape)}"
            )
        return waveform.to(self.gen.device)


def _cut(x: Tensor, longest: int, name: str) -> Tensor:
    """(C, …, T) -> (C * pieces, …, longest), piece-major; the last is filled with the signal's beginning."""
    if longest < 1:
        raise ValueError(f"{name} is shorter than one latent")
    length = x.shape[-1]
    if length <= longest:
        return x
    missing = -length % longest
    repeats = [x] * (1 + -(-missing // length))
    whole = torch.cat(repeats, dim=-1)[..., : length + missing]
    return torch.cat(whole.split(longest, dim=-1))


def _join(pieces: Tensor, channels: int) -> Tensor:
    return torch.cat(pieces.split(channels), dim=-1)
