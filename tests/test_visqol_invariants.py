"""What must not change ViSQOL's answer: gain, polarity, delay, the batch, its order, threads, back ends."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.metrics.visqol.api import ViSQOL, VisqolResult
from benchmarks.weights.find import has_weight

RATE = 48_000
pytestmark = pytest.mark.skipif(not has_weight("visqol-svr")[0], reason=has_weight("visqol-svr")[1])
seeds = st.integers(0, 2**31)


@cache
def metric() -> ViSQOL:
    return ViSQOL()


def pair(seed: int, seconds: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Bursts of colored noise with rests between them, and a noisy, filtered version."""
    generator = np.random.default_rng(seed)
    n = int(seconds * RATE)
    x = np.zeros(n)
    for onset in generator.integers(0, n - 9_600, 6):
        length = int(generator.integers(2_400, 9_600))
        burst = np.convolve(generator.standard_normal(length), np.ones(generator.integers(1, 9)), "same")
        x[onset : onset + length] += burst * np.exp(-np.linspace(0, 5, length))
    x += 1e-3 * generator.standard_normal(n)
    x *= 0.5 / np.abs(x).max()
    damaged = np.convolve(x, [0.2, 0.6, 0.2], "same") + 10 ** generator.uniform(-4, -2) * generator.standard_normal(n)
    return x, damaged


def score(preds: np.ndarray, target: np.ndarray) -> VisqolResult:
    return metric().score(preds, metric().reference(target, RATE))


def check_gain_and_polarity(seed: int, decibels: float, flip: bool) -> None:
    target, preds = pair(seed)
    gain = 10 ** (decibels / 20) * (-1 if flip else 1)
    assert score(gain * preds, target).moslqo == pytest.approx(score(preds, target).moslqo, abs=1e-6)
    # Of the estimate, that is: the reference's level sets where the absolute floor of -45 dB lies.


def check_delay(seed: int, delay: int) -> None:
    target, preds = pair(seed)
    now, later = score(preds, target), score(np.concatenate([np.zeros(delay), preds]), target)
    assert later.lag == now.lag - delay
    assert later.moslqo == pytest.approx(now.moslqo, abs=1e-9)


def check_batch(seeds: list[int], order_seed: int) -> None:
    pairs = [pair(seed, 1.0) for seed in seeds]
    references = [metric().reference(target, RATE) for target, _ in pairs]
    singles = [score(preds, target).moslqo for target, preds in pairs]
    order = np.random.default_rng(order_seed).permutation(len(pairs))
    batch = metric().score_batch([pairs[i][1] for i in order], [references[i] for i in order])
    assert [result.moslqo for result in batch] == [singles[i] for i in order]
    threads = metric().score_batch([preds for _, preds in pairs], references, workers=3)
    assert [result.moslqo for result in threads] == singles


@given(seeds, st.floats(-40, 40), st.booleans())
@settings(max_examples=15, deadline=None)
def test_gain_and_polarity(seed: int, decibels: float, flip: bool) -> None:
    check_gain_and_polarity(seed, decibels, flip)


@given(seeds, st.integers(0, 12_000))
@settings(max_examples=15, deadline=None)
def test_delay(seed: int, delay: int) -> None:
    check_delay(seed, delay)


@given(st.lists(seeds, min_size=1, max_size=4), seeds)
@settings(max_examples=6, deadline=None)
def test_batch_order_and_threads(seeds: list[int], order_seed: int) -> None:
    check_batch(seeds, order_seed)


@pytest.mark.slow
@given(seeds, st.floats(-40, 40), st.booleans())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_gain_and_polarity_many(seed: int, decibels: float, flip: bool) -> None:
    check_gain_and_polarity(seed, decibels, flip)


@pytest.mark.slow
@given(seeds, st.integers(0, 20_000))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_delay_many(seed: int, delay: int) -> None:
    check_delay(seed, delay)


@pytest.mark.slow
@given(st.lists(seeds, min_size=1, max_size=5), seeds)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_batch_order_and_threads_many(seeds: list[int], order_seed: int) -> None:
    check_batch(seeds, order_seed)


def test_one_reference_for_many_estimates() -> None:
    target, preds = pair(0)
    reference = metric().reference(target, RATE)
    estimates = [preds, 0.5 * preds, target]
    shared = metric().score_batch(estimates, reference)
    assert [r.moslqo for r in shared] == [score(p, target).moslqo for p in estimates]
    assert len({r.moslqo for r in shared}) >= 2
