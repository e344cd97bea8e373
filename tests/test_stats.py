"""Summaries, bootstrap intervals, paired differences, and resampled Fréchet distances."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from benchmarks.statistics.bootstrap import count_draws, resample_blocks
from benchmarks.statistics.means import paired_difference, summarize
from benchmarks.statistics.multiple import compare_pairs, compare_scores

finite = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(finite, st.integers(0, 5))
def test_interval_holds_the_mean(values: list[float], n_nan: int) -> None:
    summary = summarize([*values, *[math.nan] * n_nan], n_resamples=300)
    assert (summary.n, summary.n_nan) == (len(values), n_nan)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.median == pytest.approx(np.median(values))
    assert math.isnan(summary.low) == math.isnan(summary.high) == (len(values) == 1)
    if len(values) > 1:
        assert summary.low <= summary.mean <= summary.high


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        summary = summarize(rng.exponential(size=60) - 1.0, n_resamples=400)
        hits += summary.low <= 0.0 <= summary.high
    assert 0.89 <= hits / 300 <= 0.99


def test_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    summary = summarize(values, n_resamples=4000)
    assert summary.high - summary.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    narrower = summarize(values, n_resamples=4000, confidence=0.5)
    assert summary.low < narrower.low < narrower.high < summary.high


def test_same_seed_same_numbers_whatever_the_chunks() -> None:
    values = np.random.default_rng(0).exponential(size=30)  # skewed: resamples ask for more than Student's t
    assert summarize(values) == summarize(list(values))
    assert summarize(values, seed=1).high != summarize(values).high
    error = values.std(ddof=1) / math.sqrt(30)
    draws = values[np.concatenate(list(resample_blocks(30, 2000, 0)))]
    deviations = np.sort((draws.mean(axis=1) - values.mean()) / (draws.std(axis=1, ddof=1) / math.sqrt(30)))
    student = float(stdtrit(29, 0.975))
    assert -deviations[49] > student  # the 50th of 2,000: the mean of skewed values may lie far above
    assert deviations[-50] < student
    assert summarize(values).high == pytest.approx(values.mean() - deviations[49] * error)
    assert summarize(values).low == pytest.approx(values.mean() - student * error)


def test_few_none_and_infinite_values() -> None:
    single = summarize([3.0])
    assert (single.n, single.n_groups, single.mean, single.std) == (1, 1, 3.0, 0.0)
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    empty = summarize([math.nan, math.nan])
    assert (empty.n, empty.n_nan) == (0, 2)
    assert math.isnan(empty.mean)
    perfect = summarize([math.inf] * 5)
    assert (perfect.mean, perfect.low, perfect.high) == (math.inf,) * 3
    mixed = summarize([math.inf, 1.0, 2.0])
    assert mixed.mean == math.inf
    assert math.isnan(mixed.low)
    assert mixed.median == 2.0
    assert set(summarize([1.0]).as_dict()) >= {"n", "n_nan", "mean", "median", "low", "high"}


def test_paired_difference_beats_the_spread_of_clips() -> None:
    """Clips differ by 10 dB, systems by 0.5 dB: unpaired intervals overlap, the paired one does not."""
    rng = np.random.default_rng(0)
    difficulty = 10 * rng.standard_normal(50)
    a, b = difficulty + 0.5 + 0.2 * rng.standard_normal(50), difficulty
    assert summarize(a).low < summarize(b).high
    difference = paired_difference(a, b)
    assert difference.significant
    assert difference.low < 0.5 < difference.high
    back = paired_difference(b, a)
    assert (back.mean, back.low) == (pytest.approx(-difference.mean), pytest.approx(-difference.high, rel=1e-2))
    assert not paired_difference(b, b).significant


def test_paired_difference_uses_the_clips_both_have() -> None:
    a = {"x": 1.0, "y": 2.0, "z": math.nan, "only a": 9.0}
    b = {"y": 1.5, "x": 0.0, "z": 3.0, "only b": 9.0}
    difference = paired_difference(a, b)
    assert difference.n == 2
    assert difference.mean == pytest.approx(0.75)
    assert paired_difference({"x": math.inf, "y": 1.0}, {"x": math.inf, "y": 0.0}).n == 1
    assert paired_difference({}, b).n == 0
    assert not paired_difference({}, b).significant


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarize(np.zeros((2, 2))), r"\(2, 2\)"),
        (lambda: summarize([1.0], confidence=95), "confidence=95"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), r"\(1,\), b \(2,\)"),
        (lambda: paired_difference({"a": 1.0}, [1.0]), "two mappings"),
        (lambda: list(resample_blocks(0, 5, 0)), "n=0"),
    ],
)
def test_wrong_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("n", [1, 2, 7, 42, 1000, 20_000])
def test_draws_do_not_depend_on_their_blocks(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed intervals rest on these numbers: they are those of one call for all resamples in int64."""
    known = np.random.Generator(np.random.PCG64([3, n])).integers(0, n, size=(53, n))
    assert np.array_equal(np.concatenate(list(resample_blocks(n, 53, 3))), known)
    monkeypatch.setattr("benchmarks.statistics.bootstrap._BLOCK_INDICES", 10 * n)
    blocks = list(resample_blocks(n, 53, 3))
    assert len(blocks) == 6
    assert np.array_equal(np.concatenate(blocks), known)
    counts = np.stack([np.bincount(row, minlength=n) for row in known])
    assert np.array_equal(np.concatenate([count_draws(block, n) for block in blocks]), counts)


def test_twenty_thousand_clips_fit_in_a_small_part_of_memory() -> None:
    """All indices of 2,000 resamples at once would be 160 MB, and their counts twice as much again."""
    values = np.random.default_rng(0).standard_normal(20_000)
    scores = {f"{i:05d}": float(value) for i, value in enumerate(values)}
    other = {clip: value - 0.01 for clip, value in scores.items()}
    groups = {clip: clip[:4] for clip in scores}  # of ten clips each
    calls = [
        lambda: summarize(values),
        lambda: paired_difference(scores, other, n_resamples=300),
        lambda: compare_scores(scores, {"b": other}, resamples=300, seed=0, level=0.95),
        lambda: compare_pairs(dict.fromkeys("abcd", scores), groups, resamples=300, seed=0, level=0.95),
    ]
    for call in calls:
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 150e6
