"""Silence is the worst value and perfection a ceiling: neither is left out, and means stay finite."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks.evaluation.jobs import Limits
from benchmarks.evaluation.stages import unusable
from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.si_sdr import SI_SDR
from benchmarks.metrics.visqol.metric import VISQOL
from benchmarks.statistics.means import paired_difference, summarize
from m2l.audio import cancels, is_silent

RATE = 16000
si_sdr, visqol = partial(clip_score, SI_SDR), partial(clip_score, VISQOL)
LIMITS_OF_LOAD = Limits("mono", min_seconds=1.0, min_sample_rate=8000, silence_rms=1e-5)


def music(channels: int = 1, seed: int = 0, seconds: float = 1.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    rows = [
        np.sin(2 * np.pi * rng.uniform(150, 900) * time) + 0.05 * rng.standard_normal(len(time))
        for _ in range(channels)
    ]
    return (0.2 * np.stack(rows)).astype(np.float32)


SILENT = {
    "zeros": lambda x: np.zeros_like(x),
    "a constant": lambda x: np.full_like(x, 0.1),
    "minus zero": lambda x: -np.zeros_like(x),
    "-140 dB of noise": lambda x: 1e-7 * music(len(x), seed=5),
    "channels that cancel": lambda x: np.concatenate([x[:1], -x[:1]]) if len(x) == 2 else 0 * x,
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", SILENT)
@pytest.mark.parametrize("metric", [SI_SDR, VISQOL], ids=lambda metric: metric.name)
def test_a_silent_output_of_an_audible_clip_is_the_worst_value(metric: PairMetric, name: str, channels: int) -> None:
    target = music(channels)
    value, note = clip_score(metric, SILENT[name](target), target, RATE)
    assert value == metric.worst
    assert note is not None
    assert note.startswith("silent output, counted as")


@pytest.mark.parametrize("metric", [SI_SDR, VISQOL], ids=lambda metric: metric.name)
def test_a_silent_original_has_no_score(metric: PairMetric) -> None:
    for preds in (music(), np.zeros_like(music())):
        value, reason = clip_score(metric, preds, np.zeros_like(music()), RATE)
        assert math.isnan(value)
        assert reason is not None
        assert "target is silent" in reason


def test_silence_never_beats_an_output() -> None:
    """The worst value lies below what unrelated audio gets, which is what an untrained model makes."""
    unrelated = [si_sdr(music(seed=seed), music(seed=99), RATE)[0] for seed in range(40)]
    assert min(unrelated) > SI_SDR.worst
    nothing_shared = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)[None]
    orthogonal = np.cos(2 * np.pi * 100 * np.arange(RATE) / RATE)[None]
    assert si_sdr(orthogonal, nothing_shared, RATE)[0] >= SI_SDR.worst


@pytest.mark.parametrize("change", [lambda x: x.copy(), lambda x: 0.5 * x, lambda x: -2 * x])
def test_an_exact_output_is_capped_and_says_so(change) -> None:
    target = music(2)
    assert si_sdr(change(target), target, RATE) == (100.0, "exact, counted as 100 dB")
    assert si_sdr(target + 0.01 * music(2, seed=3), target, RATE)[1] is None
    assert visqol(target, target, RATE)[1] is None  # its best is 4.73, which ends no mean


def test_one_exact_clip_leaves_mean_interval_and_comparison() -> None:
    good, bad = ([si_sdr(target + (i > 0) * gain * music(seed=50 + i), target, RATE)[0] for i in range(12)]
                 for gain in (0.01, 3.0) for target in [music()])  # fmt: skip
    for values in (good, bad):
        found = summarize(values)
        assert all(map(math.isfinite, (found.mean, found.low, found.high, found.std)))
    difference = paired_difference(good, bad)
    assert math.isfinite(difference.low)
    assert difference.significant


def test_channels_that_cancel_are_no_silence() -> None:
    one = music()
    anti = np.concatenate([one, -one])
    assert cancels(anti)
    assert is_silent(anti)
    assert not cancels(one)
    assert not cancels(music(2))
    assert not cancels(np.zeros((2, 100), np.float32))
    rounded = np.floor(anti * 2**15) / 2**15  # the last bit does not cancel
    assert cancels(rounded.astype(np.float32))
    noise = 0.02 * music(2, seed=7)
    value, note = si_sdr(anti + noise, anti, RATE)
    each = [si_sdr((anti + noise)[i : i + 1], anti[i : i + 1], RATE)[0] for i in (0, 1)]
    assert value == pytest.approx(np.mean(each))
    assert note == "channels that cancel as mono, scored one by one"
    assert visqol(anti + noise, anti, RATE)[0] > 1.5
    assert si_sdr(anti, anti, RATE)[0] == 100.0
    worst, note = si_sdr(np.zeros_like(anti), anti, RATE)
    assert worst == -100.0
    assert note is not None
    assert "silent output" in note
    half, _ = si_sdr(anti * [[1], [0]], anti, RATE)
    assert half == 0.0  # one channel exact, one silent


def test_a_mono_suite_says_that_channels_cancel() -> None:
    one = music()
    reason = unusable(np.concatenate([one, -one]), RATE, LIMITS_OF_LOAD)
    assert reason is not None
    assert reason.startswith("channels that cancel as mono")
    assert unusable(np.concatenate([one, -one]), RATE, replace(LIMITS_OF_LOAD, channels="native")) is None
    assert unusable(np.zeros((2, 2 * RATE), np.float32), RATE, LIMITS_OF_LOAD) == "silent"


def test_the_log_of_a_training_run_has_the_same_range() -> None:
    from m2l.training.validation import si_sdr as logged

    target = music()[0]
    assert logged(np.zeros_like(target), target) == SI_SDR.worst
    assert logged(target, target) == SI_SDR.best
    near = target + 0.01 * music(seed=4)[0]
    assert logged(near, target) == pytest.approx(si_sdr(near[None], target[None], RATE)[0], abs=1e-3)


def test_the_gate_has_the_same_ceilings() -> None:
    assert SI_SDR.clamp(math.inf) == SI_SDR.best == 100.0
    assert (VISQOL.clamp(-math.inf), VISQOL.clamp(math.inf)) == (1.0, 5.0)


def test_a_metric_that_says_why_keeps_its_reason() -> None:
    target = music()
    short = replace(VISQOL, function=lambda p, t, rate: (math.nan, "too short"))
    assert clip_score(short, target, target, RATE)[1] == "too short"
    lowest = replace(SI_SDR, function=lambda p, t, rate: (-math.inf, None))
    assert clip_score(lowest, target, target, RATE) == (-100.0, None)
