"""The functions of the published package's `inference` module, by their names and arguments.

    from m2l.inference import encode_audio_inference     # was: from music2latent.inference import …

`trainer` is anything whose `gen` is a `Music2Latent`, such as an `EncoderDecoder`. All run without gradients.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2l.arrays import without_gradients
from m2l.config import create_config
from m2l.encoder_decoder import EncoderDecoder
from m2l.model import Music2Latent
from m2l.representation import representation_to_waveform, waveform_to_representation


def to_representation_encoder(x: Tensor) -> Tensor:
    """(channels, samples) at 44.1 kHz -> (channels, 2, 1024, T) of the published model; differentiable."""
    return waveform_to_representation(x, create_config("paper"))


to_representation = to_representation_encoder


def to_waveform(x: Tensor) -> Tensor:
    """Inverse of `to_representation_encoder`: (channels, 512 T + 1536) in [-1, 1]; differentiable."""
    return representation_to_waveform(x, create_config("paper"))


def encode_audio_inference(
    audio_path: str | os.PathLike[str] | np.ndarray | Tensor,
    trainer: Any,
    max_waveform_length_encode: int | None,
    max_batch_size_encode: int | None,
    device: str | torch.device | None = None,
    extract_features: bool = False,
) -> Tensor:
    """`EncoderDecoder.encode` of `trainer.gen`, which is put on `device` first and stays where it is if None."""
    return _codec(trainer, device).encode(
        audio_path, max_waveform_length_encode, max_batch_size_encode, extract_features
    )


def decode_latent_inference(
    latent: np.ndarray | Tensor,
    trainer: Any,
    max_waveform_length_decode: int | None,
    max_batch_size_decode: int | None,
    diffusion_steps: int = 1,
    device: str | torch.device | None = None,
) -> Tensor:
    """`EncoderDecoder.decode` of `trainer.gen`, which is put on `device` first and stays where it is if None."""
    return _codec(trainer, device).decode(latent, diffusion_steps, max_waveform_length_decode, max_batch_size_decode)


@without_gradients
def decode_to_representation(
    model: Music2Latent, latents: Tensor, diffusion_steps: int = 1, device: str | torch.device | None = None
) -> Tensor:
    """Latents as the network has them, in (-1, 1), to (B, 2, n_bins, 8 L) on the CPU; noise as `EncoderDecoder`'s."""
    codec = EncoderDecoder.around(model.to(device or model.device).eval())
    return codec.decode_batch(latents / model.config.latent_scale, len(latents), n_steps=diffusion_steps)


def _codec(trainer: Any, device: str | torch.device | None) -> EncoderDecoder:
    trainer.gen = trainer.gen.to(device or trainer.gen.device).eval()
    return EncoderDecoder.around(trainer.gen)
