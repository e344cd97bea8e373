"""The consistency model around the raw network: noise levels, preconditioning, sampling, training loss.

Equation numbers are the paper's. Where paper and published code differ, the code is followed, because its
weights and figures are what there is to compare with:

* Eq. 14 is misprinted: it has sigma^rho inside and ^rho outside. The mapping of EDM [28] that it cites, and
  the code, raise sigma to 1/rho inside (`sigma_from_t`).
* "Lognormal sampling of sigma": the code draws t with weights lognormal in sigma(t) on a grid that is uniform in
  t, without the Jacobian of the mapping, so sigma is not lognormal: its quantiles lie at almost twice those of
  the true lognormal (`sample_t`; `density="lognormal"` gives the true one).
* The distance of Eq. 9 is taken once over the whole tensor of an item, not per element (`pseudo_huber`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from m2l.config import Music2LatentConfig
from m2l.unet import UNet

if TYPE_CHECKING:
    from m2l.model import Music2Latent


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
        # The 0.8 % beyond either end are drawn in to it.
        sigma = (
            config.p_mean + config.p_std * torch.randn(n, generator=generator, dtype=torch.float64)
        ).exp()
        sigma = sigma.clamp(config.sigma_min, config.sigma_max)
        return t_from_sigma(sigma, config).clamp(0.0, 1.0).float()
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


def denoise(
    unet: UNet, noisy: Tensor, sigma: Tensor, pyramid: list[Tensor], config: Music2LatentConfig
) -> Tensor:
    """f_theta (Eq. 10): the clean representation that `noisy` = x + sigma * noise is taken to come from.

    Args:
        unet: the raw network F_theta.
        noisy: (B, 2, n_bins, T) float32.
        sigma: (B,) noise levels in [sigma_min, sigma_max].
        pyramid: the decoder's feature maps y_x.
        config: constants of the preconditioning.

    Returns:
        (B, 2, n_bins, T) float32, whatever the network's own precision.
    """
    c_skip, c_out, c_in = preconditioning(sigma, config)
    raw = unet((c_in * noisy).to(pyramid[0].dtype), sigma, pyramid)
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
    pyramid: list[Tensor],
    noise: Tensor,
    config: Music2LatentConfig,
    *,
    n_steps: int = 1,
    renoise: Callable[[Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Multi-step consistency sampling (Algorithm 1 of [5]); one step is the paper's default.

    Args:
        unet: the raw network.
        pyramid: the decoder's feature maps.
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
        x = denoise(unet, x, level, pyramid, config)
    return x


# --- training loss -----------------------------------------------------------------------------------------


def pseudo_huber(x: Tensor, y: Tensor) -> Tensor:
    """Eq. 9 over whole items: sqrt(|x - y|^2 + c^2) - c, with c = 0.00054 sqrt(d) for d numbers an item [6].

    Args:
        x: (B, …).
        y: like x.

    Returns:
        (B,) float32 distances.
    """
    squared = (x.float() - y.float()).flatten(1).square().sum(1)
    c = 0.00054 * math.sqrt(x[0].numel())
    return (squared + c**2).sqrt() - c


def output_weight(t: Tensor, delta_t: float | Tensor, config: Music2LatentConfig) -> Tensor:
    """(sigma_{i+1} - sigma_i) / c_out(sigma_{i+1}) of times t (B,): with it a loss of Eq. 11 is the distance of the
    raw network's outputs, as EDM [28] weighs noise levels, and no level drowns the others.

    Eq. 12's weights alone give an output error at sigma_max a hundredth of the gradient of one at sigma_min.
    """
    sigma_next = sigma_from_t(t.float(), config)
    sigma = sigma_from_t((t.float() - delta_t).clamp(min=0.0), config)
    _, c_out, _ = preconditioning(sigma_next, config)
    return (sigma_next - sigma) / c_out.flatten().clamp_min(1e-4)


def consistency_outputs(
    model: Music2Latent,
    representation: Tensor,
    t: Tensor,
    delta_t: float | Tensor,
    noise: Tensor,
    pyramid: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What Eq. 11 compares: f(x_{i+1}, sigma_{i+1}, y_x) and sg f(x_i, sigma_i, y_x) with t_i = max(t - Delta t, 0).

    Teacher and student are the same weights, see the same noise and the same pyramid, computed once; the teacher
    carries no gradient, so encoder and decoder learn through the student alone.

    Args:
        model: the autoencoder.
        representation: (B, 2, n_bins, T) clean representations x.
        t: (B,) the later times t_{i+1} in [0, 1].
        delta_t: step size of Eq. 13; or (B,), one for each item. A step of 1 has the clean input for its teacher.
        noise: like `representation`, unit variance.
        pyramid: the decoder's maps of these representations, if they are at hand.

    Returns:
        The student's and the teacher's output, both (B, 2, n_bins, T), and (B,) gaps sigma_{i+1} - sigma_i.
    """
    config = model.config
    sigma_next = sigma_from_t(t.float(), config)
    sigma = sigma_from_t((t.float() - delta_t).clamp(min=0.0), config)

    def noisy(level: Tensor) -> Tensor:
        return representation + level.reshape(-1, 1, 1, 1) * noise

    if pyramid is None:
        pyramid = model.decoder(model.encoder(representation))
    student = denoise(model.unet, noisy(sigma_next), sigma_next, pyramid, config)
    with torch.no_grad():
        teacher = noisy(sigma)
        # At sigma_min f is the identity (Eq. 2), whatever the network says: it is not asked.
        asked = (sigma > config.sigma_min).nonzero().flatten()
        if torch.compiler.is_compiling() or len(asked) == len(sigma):  # a graph has one shape
            teacher = denoise(model.unet, teacher, sigma, pyramid, config)
        elif len(asked):
            some = [level[asked] for level in pyramid]
            teacher[asked] = denoise(model.unet, teacher[asked], sigma[asked], some, config)
    return student, teacher, sigma_next - sigma


def consistency_loss(
    model: Music2Latent, representation: Tensor, t: Tensor, delta_t: float | Tensor, noise: Tensor
) -> Tensor:
    """Eq. 10-12: lambda d(student, teacher) of `consistency_outputs`, which explains the arguments.

    Returns:
        (B,) losses. An item with t = 0 has sigma_{i+1} = sigma_i and no defined weight: its loss is 0.
    """
    return weighted_distance(*consistency_outputs(model, representation, t, delta_t, noise))


def weighted_distance(student: Tensor, teacher: Tensor, gap: Tensor) -> Tensor:
    """lambda d(student, teacher) (Eq. 9, 12) of the outputs and (B,) gaps of `consistency_outputs`: (B,) losses."""
    return torch.where(gap > 0, pseudo_huber(student, teacher) / gap.clamp_min(1e-12), 0.0)
