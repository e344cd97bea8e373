"""The consistency model around the raw network: noise levels, preconditioning, sampling.

Equation numbers are the paper's. Where paper and published code differ, we follow the code, because its
weights and figures are what we compare with:

* Eq. 14 is misprinted: it has sigma^rho inside and ^rho outside. The mapping of EDM [28] that it cites, and
  the code, raise sigma to 1/rho inside (`sigma_from_t`).
* "Lognormal sampling of sigma": the code draws t with weights lognormal in sigma(t) on a grid that is uniform in
  t, without the Jacobian of the mapping, so sigma is not lognormal: its quantiles lie at almost twice those of
  the true lognormal (`sample_t`; `density="lognormal"` gives the true one).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from m2l.config import Music2LatentConfig
from m2l.unet import UNet

# --- noise levels ------------------------------------------------------------------------------------------


def sigma_from_t(t: Tensor, config: Music2LatentConfig) -> Tensor:
    """Eq. 14, corrected: (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho for t in [0, 1]."""
    low, high = config.sigma_min ** (1 / config.rho), config.sigma_max ** (1 / config.rho)
    return (low + t * (high - low)) ** config.rho


def t_from_sigma(sigma: Tensor, config: Music2LatentConfig) -> Tensor:
    """Inverse of `sigma_from_t`."""
    low, high = config.sigma_min ** (1 / config.rho), config.sigma_max ** (1 / config.rho)
    return (sigma ** (1 / config.rho) - low) / (high - low)


def step_size(step: int, total_steps: int, initial: float = 0.1, final_exponent: float = 3.0) -> float:
    """Eq. 13: Delta t at training step k of K, initial^(1 + (e_K - 1) k / K). 0.1 at the start, 0.001 at the end."""
    return initial ** (1 + (final_exponent - 1) * step / total_steps)


_TIME_GRID = 10_000


def sample_t(
    n: int,
    config: Music2LatentConfig,
    *,
    density: Literal["grid", "lognormal"] = "grid",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw training times t_{i+1} (Sec. 4.3).

    Args:
        n: how many.
        config: gives p_mean, p_std and the sigma mapping.
        density: "grid" as the published training does it: 10,000 points uniform in t, each weighted by the normal
            density of log sigma(t), plus a uniform draw inside the cell. "lognormal": sigma truly lognormal,
            clamped to [sigma_min, sigma_max].
        generator: source of randomness.

    Returns:
        (n,) float32 in [0, 1].
    """
    if density == "grid":
        grid = torch.linspace(0, 1, _TIME_GRID, dtype=torch.float64)
        score = (sigma_from_t(grid, config).log() - config.p_mean) / config.p_std
        weights = torch.exp(-0.5 * score.square())
        index = torch.multinomial(weights, n, replacement=True, generator=generator)
        jitter = torch.rand(n, generator=generator, dtype=torch.float64)
        return ((index + jitter) / (_TIME_GRID - 1)).clamp(max=1.0).float()
    if density == "lognormal":
        # The 0.8 % beyond either end are clamped to it.
        sigma = (config.p_mean + config.p_std * torch.randn(n, generator=generator, dtype=torch.float64)).exp()
        sigma = sigma.clamp(config.sigma_min, config.sigma_max)
        return t_from_sigma(sigma, config).clamp(min=0.0).float()
    raise ValueError(f"unknown density {density!r}: 'grid' or 'lognormal'")


# --- preconditioning ---------------------------------------------------------------------------------------


def preconditioning(sigma: Tensor, config: Music2LatentConfig) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in of iCT [6], shaped (B, 1, 1, 1).

    c_skip(sigma_min) = 1 and c_out(sigma_min) = 0, so that f(x, sigma_min) = x whatever the network says (Eq. 2).
    """
    sigma = sigma.float().reshape(-1, 1, 1, 1)
    data, above = config.sigma_data, sigma - config.sigma_min
    c_skip = data**2 / (above**2 + data**2)
    c_out = data * above / (sigma**2 + data**2).sqrt()
    c_in = 1 / (sigma**2 + data**2).sqrt()
    return c_skip, c_out, c_in


def denoise(unet: UNet, noisy: Tensor, sigma: Tensor, maps: list[Tensor], config: Music2LatentConfig) -> Tensor:
    """f_theta (Eq. 10): the clean representation that `noisy` = x + sigma * noise is taken to come from.

    Args:
        unet: the raw network F_theta.
        noisy: (B, 2, n_bins, T) float32.
        sigma: (B,) noise levels in [sigma_min, sigma_max].
        maps: the decoder's feature maps y_x.
        config: constants of the preconditioning.

    Returns:
        (B, 2, n_bins, T) float32, whatever the network's own precision.
    """
    c_skip, c_out, c_in = preconditioning(sigma, config)
    raw = unet((c_in * noisy).to(maps[0].dtype), sigma, maps)
    return c_skip * noisy + c_out * raw.float()


# --- sampling ----------------------------------------------------------------------------------------------


def sampling_sigmas(n_steps: int, config: Music2LatentConfig) -> list[float]:
    """Noise levels of an n-step decode, sigma_max first: n + 1 points of the Eq. 14 grid without the last one."""
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, not {n_steps}")
    t = torch.linspace(1, 0, n_steps + 1, dtype=torch.float64, device="cpu")[:-1]
    return sigma_from_t(t, config).tolist()


def sample(
    unet: UNet,
    maps: list[Tensor],
    noise: Tensor,
    config: Music2LatentConfig,
    *,
    n_steps: int = 1,
    renoise: Callable[[Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Multi-step consistency sampling (Algorithm 1 of [5]); one step is the paper's default.

    Args:
        unet: the raw network.
        maps: the decoder's feature maps.
        noise: (B, 2, n_bins, T) of unit variance; the start is sigma_max * noise.
        config: noise levels.
        n_steps: network evaluations.
        renoise: `renoise(like, step)` gives the unit noise added before step 1, 2, …; `torch.randn_like` if None.

    Returns:
        (B, 2, n_bins, T) float32.
    """
    x = config.sigma_max * noise.float()
    for step, sigma in enumerate(sampling_sigmas(n_steps, config)):
        if step:
            fresh = torch.randn_like(x) if renoise is None else renoise(x, step)
            x = x + math.sqrt(sigma**2 - config.sigma_min**2) * fresh
        level = torch.full((len(x),), sigma, dtype=torch.float32, device=x.device)
        x = denoise(unet, x, level, maps, config)
    return x
