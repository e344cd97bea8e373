"""The torch back end of ViSQOL gives the CPU path's results, in batches, also on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.metrics.visqol.api import ViSQOL
from benchmarks.weights.find import has_weight

torch = pytest.importorskip("torch")
RATE = 48_000
pytestmark = pytest.mark.skipif(not has_weight("visqol-svr")[0], reason=has_weight("visqol-svr")[1])


def bursts(seconds: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    n = int(seconds * RATE)
    x = 1e-3 * generator.standard_normal(n)
    for onset in range(0, n - 6_000, 6_000):
        x[onset : onset + 6_000] += generator.standard_normal(6_000) * np.exp(-np.linspace(0, 6, 6_000))
    return 0.5 * x / np.abs(x).max()


def noisy(x: np.ndarray, level: float = 0.01) -> np.ndarray:
    return x + level * np.random.default_rng(7).standard_normal(len(x))


A, B = bursts(1.6, 0), bursts(2.4, 1)
PAIRS = [
    (noisy(A), A),
    (noisy(A, 0.1), A),
    (np.concatenate([np.zeros(700), noisy(A)]), A),
    (noisy(A)[333:], A),
    (noisy(B)[: int(1.5 * RATE)], B),
    (np.round(B * 16) / 16, B),
    (A, bursts(1.6, 5)),
    (np.where(np.abs(np.arange(len(B)) - 60_000) < 9_000, 0.0, B), B),
]


def compare(device: str, mode: str = "audio") -> None:
    cpu, other = ViSQOL(mode), ViSQOL(mode, backend="torch", device=device)  # type: ignore[arg-type]
    references = {id(target): other.reference(target, RATE) for _, target in PAIRS}
    batch = other.score_batch([preds for preds, _ in PAIRS], [references[id(t)] for _, t in PAIRS])
    for (preds, target), found in zip(PAIRS, batch, strict=True):
        expected = cpu.score(preds, cpu.reference(target, RATE))
        assert found.moslqo == pytest.approx(expected.moslqo, abs=1e-5)
        assert found.lag == expected.lag
        assert found.dropped_share == expected.dropped_share
        np.testing.assert_allclose(found.patch_nsim, expected.patch_nsim, atol=1e-4)
        np.testing.assert_allclose(found.patch_times, expected.patch_times, atol=1e-9)
    again = other.score(PAIRS[0][0], references[id(A)])
    assert again.moslqo == pytest.approx(batch[0].moslqo, abs=1e-6)


@pytest.mark.parametrize("mode", ["audio", "speech"])
def test_equals_the_cpu_path(mode: str) -> None:
    compare("cpu", mode)


@pytest.mark.gpu
def test_equals_the_cpu_path_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    compare("cuda")


def test_policy_is_the_same() -> None:
    metric = ViSQOL(backend="torch")
    reference = metric.reference(A, RATE)
    results = metric.score_batch([np.zeros_like(A), noisy(A), np.full_like(A, np.nan)], reference)
    assert [result.reason is None for result in results] == [False, True, False]
    assert "at least 46080" in (metric.score(A[:9_000], metric.reference(A[:9_000], RATE)).reason or "")
    assert metric.score_batch([], []) == []


def test_strict_refusals_are_the_same() -> None:
    metric = ViSQOL(backend="torch", strict_cpp=True)
    with pytest.raises(ValueError, match="46080"):
        metric.score(A[:9_000], metric.reference(A[:9_000], RATE))
