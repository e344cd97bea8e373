"""What a step minimizes."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import assert_same_run, tiny, train

from m2l import Music2Latent
from m2l.config import create_config
from m2l.consistency import denoise
from m2l.training.data import times_of
from m2l.training.losses import (
    BANDS,
    ENERGY_FLOOR,
    StartLoss,
    StepLoss,
    band_distance,
    band_edges,
    consistency_loss,
    direction_distance,
    level_distance,
    output_weight,
    spectrum_loss,
    weighted_distance,
)
from m2l.training.optimizer import is_matrix

pytest_plugins = ["training_fixtures"]


def spectrum(seed: int = 0, frames: int = 16) -> torch.Tensor:
    """Noise that falls with frequency, as music does: (2, 2, 1024, frames)."""
    slope = 1 / (1 + torch.arange(1024) / 32)
    return slope[:, None] * torch.randn(2, 2, 1024, frames, generator=torch.Generator().manual_seed(seed))


def model_with_output(seed: int = 0) -> Music2Latent:
    """A tiny model whose output layer does not start at zero."""
    model = Music2Latent.from_config("tiny", seed)
    generator = torch.Generator().manual_seed(seed)
    weight = model.unet.conv_out.weight
    with torch.no_grad():
        weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


# --- losses ---------------------------------------------------------------------------------------------------


def test_band_distance_hears_loudness_and_no_phases() -> None:
    x = spectrum()
    turned = torch.stack([-x[:, 1], x[:, 0]], 1)  # every phase by a quarter
    torch.testing.assert_close(band_distance(turned, x), torch.zeros(2), rtol=0.0, atol=1e-5)
    # Twice the amplitude is log 4 of energy in each band that lies well over the floor.
    loud = 30 * x
    expected = torch.full((2,), 4.0).log()
    torch.testing.assert_close(band_distance(2 * loud, loud), expected, rtol=1e-3, atol=0.0)
    # Half of the bands missing costs more than the quieter half's share of the energy.
    dull = x.clone()
    dull[:, :, 128:] = 0
    assert bool((band_distance(dull, x) > 0.5).all())
    assert float((dull - x).norm() / x.norm()) < 0.5


def test_band_distance_of_silence_is_finite_and_so_is_its_gradient() -> None:
    silent = torch.zeros(1, 2, 1024, 8, requires_grad=True)
    distance = band_distance(silent, spectrum()[:1, :, :, :8])
    distance.sum().backward()
    assert silent.grad is not None
    assert bool(distance.isfinite())
    assert bool(silent.grad.isfinite().all())


def test_level_distance_of_half_a_constant_spectrum_is_log_4_but_for_the_floor() -> None:
    """Two channels of 1024 bins of value v have the energy 2048 v^2 in each frame, and half of it a quarter of that."""
    for value in (1.0, 0.01, 1e-4):
        x = torch.full((3, 2, 1024, 8), value)
        energy = torch.tensor(2048 * value**2, dtype=torch.float64)
        expected = ((energy + ENERGY_FLOOR) / (energy / 4 + ENERGY_FLOOR)).log()
        torch.testing.assert_close(level_distance(0.5 * x, x), expected.float().expand(3), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(level_distance(x, 0.5 * x), level_distance(0.5 * x, x))
    assert float(level_distance(torch.full((1, 2, 1024, 4), 0.5), torch.ones(1, 2, 1024, 4))) == pytest.approx(
        float(torch.tensor(4.0).log()), abs=1e-5
    )
    # It is the level alone: neither phases nor the place of a bin are in it.
    x = spectrum()
    torch.testing.assert_close(level_distance(-x.flip(2), x), torch.zeros(2), rtol=0.0, atol=1e-5)
    # A patch is 4 frames: a louder half within it does not show, and beyond them it does.
    steps = torch.ones(1, 1, 16, 8)
    steps[..., 4:] = 3
    assert float(level_distance(torch.ones(1, 1, 16, 8), steps)) == pytest.approx(
        float(torch.tensor(9.0).log()) / 2, rel=1e-3
    )


def test_band_distance_by_hand() -> None:
    """Of 8 bins each is a band; energies are summed over channels and averaged over 4 frames, over a floor of 0.001."""
    x = torch.zeros(1, 2, 8, 5)
    x[:, 0], x[:, 1] = 3.0, 4.0  # 25 in every frame
    output = torch.zeros(1, 1, 8, 5)
    output[:, :, 0, :2] = 10.0  # 50 on average
    output[:, :, 1] = 5.0
    output[..., 4] = 77.0  # beyond a multiple of 4 frames
    expected = (math.log(50.001 / 25.001) + 0 + 6 * math.log(25.001 / 0.001)) / 8
    assert float(band_distance(output, x)) == pytest.approx(expected, rel=1e-5)


def test_the_spectrum_loss_by_hand() -> None:
    """Eq. 9 of the first channel from |x|, and 2 |x| (1 - cos) of the next two from x; the fourth is not looked at."""
    x = torch.tensor([[3.0, 0.0], [4.0, 2.0]]).reshape(1, 2, 1, 2)  # magnitudes 5 and 2, norm sqrt(29)
    finest = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]).reshape(1, 4, 1, 2)
    c = 0.00054 * math.sqrt(2)
    huber = math.sqrt(2.0**2 + c**2) - c
    cosine = (3 * 1 + 2 * 1) / math.sqrt(29 * 2)
    expected = huber + 2 * math.sqrt(29) * (1 - cosine)
    assert spectrum_loss(finest, x).tolist() == pytest.approx([expected], rel=1e-5)


def test_a_step_without_width_weighs_nothing() -> None:
    """lambda = 1 / (sigma_{i+1} - sigma_i) (Eq. 12), of a step from t = 0 none."""
    student, teacher = torch.ones(3, 1, 1, 4), torch.zeros(3, 1, 1, 4)
    c = 0.00054 * 2
    distance = math.sqrt(4 + c**2) - c
    found = weighted_distance(student, teacher, torch.tensor([0.0, 0.5, 4.0]))
    assert found.tolist() == pytest.approx([0.0, 2 * distance, distance / 4])
    student.requires_grad_()
    weighted_distance(student, teacher, torch.tensor([0.0, 0.5, 4.0])).sum().backward()
    slope = 1 / math.sqrt(4 + c**2)
    assert student.grad is not None
    assert student.grad[:, 0, 0, 0].tolist() == pytest.approx([0.0, 2 * slope, slope / 4])


def test_the_first_stage_judges_the_finest_map() -> None:
    x = spectrum()
    maps = [torch.zeros(2, 4, 1024, 16)]
    model: Any = SimpleNamespace(encoder=torch.neg, decoder=lambda latents: [latents.repeat(1, 2, 1, 1), *maps])
    expected = spectrum_loss(torch.cat([-x, -x], 1), x).mean()
    assert float(StartLoss(model)(x, "t", 0.1, "noise")) == pytest.approx(float(expected))


def test_output_weights_by_hand() -> None:
    """The gap over c_out at the later time, which a floor keeps from dividing by nothing."""
    config = create_config("paper")
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigmas = {t: (low + t * (high - low)) ** 7 for t in (0.0, 0.3, 0.5, 0.8)}
    expected = [
        (sigmas[later] - sigmas[earlier]) / (0.5 * (sigmas[later] - 0.002) / math.hypot(sigmas[later], 0.5))
        for later, earlier in ((0.8, 0.3), (0.5, 0.0), (0.3, 0.0))
    ]
    found = output_weight(torch.tensor([0.8, 0.5, 0.3]), 0.5, config)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    # At t = 1e-4 c_out is 1.9e-6, below the floor of 1e-4; the gap is as small.
    tiny_gap = (low + 1e-4 * (high - low)) ** 7 - 0.002
    assert float(output_weight(torch.tensor([1e-4]), 0.5, config)) == pytest.approx(tiny_gap / 1e-4, rel=1e-2)
    assert float(output_weight(torch.zeros(1), 0.5, config)) == 0.0


def test_bands_are_spaced_like_a_logarithm() -> None:
    """64 of them from bin 1 to 1024, so the upper ones begin at 1024^(k / 64)."""
    assert list(band_edges(1024)[-24:]) == [*(int(1024 ** (k / 64)) for k in range(41, 64)), 1024]
    assert band_edges(8) == (0, 1, 2, 3, 4, 5, 6, 7, 8)


def test_the_level_is_heard_by_its_weight_in_a_step(data: tuple[str, str]) -> None:
    model, x, noise = model_with_output(), spectrum(), torch.randn(2, 2, 1024, 16)
    model.requires_grad_(False)
    config, t = (model.config, torch.ones(2))  # direct items: what is judged is drawn from sigma_max in one step
    drawn = denoise(
        model.unet, x + config.sigma_max * noise, torch.full((2,), config.sigma_max),
        model.decoder(model.encoder(x)), config,
    )  # fmt: skip
    losses = {
        weight: StepLoss(model, tiny(data, direct_share=1.0, level_weight=weight))(x, t, 0.1, noise)
        for weight in (0.0, 30.0)
    }
    plain = StepLoss(model, tiny(data, direct_share=1.0))(x, t, 0.1, noise)
    assert torch.equal(losses[0.0], plain)
    distance = level_distance(drawn, x).mean()
    assert float(distance) > 0.01
    torch.testing.assert_close(losses[30.0], plain + 30 * distance, rtol=1e-4, atol=0.0)


@given(st.integers(1, 4096))
def test_bands_cover_all_bins_once(bins: int) -> None:
    edges = band_edges(bins)
    assert (edges[0], edges[-1]) == (0, bins)
    assert list(edges) == sorted(set(edges))
    assert len(edges) <= BANDS + 2


def test_direction_distance_minds_no_norm() -> None:
    x = spectrum()
    norm = x.flatten(1).norm(dim=1)
    for scale, expected in ((1.0, 0.0), (0.01, 0.0), (50.0, 0.0), (-3.0, 4.0)):
        torch.testing.assert_close(direction_distance(scale * x, x), expected * norm, rtol=1e-4, atol=1e-2)
    near = x + 0.1 * spectrum(1)
    near *= (norm / near.flatten(1).norm(dim=1)).reshape(-1, 1, 1, 1)
    # For outputs of its norm it is |x - y|^2 / |x|.
    squared = (near - x).flatten(1).square().sum(1)
    torch.testing.assert_close(direction_distance(near, x), squared / norm, rtol=1e-3, atol=0.0)


def test_without_its_options_a_step_is_the_papers(data: tuple[str, str]) -> None:
    model, x, noise = model_with_output(), spectrum(), torch.randn(2, 2, 1024, 16)
    t = torch.tensor([0.4, 1.0])
    found = StepLoss(model, tiny(data))(x, t, 0.1, noise)
    torch.testing.assert_close(found, consistency_loss(model, x, t, 0.1, noise).mean())


def test_direct_items_go_to_the_input_in_one_step_and_the_others_their_way(data: tuple[str, str]) -> None:
    model, x, noise = model_with_output(), spectrum(), torch.randn(2, 2, 1024, 16)
    config = model.config
    t = torch.tensor([1.0, 0.4])
    settings = tiny(data, weighting="output", direct_share=0.5, band_weight=7.0)
    found = StepLoss(model, settings)(x, t, 0.1, noise).detach()

    model.requires_grad_(False)
    feature_maps = model.decoder(model.encoder(x))
    sigma = torch.tensor([config.sigma_max, config.sigma_max])
    drawn = denoise(model.unet, x + config.sigma_max * noise, sigma, feature_maps, config)
    direct = direction_distance(drawn, x)[0] + 7 * band_distance(drawn, x)[0]
    usual = tiny(data, weighting="output", band_weight=7.0)
    later = StepLoss(model, usual)(x[1:], t[1:], 0.1, noise[1:])
    without = consistency_loss(model, x[1:], t[1:], 0.1, noise[1:]) * output_weight(t[1:], 0.1, config)
    assert float(later) > float(without)
    torch.testing.assert_close(found, (direct + later) / 2, rtol=1e-4, atol=0.0)


def test_the_decoders_drawing_can_go_on_to_be_judged(data: tuple[str, str]) -> None:
    model, x, noise = model_with_output(), spectrum(), torch.randn(2, 2, 1024, 16)
    model.requires_grad_(False)
    t = torch.tensor([0.4, 0.9])
    with_it = StepLoss(model, tiny(data, spectrum_weight=3.0))(x, t, 0.1, noise)
    without = StepLoss(model, tiny(data))(x, t, 0.1, noise)
    drawn = spectrum_loss(model.decoder(model.encoder(x))[0], x)
    torch.testing.assert_close(with_it - without, 3 * drawn.mean(), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(("share", "direct"), [(0.0, []), (0.25, [0]), (0.5, [0, 2]), (1.0, [0, 1, 2, 3])])
def test_direct_items_are_spread_over_the_batch(data: tuple[str, str], share: float, direct: list[int]) -> None:
    config = create_config("tiny")
    plain = times_of(3, tiny(data, batch_size=4), config)
    times = times_of(3, tiny(data, batch_size=4, direct_share=share), config)
    assert (times == 1).nonzero().flatten().tolist() == direct
    others = [item for item in range(4) if item not in direct]
    assert torch.equal(times[others], plain[others])


# --- a run ---------------------------------------------------------------------------------------------------


def test_a_run_by_muon_with_all_losses_resumes_bit_for_bit(data: tuple[str, str], tmp_path: Path) -> None:
    settings = tiny(
        data, steps=6, autoencoder_steps=2, optimizer="muon", band_weight=10.0, direct_share=0.5, batch_size=2
    )
    assert any(is_matrix(p) for p in Music2Latent.from_config("tiny", 0).parameters())
    train(settings, tmp_path / "straight")
    for stop in (1, 4):
        train(settings, tmp_path / f"at-{stop}", until=stop)
        train(settings, tmp_path / f"at-{stop}")
        assert_same_run(tmp_path / f"at-{stop}", tmp_path / "straight")
