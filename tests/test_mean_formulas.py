"""Means, their errors and intervals, from the definitions one resample at a time, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statistics_plain import loop

from benchmarks.statistics.means import (
    Difference,
    Summary,
    differences_of,
    paired_difference,
    ratio,
    studentized,
    summarize,
)


@pytest.mark.parametrize("n_groups", [3, 4, 5, 7])
def test_errors_and_deviations_of_resamples_are_their_definitions(n_groups: int) -> None:
    rng = np.random.default_rng(n_groups)
    index = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 6)]).astype(np.int32)
    table = rng.exponential(size=(len(index), 3))
    table[rng.random(table.shape) < 0.15] = math.nan
    table[:2] = [[1.0, 2.0, 9.0], [2.0, 1.0, 0.5]]
    table[index == n_groups - 1, 1] = math.nan  # a column that one group says nothing about
    found = studentized(table, index, 120, 3)
    means, errors, deviations = loop(table, index, 120, 3)
    assert found.means == pytest.approx(means)
    assert found.errors == pytest.approx(errors)
    assert found.deviations == pytest.approx(deviations)
    present = ~np.isnan(table)
    sizes = np.stack([present[index == g].sum(axis=0) for g in range(n_groups)])
    assert found.n.tolist() == present.sum(axis=0).tolist()
    assert found.n_groups.tolist() == (sizes > 0).sum(axis=0).tolist()
    assert found.freedom == pytest.approx(found.n**2 / (sizes**2).sum(axis=0) - 1)


def test_equal_values_have_no_error_and_rounding_is_none() -> None:
    index = np.arange(8, dtype=np.int32)
    table = np.stack([np.full(8, 0.1), 0.1 + 1e-14 * np.arange(8), 0.1 + 1e-10 * np.arange(8)], axis=1)
    found = studentized(table, index, 50, 0)
    assert found.errors[:2].tolist() == [0.0, 0.0]
    assert found.errors[2] == pytest.approx(1e-10 * stats.sem(np.arange(8.0)))
    assert np.abs(found.deviations[:, :2]).max() == 0.0
    assert ratio(np.array([0.0, 3.0, 3.0, 1e-13]), np.array([0.0, 0.0, 2.0, 0.0])).tolist() == [0.0, math.inf, 1.5, 0.0]
    same = paired_difference([3.0] * 8, [1.0] * 8)
    assert (same.mean, same.low, same.high, same.error, same.freedom, same.p) == (2.0, 2.0, 2.0, 0.0, 7.0, 0.0)
    none = paired_difference([3.0] * 8, [3.0] * 8)
    assert (none.low, none.high, none.p, none.significant) == (0.0, 0.0, 1.0, False)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("n", [5, 6, 30])
def test_bounds_are_quantiles_of_the_resamples_or_students_and_the_p_value_agrees(n: int, sign: float) -> None:
    values = sign * (np.random.default_rng(2).exponential(size=n) - 0.6)
    found = paired_difference(values, np.zeros(n), n_resamples=999, confidence=0.9, seed=5)
    mean, error, law = values.mean(), stats.sem(values), stats.t(n - 1)
    _, _, deviations = loop(values[:, None], np.arange(n), 999, 5)
    draws = np.sort(deviations[:, 0])
    below = above = law.ppf(0.95)
    p = 2 * law.sf(abs(mean) / error)
    if n >= 6:  # the 950th of 999 to either side
        below, above = max(below, draws[949]), max(above, -draws[49])
        beyond = (draws >= mean / error).sum() if mean > 0 else (draws <= mean / error).sum()
        assert beyond >= 10 or n == 30
        p = max(p, 2 * (1 + beyond) / 1000) if beyond >= 10 else found.p
    assert (found.n, found.n_groups, found.confidence) == (n, n, 0.9)
    assert (found.error, found.freedom) == (pytest.approx(error), pytest.approx(n - 1))
    assert (found.low, found.high) == (pytest.approx(mean - below * error), pytest.approx(mean + above * error))
    assert found.p == pytest.approx(min(p, 1.0))
    assert max(draws[949], -draws[49]) > law.ppf(0.95)


def test_two_thousand_resamples_and_95_percent_unless_told_otherwise() -> None:
    values = np.random.default_rng(3).exponential(size=12) - 1.8
    found = paired_difference(values, np.zeros(12))
    assert found == paired_difference(values, np.zeros(12), n_resamples=2000, confidence=0.95, seed=0)
    assert found.p * 2001 / 2 == pytest.approx(round(found.p * 2001 / 2))  # a share of 2,000 draws and one
    assert 10 < found.p * 2001 / 2 < 990
    summary = summarize(values)
    assert summary == summarize(values, n_resamples=2000, confidence=0.95, seed=0)
    assert summary.confidence == 0.95
    assert (summary.median, summary.std) == (np.median(values), pytest.approx(np.std(values, ddof=1)))


def test_means_without_an_interval() -> None:
    assert summarize([]) == pytest.approx(Summary(0, 0, 0, *[math.nan] * 5), nan_ok=True)
    two = summarize([1.0, 3.0])
    half = stats.t(1).ppf(0.975)
    assert (two.mean, two.std, two.low, two.high) == (2.0, pytest.approx(2**0.5), 2 - half, pytest.approx(2 + half))
    once = paired_difference([math.inf, math.inf], [0.0, 0.0], ["t", "t"])
    assert (once.n, once.n_groups, once.mean, once.significant) == (2, 1, math.inf, False)
    twice = paired_difference([math.inf, math.inf], [0.0, 0.0])
    assert (twice.low, twice.high, twice.error, twice.freedom, twice.p) == (math.inf, math.inf, 0.0, 1.0, 0.0)
    single = paired_difference([4.0], [1.0])
    assert (single.n, single.n_groups, single.mean, single.p, single.freedom) == (1, 1, 3.0, 1.0, 0.0)
    column = differences_of(studentized(np.array([[1.0], [math.nan]]), np.arange(2, dtype=np.int32), 20, 0), 0.9)[0]
    assert (column.n, column.n_groups, column.mean, column.confidence) == (1, 1, 1.0, 0.9)
    assert math.isnan(column.low)
    empty = studentized(np.array([[math.nan, 1.0], [math.nan, math.nan]]), np.arange(2, dtype=np.int32), 20, 0)
    assert (empty.means.tolist(), empty.errors.tolist(), empty.n.tolist()) == ([0.0, 1.0], [0.0, 0.0], [0, 1])
    assert empty.freedom.tolist() == [-1.0, 0.0]
    one_group = studentized(np.random.default_rng(0).random((7, 20)), np.zeros(7, dtype=np.int32), 20, 0)
    assert one_group.errors.tolist() == [0.0] * 20  # what rounding leaves of the sums is no error
    below, above = Difference(9, 9, -0.5, -0.9, -0.1), Difference(9, 9, 0.5, 0.1, 0.9)
    assert [item.significant for item in (below, above, Difference(9, 9, 0.0, -0.1, 0.1))] == [True, True, False]
