"""Noise levels, preconditioning, time sampling, distance, sampling: the paper's equations and their traps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm
from training_helpers import moved_model

from m2l import Music2Latent, create_config
from m2l import consistency as C
from m2l.training import losses as L

CONFIG = create_config("paper")


def test_sigma_runs_from_sigma_min_to_sigma_max() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    sigma = C.sigma_from_t(t, CONFIG)
    assert float(sigma[0]) == pytest.approx(0.002, rel=1e-9)
    assert float(sigma[-1]) == pytest.approx(80.0, rel=1e-9)
    assert bool((sigma.diff() > 0).all())


@given(st.floats(0.002, 80.0))
def test_t_from_sigma_inverts(sigma: float) -> None:
    t = C.t_from_sigma(torch.tensor(sigma, dtype=torch.float64), CONFIG)
    assert 0 <= float(t) <= 1
    assert float(C.sigma_from_t(t, CONFIG)) == pytest.approx(sigma, rel=1e-9)


@pytest.mark.parametrize(("share", "expected"), [(0, 0.1), (0.25, 0.0316), (0.5, 0.01), (0.75, 0.00316), (1, 0.001)])
def test_step_size_schedule(share: float, expected: float) -> None:
    assert C.step_size(round(share * 800_000), 800_000) == pytest.approx(expected, rel=2e-3)


def test_times_of_the_grid_are_a_cell_and_a_place_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 points uniform in t, weighted by the normal density of log sigma (mean -1.1, deviation 2)."""
    weights: list[torch.Tensor] = []

    def multinomial(given: torch.Tensor, n: int, *, replacement: bool, generator: Any) -> torch.Tensor:
        assert (n, replacement) == (4, True)
        weights.append(given)
        return torch.tensor([0, 1, 5000, 9999])

    monkeypatch.setattr(torch, "multinomial", multinomial)
    monkeypatch.setattr(torch, "rand", lambda n, **options: torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64))
    t = C.sample_t(4, CONFIG)
    assert t.dtype == torch.float32
    assert t.tolist() == pytest.approx([0.0, 1.25 / 9999, 5000.5 / 9999, 1.0], rel=1e-6)
    assert float(t[3]) == 1.0
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    density = norm.pdf(7 * np.log(low + np.linspace(0, 1, 10_000) * (high - low)), -1.1, 2)
    np.testing.assert_allclose(weights[0] / weights[0].sum(), density / density.sum(), rtol=1e-9)


def test_lognormal_times_are_the_normals_of_the_generator() -> None:
    z = torch.randn(20_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    t = C.sample_t(20_000, CONFIG, density="lognormal", generator=torch.Generator().manual_seed(3))
    assert t.dtype == torch.float32
    sigma = C.sigma_from_t(t.double(), CONFIG).numpy()
    np.testing.assert_allclose(sigma, np.clip(np.exp(-1.1 + 2 * z), 0.002, 80), rtol=1e-4)
    assert (float(t.min()), float(t.max())) == (0.0, 1.0)
    inside = sigma[(sigma > 0.00201) & (sigma < 79)]
    ends = norm.cdf(np.log([0.00201, 79]), -1.1, 2)
    assert kstest((norm.cdf(np.log(inside), -1.1, 2) - ends[0]) / (ends[1] - ends[0]), "uniform").pvalue > 0.01


def test_an_unknown_density_is_named() -> None:
    with pytest.raises(ValueError, match="unknown density 'flat': 'grid' or 'lognormal'"):
        C.sample_t(1, CONFIG, density="flat")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("density", "expected"), [("grid", (0.0227, 0.582, 14.0)), ("lognormal", (0.0124, 0.333, 8.93))]
)
def test_sampled_noise_levels(density: str, expected: tuple[float, ...]) -> None:
    """5, 50 and 95 % quantiles of sigma; the published training's is no lognormal."""
    t = C.sample_t(200_000, CONFIG, density=density, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    quantiles = np.quantile(C.sigma_from_t(t.double(), CONFIG).numpy(), [0.05, 0.5, 0.95])
    np.testing.assert_allclose(quantiles, expected, rtol=0.03)


def test_preconditioning_by_hand() -> None:
    """iCT's coefficients with sigma_data 1/2: at the boundary, one and four times sigma_data above it, at the top."""
    c_skip, c_out, c_in = C.preconditioning(torch.tensor([0.002, 0.502, 2.002, 80.0]), CONFIG)
    assert c_skip.shape == c_out.shape == c_in.shape == (4, 1, 1, 1)
    roots = [math.sqrt(sigma**2 + 0.25) for sigma in (0.002, 0.502, 2.002, 80.0)]
    skips = [1.0, 1 / 2, 1 / 17, 1 / (1 + (2 * 79.998) ** 2)]
    outs = [0.0, 0.25 / roots[1], 1.0 / roots[2], 39.999 / roots[3]]
    assert c_skip.flatten().tolist() == pytest.approx(skips, rel=1e-6)
    assert c_out.flatten().tolist() == pytest.approx(outs, rel=1e-6)
    assert c_in.flatten().tolist() == pytest.approx([1 / root for root in roots], rel=1e-6)
    assert (float(c_skip[0]), float(c_out[0])) == (1.0, 0.0)


def test_denoise_wraps_the_raw_network() -> None:
    """Eq. 10: c_skip x + c_out F(c_in x, sigma, y), F in the precision of the first map, the result in float32."""
    seen: list[Any] = []

    def unet(scaled: torch.Tensor, sigma: torch.Tensor, given: list[torch.Tensor]) -> torch.Tensor:
        seen.append((scaled, sigma, given))
        return (3 * scaled + 1).half()

    noisy = torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1).expand(2, 2, 4, 3)
    sigma = torch.tensor([0.502, 2.002])
    given_maps = [torch.zeros(2, 1, dtype=torch.bfloat16), torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.float64)]
    found = C.denoise(unet, noisy, sigma, given_maps, CONFIG)  # type: ignore[arg-type]
    [(scaled, level, passed)] = seen
    assert scaled.dtype == torch.bfloat16
    assert level is sigma
    assert passed is given_maps
    roots = [math.sqrt(x**2 + 0.25) for x in (0.502, 2.002)]
    inputs = [1 / roots[0], -2 / roots[1]]
    expected = [1 / 2 + 0.25 / roots[0] * (3 * inputs[0] + 1), -2 / 17 + 1.0 / roots[1] * (3 * inputs[1] + 1)]
    assert found.dtype == torch.float32
    assert found.shape == noisy.shape
    for item, value in enumerate(expected):
        assert found[item].flatten().tolist() == pytest.approx([value] * 24, rel=0.01)  # bfloat16


def test_pseudo_huber_is_one_norm_per_item() -> None:
    x, y = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    y[1] = 2.0
    c = 0.00054 * math.sqrt(12)
    distance = L.pseudo_huber(x, y)
    assert float(distance[0]) == 0.0
    assert float(distance[1]) == pytest.approx(math.sqrt(4 * 12 + c**2) - c)


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_noise_levels_of_sampling_are_equal_steps_on_the_grid_of_eq_14(n_steps: int) -> None:
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    expected = [(high + step / n_steps * (low - high)) ** 7 for step in range(n_steps)]
    assert C.sampling_sigmas(n_steps, CONFIG) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_sampling_is_algorithm_1(n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step denoises; before the next, noise of variance sigma^2 - sigma_min^2 is added (Song et al., Alg. 1)."""
    config = CONFIG.replace(sigma_min=0.5)  # of an influence that shows
    inputs: list[tuple[torch.Tensor, torch.Tensor]] = []
    network, maps = object(), [object()]

    def denoised(unet: Any, noisy: torch.Tensor, sigma: torch.Tensor, given: Any, settings: Any) -> torch.Tensor:
        assert (unet, given, settings) == (network, maps, config)
        inputs.append((noisy.clone(), sigma))
        return torch.full_like(noisy, 10.0 * len(inputs))

    def noise_of(step: int) -> torch.Tensor:
        return torch.arange(6.0).reshape(2, 1, 1, 3) - step

    monkeypatch.setattr(C, "denoise", denoised)
    steps = {} if n_steps == 1 else {"n_steps": n_steps}
    out = C.sample(network, maps, noise_of(0).half(), config, renoise=lambda like, step: noise_of(step), **steps)  # type: ignore[arg-type]
    low, high = 0.5 ** (1 / 7), 80 ** (1 / 7)
    sigmas = [(high + step / n_steps * (low - high)) ** 7 for step in range(n_steps)]
    assert len(inputs) == n_steps
    for step, ((noisy, level), sigma) in enumerate(zip(inputs, sigmas, strict=True)):
        added = math.sqrt(sigma**2 - 0.25) if step else 80.0
        torch.testing.assert_close(noisy, 10.0 * step + added * noise_of(step))
        assert level.tolist() == pytest.approx([sigma, sigma])
        assert level.dtype == noisy.dtype == torch.float32
    assert torch.equal(out, torch.full((2, 1, 1, 3), 10.0 * n_steps))


def test_without_a_source_of_noise_each_step_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: list[torch.Tensor] = []

    def denoised(unet: Any, noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
        inputs.append(noisy)
        return torch.zeros_like(noisy)

    monkeypatch.setattr(C, "denoise", denoised)
    C.sample(None, [], torch.zeros(1, 2, 64, 64), CONFIG, n_steps=3)  # type: ignore[arg-type]
    for noisy, sigma in zip(inputs[1:], C.sampling_sigmas(3, CONFIG)[1:], strict=True):
        assert float(noisy.std()) == pytest.approx(sigma, rel=0.05)
    assert abs(float((inputs[1] * inputs[2]).mean())) < 0.05 * float(inputs[1].std() * inputs[2].std())


def test_sampling_refuses_zero_steps() -> None:
    with pytest.raises(ValueError, match="n_steps must be at least 1, not 0"):
        C.sampling_sigmas(0, CONFIG)


def test_loss_is_zero_where_the_step_vanishes_and_trains_everything() -> None:
    model = moved_model()
    generator = torch.Generator().manual_seed(1)
    representation = torch.randn(2, 2, 1024, 16, generator=generator)
    noise = torch.randn(2, 2, 1024, 16, generator=generator)
    loss = L.consistency_loss(model, representation, torch.tensor([0.0, 0.6]), 0.1, noise)
    assert loss.shape == (2,)
    assert loss[0].item() == 0.0
    assert loss[1].item() > 0.0
    loss.sum().backward()
    # All but the decoder's noise projections, which the published model owns and never uses.
    idle = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert all(name.startswith("decoder.bottleneck.") and ".condition." in name for name in idle)


@pytest.mark.parametrize("delta_t", [0.1, 0.5, 1.0])
def test_the_teacher_at_sigma_min_is_its_input(delta_t: float) -> None:
    """It is not computed there, and nothing changes by that: in no item, and in no gradient."""
    model = moved_model()
    generator = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, 4, 2, 1024, 8, generator=generator)
    t = torch.tensor([0.05, 0.3, 0.7, 1.0])

    losses = L.consistency_loss(model, clean, t, delta_t, noise)
    found = torch.autograd.grad(losses.sum(), model.unet.conv_in.weight)[0]

    sigmas = [C.sigma_from_t(level, model.config) for level in (t, (t - delta_t).clamp(min=0))]
    feature_maps = model.decoder(model.encoder(clean))
    student, teacher = (
        C.denoise(model.unet, clean + s.reshape(-1, 1, 1, 1) * noise, s, feature_maps, model.config) for s in sigmas
    )
    expected = L.pseudo_huber(student, teacher.detach()) / (sigmas[0] - sigmas[1])
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    gradient = torch.autograd.grad(expected.sum(), model.unet.conv_in.weight)[0]
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_output_weights_make_losses_distances_of_raw_outputs() -> None:
    """With the teacher at sigma_min: |f - x| = c_out |F - F*|, F* the output that would have been right."""
    model = moved_model()
    generator = torch.Generator().manual_seed(4)
    clean, noise = torch.randn(2, 5, 2, 1024, 8, generator=generator)
    t = torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0])
    sigma = C.sigma_from_t(t, model.config)
    with torch.no_grad():
        losses = L.consistency_loss(model, clean, t, 1.0, noise) * L.output_weight(t, 1.0, model.config)
        noisy = clean + sigma.reshape(-1, 1, 1, 1) * noise
        c_skip, c_out, c_in = C.preconditioning(sigma, model.config)
        raw = model.unet(c_in * noisy, sigma, model.decoder(model.encoder(clean)))
        right = (clean + model.config.sigma_min * noise - c_skip * noisy) / c_out
    torch.testing.assert_close(losses, (raw - right).flatten(1).norm(dim=1), rtol=0.02, atol=0.0)


@settings(max_examples=12, deadline=None)
@given(st.floats(0.003, 80.0), st.integers(0, 5))
def test_boundary_condition_holds_for_any_network(sigma: float, seed: int) -> None:
    model = Music2Latent.from_config("tiny", seed=seed)
    x = torch.randn(1, 2, 1024, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        feature_maps = model.decoder(torch.zeros(1, 64, 1))
        assert torch.equal(C.denoise(model.unet, x, torch.tensor([0.002]), feature_maps, model.config), x)
        assert bool(C.denoise(model.unet, x, torch.tensor([sigma]), feature_maps, model.config).isfinite().all())
