"""The parts of a probe: monitors, the Adam update, initial weights, scaling and the trained network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, r2_score, roc_auc_score

from probes.mlp import kernels
from probes.mlp.kernels import fused_adam, matmul_nt, matmul_tn
from probes.mlp.models import TrainedProbe, balance, batch_order, glorot_layers
from probes.mlp.monitor import keras_auc, keras_monitor, macro_monitor, r2_monitor

# ---- monitors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [(1.0, 1.0), (0.0, 1.0)])
def test_keras_auc_equals_thresholds_counted_one_by_one(top: tuple[float, float]) -> None:
    """Some scores lie on a threshold, which they do not pass; `top` are the targets of two above the last."""
    rng = np.random.default_rng(0)
    p = np.concatenate([np.round(rng.random(400), 3) * 0.99, np.arange(0, 199, 5) / 199, [0.992, 0.997, 1.0]])
    y = np.concatenate([(rng.random(440) < p[:440]).astype(float), [0.0], top])
    thresholds = np.concatenate([[-1e-7], np.arange(1, 199) / 199, [1 + 1e-7]])
    tpr = np.array([(p[y == 1] > t).mean() for t in thresholds])
    fpr = np.array([(p[y == 0] > t).mean() for t in thresholds])
    area = np.sum((fpr[:-1] - fpr[1:]) * (tpr[:-1] + tpr[1:]) / 2)
    assert keras_auc(torch.from_numpy(p), torch.from_numpy(y)) == pytest.approx(area, abs=1e-9)
    assert abs(area - roc_auc_score(y, p)) > 1e-6, "200 thresholds are an approximation"


def test_macro_monitor_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(np.round(rng.normal(size=(80, 5)), 1))
    truth = rng.integers(0, 4, 80)
    value = macro_monitor(logits, torch.eye(5)[truth], False)
    expected = f1_score(truth, logits.argmax(1), labels=range(5), average="macro", zero_division=0)
    assert value == pytest.approx(expected)
    tags = rng.random((80, 5)) < 0.3
    assert macro_monitor(logits, torch.from_numpy(tags).float(), True) == pytest.approx(
        roc_auc_score(tags, logits.numpy())
    )


def test_monitors_by_hand_and_without_both_classes() -> None:
    tags = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]])
    logits = torch.tensor([[2.0, 0.0, 9.0, 1.0], [1.0, 3.0, -9.0, 2.0], [0.0, 1.0, 0.0, 1.0]])
    # Tag 0: of (1, 2) and (1, 0) one pair is right; tag 1: both are; tag 2 has no positives, tag 3 no negatives.
    assert macro_monitor(logits, tags, True) == pytest.approx((0.5 + 1.0) / 2)
    # A single positive counts, too: of its two pairs one is right.
    single = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    scores = torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]])
    assert macro_monitor(scores, single, True) == pytest.approx((0.5 + 1.0) / 2)
    assert keras_monitor(logits, tags, True) == pytest.approx(keras_auc(torch.sigmoid(logits), tags))
    assert np.isnan(keras_auc(torch.rand(4), torch.zeros(4)))
    assert np.isnan(keras_auc(torch.rand(4), torch.ones(4)))
    truth, guess = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 2])
    found = keras_monitor(torch.eye(3)[guess], torch.eye(3)[truth], False)
    assert found == accuracy_score(truth, guess) == 0.75
    # Class 1 is never guessed, class 3 never there: 2 / 2, 0, 4 / 5, 0.
    assert macro_monitor(torch.eye(4)[guess], torch.eye(4)[truth], False) == pytest.approx((1 + 0 + 0.8 + 0) / 4)


def test_r2_monitor_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(2, 1, (9, 3))
    predicted = target + rng.normal(0, 0.5, (9, 3))
    found = r2_monitor(torch.from_numpy(predicted), torch.from_numpy(target))
    assert found == pytest.approx(r2_score(target, predicted))
    constant = torch.full((4, 1), 2.0)
    assert r2_monitor(constant, constant) == 1.0
    assert r2_monitor(constant + 1e-6, constant) == pytest.approx(-3.0, rel=0.2)  # 4e-12 over the floor of 1e-12


# ---- parts ----------------------------------------------------------------------------------------


def test_adam_in_keras_form_by_hand() -> None:
    """Epsilon is added to sqrt(v) before the correction; the decay is part of the gradient."""
    w, m, v = 2.0, 0.0, 0.0
    parameter, mean, square = (torch.tensor([value], dtype=torch.float64) for value in (w, m, v))
    for step, gradient in enumerate((0.5, -1.0, 0.25)):
        fused_adam([parameter], [torch.tensor([gradient], dtype=torch.float64)], [mean], [square], step, 0.1, 0.3, 0.2)
        g = gradient + 0.3 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= 0.1 * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1)) * m / (np.sqrt(v) + 0.2)
        assert [float(t) for t in (parameter, mean, square)] == pytest.approx([w, m, v], rel=1e-9)


def test_torchs_first_step_is_one_rate_long_without_a_copy() -> None:
    w, m, v = torch.tensor([1.0, 2.0]), torch.zeros(2), torch.zeros(2)
    kernels._adam_by_torch([w], [torch.tensor([3.0, -0.5])], [m], [v], 0, 0.1, 0.0, 1e-12, (0.9, 0.999), None)
    assert w.tolist() == pytest.approx([0.9, 2.1])


def test_adam_decays_its_means_by_keras_betas(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.9 and 0.999 unless others are given; the fourth step corrects for four."""
    told: list[tuple[float, ...]] = []
    monkeypatch.setattr(kernels, "_adam_in_threads", lambda *arguments: told.append(arguments[-1]))
    w = [torch.zeros(1)]
    fused_adam(w, w, w, w, 3, 0.5, 0.25, 1e-7)
    assert told[0] == pytest.approx((0.5 * np.sqrt(1 - 0.999**4) / (1 - 0.9**4), 0.25, 1e-7, 0.1, 0.001))


@pytest.mark.parametrize("shape", [(3,), (7, 30_011)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adam_compiled_equals_torchs(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Gradients in both precisions, copies in bfloat16, several threads and chunks: three steps."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator), torch.zeros(shape), torch.zeros(shape)]
    gradients = [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]

    def steps(update: Callable[..., None], threads: int) -> list[torch.Tensor]:
        w, m, v = (x.clone() for x in start)
        half = torch.zeros(shape, dtype=torch.bfloat16)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for step, gradient in enumerate(gradients):
            update([w], [gradient], [m], [v], step, 0.1, 0.3, 0.2, (0.8, 0.99), [half])
        torch.set_num_threads(before)
        assert torch.equal(half, w.bfloat16())
        return [w, m, v]

    found, expected = steps(fused_adam, 1), steps(kernels._adam_by_torch, 1)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for one, other in zip(found, steps(fused_adam, 3), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("inner", [3, 255, 256, 300])
def test_products_of_both_kinds(inner: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, inner, generator=generator) for rows in (4, 5))
    expected = (a[:, None] * b).sum(-1)
    torch.testing.assert_close(matmul_nt(a, b), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(matmul_nt(b, a), expected.t(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(matmul_nt(a, a), (a[:, None] * a).sum(-1), rtol=1e-4, atol=1e-4)
    left, right = torch.randn(6, 4, generator=generator), torch.randn(6, inner, generator=generator)
    torch.testing.assert_close(matmul_tn(left, right), (left[:, :, None] * right[:, None]).sum(0), rtol=1e-4, atol=1e-4)


def test_only_wide_float32_products_on_a_cpu_are_onednns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def linear(a: torch.Tensor, b: torch.Tensor, *rest: object) -> torch.Tensor:
        calls.append(tuple(a.shape))
        return torch.mm(a, b.t())

    def made(inner: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> int:
        calls.clear()
        narrow, wide = (torch.ones(300, n, dtype=dtype, device=device) for n in (3, inner))
        assert matmul_nt(torch.ones(3, inner, dtype=dtype, device=device), wide).shape == (3, 300)
        assert matmul_tn(narrow, wide).shape == (3, inner)
        return len(calls)

    monkeypatch.setattr(kernels, "_onednn_linear", lambda: linear)
    assert [made(255), made(256), made(256, torch.float64), made(256, device="meta")] == [0, 2, 0, 0]
    monkeypatch.setattr(kernels, "_onednn_linear", lambda: None)
    assert made(256) == 0


def test_initial_weights_are_uniform_within_glorots_limit() -> None:
    first, second = glorot_layers([200, 100, 50], seed=4)
    for (kernel, bias), (n_in, n_out) in ((first, (200, 100)), (second, (100, 50))):
        limit = np.sqrt(6 / (n_in + n_out))
        assert kernel.shape == (n_out, n_in)
        assert not bias.any()
        assert bias.shape == (n_out,)
        assert limit * 0.995 < kernel.max() <= limit
        assert -limit <= kernel.min() < -limit * 0.995
        assert abs(kernel.mean()) < 4 * limit / np.sqrt(3 * kernel.size)
    assert not np.array_equal(first[0], glorot_layers([200, 100], seed=5)[0][0])


def test_the_order_of_batches_is_of_seed_and_epoch() -> None:
    expected = np.random.default_rng((3, 7)).permutation(20)
    np.testing.assert_array_equal(batch_order(20, 3, 7), expected)


def test_columns_far_from_one_are_scaled_by_powers_of_two() -> None:
    """Beyond 2^40 (numbers of 2^40 and more) and below 2^-41; what is zero stays, and the factor ends at 2^127."""
    assert balance(np.array([[2.0**39, 2.0**-41, 0.0]], np.float32)) is None
    assert balance(np.zeros((3, 0), np.float32)) is None
    columns = [-(2.0**40), 2.0**-42, 1.0, 0.0, 2.0**-149, 2.0**39]
    factors = balance(np.array([[0.0] * 6, columns], np.float32))
    assert factors is not None
    assert factors.dtype == np.float32
    assert np.log2(factors).tolist() == [-41, 41, 0, 0, 127, 0]


def test_a_trained_probe_is_its_layers() -> None:
    """Factors, mean and scale, layers with a rectifier between them, then softmax or sigmoids."""
    layers = [
        (np.array([[1.0, -1.0], [0.5, 0.0], [0.0, -1.0]], np.float32), np.array([0.0, 1.0, 0.0], np.float32)),
        (np.array([[1.0, 2.0, 1.0], [0.0, -1.0, 1.0]], np.float32), np.array([0.5, 0.0], np.float32)),
    ]
    mean, scale, factors = np.array([1.0, 0.0]), np.array([2.0, 0.5]), np.array([4.0, 1.0], np.float32)
    probe = TrainedProbe(layers, mean, scale, False, factors=factors)
    assert (probe.best_epoch, probe.history) == (0, [])
    # (0.5, 4) -> (2, 4) -> (2, 2) -> (0, 2, -2) -> (4.5, -2); (0, 2) -> (0, 2) -> (-2, 1) -> (-3, 0, -1) -> (0.5, 0)
    found = probe.decision_function(np.array([[0.5, 4.0], [0.0, 2.0]]))
    np.testing.assert_allclose(found, [[4.5, -2.0], [0.5, 0.0]])
    logits = np.array([[4.5, -2.0], [0.5, 0.0]])
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probe.predict_proba(np.array([[0.5, 4.0], [0.0, 2.0]])), softmax)
    probe.multilabel = True
    np.testing.assert_allclose(probe.predict_proba(np.array([[0.5, 4.0], [0.0, 2.0]])), 1 / (1 + np.exp(-logits)))
    for wrong in (np.zeros(2), np.zeros((1, 3)), np.zeros((1, 2, 1))):
        with pytest.raises(ValueError, match=r"trained on 2 features, got an array of \("):
            probe.decision_function(wrong)
