"""What holds for every metric of pairs that needs no weights: its declaration, and input that has no score."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from metric_pairs import pair
from test_heard_metrics import HEARD

from benchmarks.metrics.base import PairMetric
from benchmarks.metrics.clip_score import clip_score
from benchmarks.metrics.registry import list_metrics, parse_metric

STEREO = ("si_sdr:mid", "si_sdr:side", "stereo_coherence", "stereo_phase")
PAIRS = [metric for name in list_metrics() if isinstance(metric := parse_metric(name), PairMetric) and metric.alone]
every = pytest.mark.parametrize("metric", PAIRS, ids=lambda metric: metric.name)


def test_every_metric_of_pairs_is_held_to_the_same_edges() -> None:
    """Those that rest on weights or packages have theirs in test_heard_metrics, ViSQOL's are in test_visqol."""
    pairs = {name for name in list_metrics() if isinstance(parse_metric(name), PairMetric)}
    elsewhere = {*HEARD, "visqol", "latent_mse:music2latent"}
    assert pairs == {metric.name for metric in PAIRS} | elsewhere


@every
def test_an_identical_output_is_the_best_and_a_worse_one_is_worse(metric: PairMetric) -> None:
    _, target = pair()
    best, _ = clip_score(metric, target, target, 44100)
    assert best == pytest.approx(metric.best, abs=1e-6)
    rng = np.random.default_rng(1)
    values = []
    for level in (0.001, 0.01, 0.1):
        output = target + level * rng.standard_normal(target.shape).astype(np.float32)
        values.append(clip_score(metric, output, target, 44100)[0])
    ordered = [best, *values]
    assert ordered == sorted(ordered, reverse=metric.higher_is_better)
    assert len(set(ordered)) == 4
    assert metric.tolerance > 0.0
    assert metric.note
    assert pickle.loads(pickle.dumps(metric)).spec == metric.spec


@every
@pytest.mark.parametrize("rate", [8000, 16000, 96000])
def test_any_rate_has_a_number_or_a_reason(metric: PairMetric, rate: int) -> None:
    value, reason = clip_score(metric, *pair(rate), rate)
    if metric.name == "lsd:8k-" and rate <= 16000:
        assert math.isnan(value)
        assert reason
    else:
        assert math.isfinite(value)


@every
def test_input_without_a_score_has_a_reason(metric: PairMetric) -> None:
    preds, target = pair()
    broken = preds.copy()
    broken[1, 7] = np.nan
    for given in (
        (preds, 0 * target),
        (0 * preds, 0 * target),
        (broken, target),
        (preds, broken),
        (preds[:, :1], target[:, :1]),
    ):
        value, reason = clip_score(metric, *given, 44100)
        assert math.isnan(value)
        assert reason


@every
def test_a_silent_output_has_the_number_of_the_worst_or_its_own(metric: PairMetric) -> None:
    preds, target = pair()
    value, _ = clip_score(metric, 0 * preds, target, 44100)
    damaged, _ = clip_score(metric, preds, target, 44100)
    assert value < damaged if metric.higher_is_better else value > damaged
    assert metric.worst is None or value == metric.worst


@every
def test_mono_has_a_number_unless_the_metric_compares_channels(metric: PairMetric) -> None:
    preds, target = (audio[:1] for audio in pair())
    value, reason = clip_score(metric, preds, target, 44100)
    if metric.name in STEREO:
        assert math.isnan(value)
        assert reason == "1 channel, a stereo clip needed"
    else:
        assert math.isfinite(value)


@every
def test_input_is_not_changed(metric: PairMetric) -> None:
    preds, target = pair()
    before = preds.copy(), target.copy()
    clip_score(metric, preds, target, 44100)
    np.testing.assert_array_equal(preds, before[0])
    np.testing.assert_array_equal(target, before[1])
