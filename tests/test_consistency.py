"""Noise levels, preconditioning, time sampling, distance, sampling: the paper's equations and their traps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


@pytest.mark.parametrize(
    ("density", "expected"), [("grid", (0.0227, 0.582, 14.0)), ("lognormal", (0.0124, 0.333, 8.93))]
)
def test_sampled_noise_levels(density: str, expected: tuple[float, ...]) -> None:
    """5, 50 and 95 % quantiles of sigma; the published training's is no lognormal."""
    t = C.sample_t(200_000, CONFIG, density=density, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    quantiles = np.quantile(C.sigma_from_t(t.double(), CONFIG).numpy(), [0.05, 0.5, 0.95])
    np.testing.assert_allclose(quantiles, expected, rtol=0.03)


def test_preconditioning_at_the_boundary() -> None:
    c_skip, c_out, c_in = C.preconditioning(torch.tensor([0.002, 80.0]), CONFIG)
    assert float(c_skip[0]) == 1.0
    assert float(c_out[0]) == 0.0
    assert float(c_out[1]) == pytest.approx(0.5, rel=1e-3)
    assert c_in.shape == (2, 1, 1, 1)
    assert float(c_in[1]) == pytest.approx(1 / math.hypot(80, 0.5))


def test_pseudo_huber_is_one_norm_per_item() -> None:
    x, y = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    y[1] = 2.0
    c = 0.00054 * math.sqrt(12)
    distance = L.pseudo_huber(x, y)
    assert float(distance[0]) == 0.0
    assert float(distance[1]) == pytest.approx(math.sqrt(4 * 12 + c**2) - c)


@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_sampling_starts_at_sigma_max_and_evaluates_n_times(n_steps: int) -> None:
    sigmas = C.sampling_sigmas(n_steps, CONFIG)
    assert len(sigmas) == n_steps
    assert sigmas[0] == pytest.approx(80.0)
    assert all(a > b > CONFIG.sigma_min for a, b in itertools.pairwise(sigmas))


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


@settings(max_examples=20, deadline=None)
@given(st.floats(0.003, 80.0), st.integers(0, 5))
def test_boundary_condition_holds_for_any_network(sigma: float, seed: int) -> None:
    model = Music2Latent.from_config("tiny", seed=seed)
    x = torch.randn(1, 2, 1024, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        feature_maps = model.decoder(torch.zeros(1, 64, 1))
        assert torch.equal(C.denoise(model.unet, x, torch.tensor([0.002]), feature_maps, model.config), x)
        assert bool(C.denoise(model.unet, x, torch.tensor([sigma]), feature_maps, model.config).isfinite().all())
