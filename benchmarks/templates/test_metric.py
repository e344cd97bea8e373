"""my_metric keeps the benchmark's contract."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metrics import PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.registry import parse_metric

NAME = f"{Path(__file__).with_name('my_metric.py')}:my_metric"
RATE = 44_100


def value(noise: float, channels: int = 1) -> float:
    """The metric of a second of audio with added noise."""
    rng = np.random.default_rng(0)
    target = 0.1 * rng.standard_normal((channels, RATE)).astype(np.float32)
    preds = target + np.float32(noise) * rng.standard_normal(target.shape, dtype=np.float32)
    metric = parse_metric(NAME)
    assert isinstance(metric, PairMetric)
    return clip_score(metric, preds, target, RATE)[0]


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo_have_a_value(channels: int) -> None:
    assert math.isfinite(value(0.01, channels))


def test_more_noise_is_worse() -> None:
    better, worse = value(0.001), value(0.1)
    assert better != worse
    assert (better > worse) == parse_metric(NAME).higher_is_better


def test_the_same_audio_has_the_same_value() -> None:
    assert value(0.01) == value(0.01)
