"""The optimizers, the schedules and the averaged weights, by hand and against `torch.optim`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed.train import newton_schulz
from m2l.training import TrainingSettings
from m2l.training.optimizer import Ema, Muon, ema_decay, is_matrix, learning_rate, make_optimizer, orthogonalized

# --- Muon -----------------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31))
def test_orthogonalized_keeps_directions_and_levels_their_sizes(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    rank = min(rows, columns)
    sizes = torch.logspace(0, -1, rank)  # over one decade of singular values
    left, right = left[:, :rank], right[:, :rank]
    [factor] = orthogonalized([left @ sizes.diag() @ right.mT])
    found = left.mT @ factor @ right
    assert bool(((found.diag() > 0.6) & (found.diag() < 1.3)).all()), found.diag()
    assert float((found - found.diag().diag()).abs().max()) < 1e-3


def test_orthogonalized_by_the_gram_matrix_is_the_usual_iteration() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(12, 50), (12, 30), (50, 12), (7, 7), (30, 12)]  # some share their shorter side
    matrices = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    for found, usual in zip(orthogonalized(matrices), newton_schulz(matrices), strict=True):
        torch.testing.assert_close(found, usual.float(), rtol=1e-3, atol=1e-4)
    assert not orthogonalized([torch.zeros(5, 3)])[0].any()


def test_muon_finds_directions_that_hardly_show_in_the_gradient() -> None:
    """A map from inputs one of whose directions is 10 times as strong as the rest, in 100 steps."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn(16, 16, generator=generator)
    inputs = torch.randn(256, 16, generator=generator)
    inputs[:, 0] *= 10

    def error(name: str) -> float:
        weight = torch.nn.Parameter(torch.zeros(16, 16))
        optimizer = Muon([weight], 0.3) if name == "muon" else torch.optim.SGD([weight], 0.1)
        for step in range(100):
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial", group["lr"]) * (1 - step / 100)
            optimizer.zero_grad()
            (inputs @ (weight - wanted).mT).square().mean().backward()
            optimizer.step()
        return float((weight.detach() - wanted)[:, 1:].norm() / wanted[:, 1:].norm())

    errors = error("muon"), error("sgd")
    assert errors[0] < 0.5 * errors[1], errors


def usual_factor(matrix: np.ndarray) -> np.ndarray:
    """Five steps of Jordan et al.'s quintic on the singular values of a matrix of Frobenius norm 1, in float64."""
    left, sizes, right = np.linalg.svd(matrix / np.linalg.norm(matrix), full_matrices=False)
    for _ in range(5):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    return left * sizes @ right


@pytest.mark.parametrize("shape", [(9, 9), (9, 20), (20, 9)])
def test_orthogonalized_maps_singular_values_by_the_published_quintic(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    [found] = orthogonalized([torch.from_numpy(matrix)])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, usual_factor(matrix), atol=2e-5)


def test_orthogonalized_minds_no_scale_down_to_its_floor() -> None:
    """A norm of 1e-7, the floor, halves singular values; the slope of the quintic at 0 is 3.4445."""
    matrix = np.random.default_rng(0).standard_normal((8, 8))
    matrix /= np.linalg.norm(matrix)
    [large], [small] = (orthogonalized([torch.from_numpy(scale * matrix)]) for scale in (1e6, 1e-7))
    np.testing.assert_allclose(large, usual_factor(matrix), atol=2e-5)
    left, sizes, right = np.linalg.svd(matrix / 2)
    for _ in range(5):
        sizes = 3.4445 * sizes - 4.7750 * sizes**3 + 2.0315 * sizes**5
    np.testing.assert_allclose(small, left * sizes @ right, atol=2e-5)


def test_three_steps_of_muon_by_hand() -> None:
    """Momentum 0.95 with Nesterov's look-ahead; steps of RMS 0.2 lr, kernels flattened to (out, in x taps)."""
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((8, 3, 5)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(kernel.copy()))
    optimizer = Muon([parameter], lr=0.1)
    weight, momentum = kernel.astype(np.float64).reshape(8, 15), np.zeros((8, 15))
    for _ in range(3):
        gradient = rng.standard_normal((8, 3, 5)).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        momentum = 0.95 * momentum + gradient.reshape(8, 15)
        ahead = gradient.reshape(8, 15) + 0.95 * momentum
        weight -= 0.1 * 0.2 * math.sqrt(15) * usual_factor(ahead)
        np.testing.assert_allclose(parameter.detach().reshape(8, 15), weight, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((8, 8), True),
        ((7, 8), False),
        ((8, 7), False),
        ((64,), False),
        ((), False),
        ((8, 2, 4), True),
        ((8, 7, 1), False),
    ],
)
def test_what_muon_takes_for_a_matrix(shape: tuple[int, ...], matrix: bool) -> None:
    assert is_matrix(torch.zeros(shape)) is matrix
    parameter = torch.nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.ones(shape)
    optimizer = Muon([parameter], 1.0)
    optimizer.step()
    assert ("momentum" in optimizer.state[parameter]) is matrix


@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.99), 1e-8), ((0.5, 0.7), 0.1)])
def test_what_is_no_matrix_is_adams(betas: tuple[float, float], eps: float) -> None:
    def parameters() -> list[torch.nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in ((9,), (4, 30), (30, 1))]

    ours, theirs = parameters(), parameters()
    assert not any(is_matrix(p) for p in ours)
    options: dict[str, Any] = {} if eps == 1e-8 else {"betas": betas, "eps": eps}
    optimizers = (Muon(ours, 1e-2, **options), torch.optim.Adam(theirs, 1e-2, betas=betas, eps=eps))
    for step in range(12):
        for group in (ours, theirs):
            for p in group:
                p.grad = eps * (p.detach() + step).sin()  # eps shows
            if step % 3 == 0:
                group[1].grad = None  # is left as it is, and has a step less to correct for
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert bool((ours[0] - parameters()[0]).abs().max() > 1e-3)


def test_a_closure_is_computed_with_gradients_before_the_step() -> None:
    parameter = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = Muon([parameter], 0.5)

    def closure() -> torch.Tensor:
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert parameter.item() == pytest.approx(2.5)  # Adam's first step is its rate
    assert optimizer.step() is None


def test_groups_have_rates_of_their_own() -> None:
    slow, fast = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    optimizer = Muon([{"params": [slow], "lr": 0.25}, {"params": [fast]}], 0.5)
    slow.grad, fast.grad = torch.ones(3), -torch.ones(3)
    optimizer.step()
    assert slow.tolist() == pytest.approx([-0.25] * 3)
    assert fast.tolist() == pytest.approx([0.5] * 3)


@pytest.mark.parametrize("name", ["radam", "muon"])
def test_the_settings_choose_the_optimizer(name: str) -> None:
    """RAdam by torch's own update with the settings' rate and decays; Muon's Adam with the same."""
    settings = TrainingSettings(optimizer=name, learning_rate=0.03, final_learning_rate=0.0, beta2=0.9)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 9)) for _ in range(2))
    optimizer = make_optimizer([{"params": [ours], "factor": 1.0}], settings)
    kind = torch.optim.RAdam if name == "radam" else torch.optim.Adam
    assert isinstance(optimizer, torch.optim.RAdam if name == "radam" else Muon)
    assert optimizer.param_groups[0]["factor"] == 1.0
    reference = kind([theirs], 0.03, betas=(0.9, 0.9))
    for step in range(9):  # RAdam rectifies from the sixth on
        for p in (ours, theirs):
            p.grad = (p.detach() + step).cos()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


# --- schedules ------------------------------------------------------------------------------------------------


def test_learning_rates_of_a_short_run_by_hand() -> None:
    """Two steps of warm-up to 1, then half a cosine to 0.2 over the other four."""
    run = TrainingSettings(steps=6, warmup_steps=2, learning_rate=1.0, final_learning_rate=0.2)
    half = math.sqrt(0.5)
    expected = [0.5, 1.0, 1.0, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 0.2]
    assert [learning_rate(step, run) for step in range(7)] == pytest.approx(expected)
    # Each of two stages has the whole schedule; without any step after the warm-up the rate is the peak.
    staged = TrainingSettings(steps=8, autoencoder_steps=2, warmup_steps=2, learning_rate=1.0, final_learning_rate=0.2)
    assert [learning_rate(step, staged) for step in range(8)] == pytest.approx([0.5, 1.0, *expected[:6]])
    plain = TrainingSettings(steps=2, warmup_steps=0, learning_rate=1.0, final_learning_rate=0.0)
    assert [learning_rate(step, plain) for step in range(3)] == pytest.approx([1.0, 0.5, 0.0])
    short = TrainingSettings(steps=2, warmup_steps=4, learning_rate=1.0)
    assert [learning_rate(step, short) for step in range(2)] == pytest.approx([0.25, 0.5])


def test_learning_rate_over_the_reference_run() -> None:
    run = TrainingSettings()
    rates = [learning_rate(step, run) for step in range(0, 800_000, 100)]
    assert learning_rate(0, run) == pytest.approx(1e-4 / 10_000)
    assert learning_rate(9_999, run) == pytest.approx(1e-4)
    assert learning_rate(10_000, run) == pytest.approx(1e-4)
    assert learning_rate(405_000, run) == pytest.approx((1e-4 + 1e-6) / 2)
    assert learning_rate(799_999, run) == pytest.approx(1e-6, rel=1e-3)
    assert learning_rate(800_000, run) == pytest.approx(1e-6)
    top = rates.index(max(rates))
    assert all(np.diff(rates[: top + 1]) > 0)
    assert all(np.diff(rates[top:]) <= 0)


@given(steps=st.integers(1, 500), warmup=st.integers(0, 600), peak=st.floats(1e-6, 1e-2), share=st.floats(0, 1))
def test_learning_rate_stays_between_its_ends(steps: int, warmup: int, peak: float, share: float) -> None:
    run = TrainingSettings(steps=steps, warmup_steps=warmup, learning_rate=peak, final_learning_rate=share * peak)
    for step in range(steps):
        assert 0 < learning_rate(step, run) <= peak * (1 + 1e-12)
        assert step < warmup or learning_rate(step, run) >= run.final_learning_rate * (1 - 1e-12)


# --- average --------------------------------------------------------------------------------------------------


def test_the_decay_of_the_average_grows_to_its_setting() -> None:
    run = TrainingSettings(ema_decay=0.9)
    assert [ema_decay(step, run) for step in (0, 1, 8, 79, 80, 81, 10_000)] == pytest.approx(
        [1 / 10, 2 / 11, 9 / 18, 80 / 89, 0.9, 0.9, 0.9]
    )
    assert ema_decay(80, TrainingSettings(ema_decay=0.95)) == pytest.approx(81 / 90)


def test_ema_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    ema, run = Ema(model), TrainingSettings(ema_decay=0.5)
    expected = model.weight.detach().double().numpy().copy()
    for step in range(30):
        with torch.no_grad():
            model.weight += torch.randn(2, 3)
        decay = min(0.5, (1 + step) / (10 + step))
        assert ema_decay(step, run) == decay
        expected = decay * expected + (1 - decay) * model.weight.detach().double().numpy()
        ema.update(model, decay)
    np.testing.assert_allclose(ema.model.weight.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not ema.model.weight.requires_grad
