"""Decoding noise that depends on where it is used, and on nothing else.

Every latent of every item has its own random stream, keyed by (seed, item, denoising step, latent index). So a
decode gives the same audio whole or in windows, in any order and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2l.arrays import float_tensor
from m2l.config import Music2LatentConfig

#: `noise(item, first_latent, n_latents, step)`: unit noise (1, 2, n_bins, n_latents * time_downsampling).
NoiseSource = Callable[[int, int, int, int], Tensor]


def seeded_noise(config: Music2LatentConfig, seed: int) -> NoiseSource:
    """`latent_noise` of a seed."""

    def noise(item: int, first_latent: int, n_latents: int, step: int) -> Tensor:
        return latent_noise(
            config, seed=seed, n_items=1, n_latents=n_latents, first_latent=first_latent, first_item=item, step=step
        )

    return noise


def noise_source(
    config: Music2LatentConfig,
    *,
    seed: int = 0,
    generator: torch.Generator | None = None,
    start: Tensor | None = None,
    channels: int = 1,
) -> NoiseSource:
    """The noise of a decode.

    Args:
        config: gives bins and frames per latent.
        seed: seed of the noise.
        generator: one whole number is drawn from it, and is the seed instead.
        start: (items, 2, n_bins, frames), the noise of step 0 instead; later steps come from the seed.
        channels: so many neighboring items share what is drawn from the seed; 1 gives each its own.
    """
    if generator is not None:
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    drawn = seeded_noise(config, seed)

    def noise(item: int, first_latent: int, n_latents: int, step: int) -> Tensor:
        if start is None or step:
            return drawn(item // channels, first_latent, n_latents, step)
        frames = config.time_downsampling
        return start[item : item + 1, ..., first_latent * frames : (first_latent + n_latents) * frames]

    return noise


def start_noise(config: Music2LatentConfig, noise: Any, n_items: int, n_latents: int) -> Tensor:
    """A caller's own noise of step 0, as float32.

    Args:
        config: gives bins and frames per latent.
        noise: (n_items, 2, n_bins, n_latents * time_downsampling), of unit variance.
        n_items, n_latents: of the latents to decode.

    Raises:
        ValueError: for another shape, or numbers that are not finite.
    """
    tensor = float_tensor(noise, "noise")
    shape = (n_items, 2, config.n_bins, n_latents * config.time_downsampling)
    if tuple(tensor.shape) != shape:
        raise ValueError(f"noise must have shape {shape} for these latents, not {tuple(tensor.shape)}")
    return tensor


def latent_noise(
    config: Music2LatentConfig,
    *,
    seed: int,
    n_items: int,
    n_latents: int,
    first_latent: int = 0,
    first_item: int = 0,
    step: int = 0,
) -> Tensor:
    """Unit-variance noise for a stretch of latents.

    Args:
        config: gives bins and frames per latent.
        seed: any non-negative integer.
        n_items: items (channels of the audio, say), numbered from `first_item`.
        n_latents: latents, numbered from `first_latent`.
        first_latent: position of the stretch in the whole signal.
        first_item: number of the first item.
        step: denoising step the noise is for; 0 is the start.

    Returns:
        (n_items, 2, n_bins, n_latents * time_downsampling) float32 on the CPU.

    Raises:
        ValueError: if seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, is {seed}")
    frames = config.time_downsampling
    noise = np.empty((n_items, 2, config.n_bins, n_latents, frames), dtype=np.float32)
    for item in range(n_items):
        for latent in range(n_latents):
            key = np.random.SeedSequence([seed, first_item + item, step, first_latent + latent])
            stream = np.random.Generator(np.random.SFC64(key))
            noise[item, :, :, latent] = stream.standard_normal((2, config.n_bins, frames), dtype=np.float32)
    return torch.from_numpy(noise.reshape(n_items, 2, config.n_bins, n_latents * frames))
