"""Bounds, errors and p-values of the statistics: closed forms, SciPy's distributions, figures worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr

from benchmarks.metrics.frechet import frechet_distance, frechet_infinity
from benchmarks.statistics import corpus as corpora
from benchmarks.statistics.bootstrap import count_draws, resample_blocks
from benchmarks.statistics.corpus import compare_replicates, corpus_distance
from benchmarks.statistics.groups import (
    effective_groups,
    group_sums,
    group_weights,
    leave_out_blocks,
    left_out_means,
    number_groups,
)
from benchmarks.statistics.intervals import (
    bootstrap_p_value,
    max_t_bound,
    order_bound,
    t_bound,
    t_p_value,
    two_sided_p_value,
)
from benchmarks.statistics.means import (
    Difference,
    Summary,
    differences_of,
    paired_difference,
    ratio,
    studentized,
    summarize,
)
from benchmarks.statistics.multiple import (
    Best,
    Compared,
    Drawn,
    adjust_pairs,
    best_of_column,
    compare_corpora,
    compare_pairs,
    compare_scores,
    simultaneous,
    verdict,
)
from benchmarks.statistics.replicates import (
    difference_of_cells,
    jackknife_bias,
    replicate_error,
    t_half_width,
    two_sided_p,
)
from benchmarks.statistics.significance import holm, minimum_detectable, power_of

#: 999 draws in ascending order: 1, 2, ..., 999.
DRAWS = np.arange(1.0, 1000.0)


# ---------------------------------------------------------------- bounds and p-values


@pytest.mark.parametrize(
    ("n", "level", "rank"), [(99, 0.95, 95), (99, 0.951, 96), (19, 0.95, 19), (18, 0.95, None), (1, 0.5, 1)]
)
def test_the_bound_is_the_order_statistic_beyond_which_p_is_at_most_the_rest(
    n: int, level: float, rank: int | None
) -> None:
    draws = 10.0 * np.arange(1, n + 1)
    bound = order_bound(draws, level)
    assert bound == (math.inf if rank is None else 10.0 * rank)
    if rank is not None:
        assert (1 + (draws > bound).sum()) / (n + 1) <= 1 - level + 1e-9 < (1 + (draws >= bound).sum() + 1) / (n + 1)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.5])
def test_a_level_is_between_0_and_1(level: float) -> None:
    calls = (
        lambda: order_bound(DRAWS, level),
        lambda: t_half_width(1.0, 3.0, level),
        lambda: summarize([1.0, 2.0], confidence=level),
        lambda: paired_difference([1.0, 2.0], [0.0, 0.0], confidence=level),
    )
    for call in calls:
        with pytest.raises(ValueError, match=f"={level}"):
            call()


def test_max_t_takes_the_largest_deviation_of_each_draw() -> None:
    bound, largest = max_t_bound(np.array([[1.0, 5.0], [4.0, 2.0], [3.0, 3.0]]), 0.5)
    assert largest.tolist() == [3.0, 4.0, 5.0]
    assert bound == 4.0


@pytest.mark.parametrize("freedom", [1.0, 2.5, 41.0, math.inf])
def test_students_t_is_scipys(freedom: float) -> None:
    law = stats.t(freedom) if freedom < math.inf else stats.norm
    assert t_bound(0.95, freedom) == pytest.approx(law.ppf(0.975))
    assert t_bound(0.5, freedom) == pytest.approx(law.ppf(0.75))
    for statistic in (0.0, 0.7, -2.0, 9.0):
        assert two_sided_p_value(statistic, freedom) == pytest.approx(2 * law.sf(abs(statistic)))
        assert t_p_value(2.0 * statistic, 2.0, freedom) == pytest.approx(law.sf(statistic))


def test_without_an_error_the_change_itself_decides() -> None:
    for error, freedom in ((0.0, 5.0), (math.nan, 5.0), (1.0, 0.0), (1.0, -0.5)):
        assert [t_p_value(harm, error, freedom) for harm in (0.5, 0.0, -0.5)] == [0.0, 1.0, 1.0]
    assert t_p_value(1.0, 1.0, 0.5) == pytest.approx(stats.t(0.5).sf(1.0))
    assert [two_sided_p(change, 0.0, 5.0) for change in (0.0, 1.0, -1.0)] == [1.0, 0.0, 0.0]
    assert math.isnan(two_sided_p(1.0, math.nan, 5.0))
    assert math.isnan(two_sided_p(1.0, 1.0, 0.0))
    assert two_sided_p(-3.0, 2.0, 0.5) == pytest.approx(2 * stats.t(0.5).sf(1.5))


def test_a_bootstrap_p_value_is_a_share_and_then_students_tail_through_the_last_share() -> None:
    """Of 999 draws ten are at least 990, eleven of a thousand with the statistic itself."""
    for statistic, beyond in ((500.0, 500), (500.5, 499), (990.0, 10), (0.0, 999)):
        assert bootstrap_p_value(statistic, DRAWS, 7.0, 0.95) == (1 + beyond) / 1000
    law = stats.t(7.0)
    for statistic in (990.5, 991.0, 2000.0):
        expected = law.cdf(statistic / 990.0 * law.ppf(11 / 1000))
        assert bootstrap_p_value(statistic, DRAWS, 7.0, 0.95) == pytest.approx(expected)
    assert bootstrap_p_value(2000.0, DRAWS, 7.0, 0.99) == 1 / 1000  # eleven in a thousand are more than 1 - level
    assert bootstrap_p_value(2000.0, DRAWS[:99], 7.0, 0.95) == 1 / 100
    for tail in (math.inf, 0.0):
        draws = np.sort(np.where(DRAWS < 985, -1.0, tail))
        assert bootstrap_p_value(2000.0, draws, 7.0, 0.95) == (1 + (15 if tail else 0)) / 1000
    exactly = bootstrap_p_value(1.5, np.concatenate([np.zeros(989), np.full(10, 1.0)]), 7.0, 0.95)
    assert exactly == pytest.approx(law.cdf(1.5 * law.ppf(11 / 1000)))


# ---------------------------------------------------------------- the gate's power


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.02, 0.01, 0.9, 0.015]) == pytest.approx([0.045, 0.04, 0.9, 0.045])
    assert holm([0.4]) == [0.4]


@pytest.mark.parametrize(("tolerance", "cells"), [(0.1, 4), (9.0, 4), (0.1, 1), (0.1, 0)])
def test_the_smallest_change_that_is_caught(tolerance: float, cells: int) -> None:
    """Its test passes the first step of Holm's correction, or the tolerance, with a probability of 95 %."""
    law, error, alpha = stats.t(7.5), 0.8, 0.01
    hurdle = max(tolerance, law.isf(alpha / max(cells, 1)) * error)
    found = minimum_detectable(error, 7.5, tolerance, cells, alpha)
    assert found == pytest.approx(hurdle + law.ppf(0.95) * error)
    assert power_of(found, error, 7.5, tolerance, cells, alpha) == pytest.approx(0.95)
    assert power_of(hurdle, error, 7.5, tolerance, cells, alpha) == pytest.approx(0.5)
    assert power_of(3.0, error, 7.5, tolerance, cells, alpha) == pytest.approx(law.cdf((3.0 - hurdle) / error))


def test_power_without_an_error() -> None:
    for error, freedom in ((math.nan, 5.0), (0.0, 5.0), (1.0, 0.0)):
        assert minimum_detectable(error, freedom, 0.3, 4, 0.01) == 0.3
    assert [power_of(change, 0.0, 5.0, 0.3, 4, 0.01) for change in (0.2, 0.3, 0.4)] == [0.0, 0.0, 1.0]
    assert math.isnan(power_of(1.0, math.nan, 5.0, 0.3, 4, 0.01))
    assert math.isnan(power_of(1.0, 1.0, 0.0, 0.3, 4, 0.01))
    assert math.isfinite(power_of(1.0, 1.0, 0.5, 0.3, 4, 0.01))
    assert minimum_detectable(1.0, 0.5, 0.3, 4, 0.01) > 1.0


# ---------------------------------------------------------------- groups and replicates


def test_sums_and_sizes_of_groups() -> None:
    index = number_groups(["x", "y", "x", "z", "y", "x"])
    assert index.tolist() == [0, 1, 0, 2, 1, 0]
    table = np.array([[1.0, 10], [2, 20], [4, 40], [8, 80], [16, 160], [32, 320]])
    assert group_sums(table, index).tolist() == [[37.0, 370.0], [18.0, 180.0], [8.0, 80.0]]
    assert effective_groups(index) == pytest.approx(36 / 14)
    assert left_out_means(table[:, 0], index) == pytest.approx([26 / 3, 45 / 4, 55 / 5])


def test_resamples_and_blocks_count_every_group_once() -> None:
    assert [len(block) for block in leave_out_blocks(200, 0)] == [1] * 200
    blocks = leave_out_blocks(201, 0)
    assert sorted(map(len, blocks)) == [1] * 199 + [2]
    assert [block.tolist() for block in leave_out_blocks(3, 0)] == [[0], [1], [2]]
    assert [block.tolist() for block in leave_out_blocks(3, 0, most=3)] == [[0], [1], [2]]
    assert len(leave_out_blocks(4, 0, most=1)) == 1
    for n, most in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match=f"n_groups={n} and most={most}"):
            leave_out_blocks(n, 0, most)
    for n, resamples in ((5, 0), (0, 5)):
        with pytest.raises(ValueError, match=f"n={n} and n_resamples={resamples}"):
            next(resample_blocks(n, resamples, 0))
    assert [block.tolist() for block in resample_blocks(1, 1, 0)] == [[[0]]]
    drawn, weights = next(resample_blocks(7, 30, 4)), next(group_weights(7, 30, 4))
    assert weights.tolist() == [[int((row == i).sum()) for i in range(7)] for row in drawn]


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).exponential(size=9)
    error, freedom = replicate_error(left_out_means(values, np.arange(9)), "jackknife")
    assert (error, freedom) == (pytest.approx(stats.sem(values)), 8.0)
    assert replicate_error([1.0, 2.0, 4.0], "jackknife") == (pytest.approx(math.sqrt(2 / 3 * 14 / 3)), 2.0)
    assert replicate_error([1.0, 3.0], "jackknife") == (1.0, 1.0)
    assert replicate_error([2.0, 2.0], "jackknife") == (0.0, 1.0)
    assert replicate_error(1.0 + 1e-14 * np.arange(5), "jackknife")[0] == 0.0  # rounding
    assert replicate_error(1.0 + 1e-10 * np.arange(5), "jackknife")[0] > 0.0
    few, none = replicate_error([1.0], "jackknife")
    assert math.isnan(few)
    assert none == 0.0
    with pytest.raises(ValueError, match="'bootstrap'"):
        replicate_error([1.0, 2.0], "bootstrap")


def test_the_jackknife_takes_a_bias_of_one_in_n_off_a_variance() -> None:
    """The mean squared deviation underestimates the variance by 1 / n of it, which Quenouille's bias repairs."""
    values = np.random.default_rng(1).standard_normal(12)
    without = [np.var(np.delete(values, i)) for i in range(12)]
    bias = jackknife_bias(float(np.var(values)), without, np.arange(12, dtype=np.int32))
    assert np.var(values) - bias == pytest.approx(np.var(values, ddof=1))
    blocks = np.array([0, 0, 0, 1, 1, 2], dtype=np.int32)  # weights 1/2, 2/3, 5/6
    assert jackknife_bias(1.0, [3.0, 2.5, 1.6], blocks) == pytest.approx(2 / 2 + 1.5 * 2 / 3 + 0.6 * 5 / 6)


def test_half_an_interval() -> None:
    assert t_half_width(0.3, 5.0, 0.9) == pytest.approx(0.3 * stats.t(5).ppf(0.95))
    assert t_half_width(0.3, 0.5, 0.9) == pytest.approx(0.3 * stats.t(0.5).ppf(0.95))
    assert math.isnan(t_half_width(0.3, 0.0, 0.9))


def cell(value: float, replicates: list[float], **changes: Any) -> dict[str, Any]:
    shape = {"clips": ["p", "q", "r"], "n": 7, "n_groups": len(replicates), "freedom": len(replicates) - 1.5}
    return {"value": value, "replicates": replicates, "replicates_of": "jackknife", **shape, **changes}


def test_differences_of_distances_are_paired_replicate_by_replicate() -> None:
    a, b = cell(5.0, [4.0, 6.0, 5.5]), cell(2.0, [1.5, 2.0, 2.5])
    difference, apart = difference_of_cells(a, b)
    assert (difference, apart.tolist()) == (3.0, [2.5, 4.0, 3.0])
    error = math.sqrt(2 / 3 * (np.square([2.5, 4.0, 3.0]).sum() - 9.5**2 / 3))
    [record] = compare_replicates({"a": a, "b": b}, level=0.9)
    half = error * stats.t(1.5).ppf(0.95)
    assert (record["a"], record["b"], record["n"], record["n_groups"], record["difference"]) == ("a", "b", 7, 3, 3.0)
    assert (record["low"], record["high"]) == (pytest.approx(3.0 - half), pytest.approx(3.0 + half))
    assert record["p"] == pytest.approx(2 * stats.t(1.5).sf(3.0 / error))
    nearly = cell(5.0 + 1e-9, [4.0, 6.0, 5.5 + 5e-9])
    assert difference_of_cells(a, nearly)[0] == 0.0
    assert difference_of_cells(cell(0.0, [0.0, 0.0]), cell(1e-30, [0.0, 0.0]))[0] == 0.0
    assert difference_of_cells(a, cell(5.1, [4.0, 6.0, 5.5 + 7e-9]))[0] == pytest.approx(-0.1)
    with_none = compare_replicates(
        {"a": a, "none": {"value": 1.0}, "b": b, "other": cell(1, [1, 2], clips=["p"])}, level=0.9
    )
    assert [(r["a"], r["b"], "p" in r) for r in with_none] == [
        ("a", "b", True),
        ("a", "other", False),
        ("b", "other", False),
    ]


# ---------------------------------------------------------------- means


def loop(table: np.ndarray, index: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    """What `studentized` promises, from the definitions: one column, one resample, one group at a time."""

    def error(values: list[np.ndarray], mean: float) -> float:
        n, n_groups = sum(map(len, values)), len(values)
        return math.sqrt(n_groups / (n_groups - 1) * sum((v - mean).sum() ** 2 for v in values)) / n

    means, errors, deviations = [], [], []
    draws = np.concatenate(list(resample_blocks(1 + int(index.max()), resamples, seed)))
    for column in table.T:
        parts = [column[(index == g) & ~np.isnan(column)] for g in range(1 + int(index.max()))]
        held = [part for part in parts if len(part)]
        mean = float(np.concatenate(held).mean())
        whole = error(held, mean)
        row = []
        for draw in draws:
            drawn = [parts[g] for g in draw if len(parts[g])]
            if len(drawn) < 2:
                row.append(0.0)
                continue
            moved = float(np.concatenate(drawn).mean())
            spread = error(drawn, moved)
            spread = 0.0 if spread < 1e-9 * whole else spread
            spread = max(spread, 0.4 * whole if len(held) >= 5 else 0.0)
            if spread == 0.0:
                row.append(math.copysign(math.inf, moved - mean) if abs(moved - mean) > 1e-12 else 0.0)
            else:
                row.append((moved - mean) / spread)
        means.append(mean)
        errors.append(whole)
        deviations.append(row)
    return np.array(means), np.array(errors), np.array(deviations).T


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
    below, above = Difference(9, 9, -0.5, -0.9, -0.1), Difference(9, 9, 0.5, 0.1, 0.9)
    assert [item.significant for item in (below, above, Difference(9, 9, 0.0, -0.1, 0.1))] == [True, True, False]


# ---------------------------------------------------------------- many comparisons


def test_simultaneous_intervals_by_hand() -> None:
    """The largest deviations of 19 draws are 1, ..., 19; at 90 % the bound is the 18th."""
    deviations = np.stack([np.arange(1.0, 20), np.arange(19.0, 0, -1) / 20], axis=1)
    family = [
        Drawn("far", 9, 61.0, 60.0, 3.0, 8), Drawn("near", 9, -2.0, -2.0, 0.5, 8), Drawn("just", 9, 36.0, 36.0, 2.0, 8),
        Drawn("same", 9, 0.0, 0.0, 0.0, 8), Drawn("surely", 9, 2.0, 2.0, 0.0, 8),
        Drawn("few", 9, 5.0, 5.0, 0.1, 2, 0.25),
    ]  # fmt: skip
    found = simultaneous(family, deviations, 0.9)
    assert found["far"] == Compared("far", 9, 8, 61.0, 60 - 54.0, 60 + 54.0, 1 / 20, True)
    assert found["near"] == Compared("near", 9, 8, -2.0, -2 - 9.0, -2 + 9.0, 17 / 20, False)
    assert found["just"] == Compared("just", 9, 8, 36.0, 0.0, 72.0, 3 / 20, False)  # 18 errors, not beyond
    assert found["same"] == Compared("same", 9, 8, 0.0, 0.0, 0.0, 1.0, False)
    assert found["surely"] == Compared("surely", 9, 8, 2.0, 2.0, 2.0, 1 / 20, True)
    law = stats.t(0.25)
    half = 0.1 * law.ppf(0.95)  # Student's is wider than the 18th draw
    assert half > 1.8
    assert (found["few"].low, found["few"].high) == (pytest.approx(5 - half), pytest.approx(5 + half))
    assert found["few"].p == pytest.approx(2 * law.sf(50.0))


def test_one_comparison_of_scores_has_symmetric_bounds_of_its_resamples() -> None:
    rng = np.random.default_rng(3)
    a = {f"c{i}": float(x) for i, x in enumerate(rng.exponential(size=9))}
    b = {clip: value - 0.4 - 0.3 * i for i, (clip, value) in enumerate(a.items())}
    [found] = compare_scores(a, {"b": b}, resamples=199, seed=2, level=0.9)
    differences = np.array([a[clip] - b[clip] for clip in sorted(a)])
    _, [error], deviations = loop(differences[:, None], np.arange(9), 199, 2)
    half = max(np.sort(np.abs(deviations[:, 0]))[179], stats.t(8).ppf(0.95)) * error
    assert (found.n, found.n_groups, found.difference) == (9, 9, pytest.approx(differences.mean()))
    assert (found.low, found.high) == (pytest.approx(found.difference - half), pytest.approx(found.difference + half))


def test_why_scores_are_not_compared() -> None:
    own = {"x": 1.0, "y": math.inf, "z": math.nan, "w": 4.0}
    others = {
        "one": {"x": 0.0}, "none": {"z": 2.0}, "exact": {"x": 1.0, "y": math.inf}, "mixed": {"x": 0.0, "y": 0.0},
        "two": {"x": 0.5, "w": 3.0},
    }  # fmt: skip
    found = {item.against: item for item in compare_scores(own, others, resamples=50, seed=0, level=0.95)}
    assert found["one"].reason == "1 clips in common: at least 2 needed"
    assert found["none"].reason == "0 clips in common: at least 2 needed"
    assert (found["none"].n, found["none"].n_groups) == (0, 0)
    assert found["mixed"].reason == "infinite for some clips and finite for others"
    assert (found["exact"].reason, found["exact"].difference, found["exact"].low, found["exact"].p) == (
        None,
        0.0,
        0.0,
        1.0,
    )
    assert (found["two"].n, found["two"].n_groups, found["two"].difference) == (2, 2, 0.75)
    [endless] = compare_scores(
        {"x": math.inf, "y": math.inf}, {"b": {"x": 1.0, "y": 2.0}}, resamples=50, seed=0, level=0.9
    )
    assert endless == Compared("b", 2, 2, math.inf, math.inf, math.inf, 1 / 51, True)
    [pair] = compare_pairs({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 1.0}}, resamples=20, seed=0, level=0.9)
    assert pair == {"a": "a", "b": "b", "n": 1, "n_groups": 1, "reason": "measured on different clips"}
    [pair] = compare_pairs({"a": {"x": 1.0}, "b": {"x": 2.0}}, resamples=20, seed=0, level=0.9)
    assert pair["reason"] == "1 clips in common: at least 2 needed"


def test_corpora_are_compared_by_students_t_of_their_joint_law() -> None:
    """One comparison: the drawn deviations are |t|. Two opposite ones have the bound of one, two independent more."""
    own = cell(5.0, [5.0, 5.0, 5.0, 5.0])
    wave = np.array([1.0, -1.0, 1.0, -1.0])
    across = np.array([1.0, 1.0, -1.0, -1.0])
    others = {"b": cell(2.0, (2.0 + wave).tolist()), "minus": cell(9.0, (9.0 - 3 * wave).tolist())}
    law = stats.t(2.5)
    [alone] = compare_corpora(own, {"b": others["b"]}, level=0.9)
    error = math.sqrt(3 / 4 * 4)
    assert (alone.n, alone.n_groups, alone.difference) == (7, 4, 3.0)
    assert (alone.high - alone.low) / 2 == pytest.approx(law.ppf(0.95) * error, rel=0.05)
    assert (alone.high + alone.low) / 2 == pytest.approx(3.0)
    assert alone.p == pytest.approx(2 * law.sf(3.0 / error), abs=0.015)
    found = {item.against: item for item in compare_corpora(own, others, level=0.9)}
    assert (found["b"].high - found["b"].low) / 2 == pytest.approx(law.ppf(0.95) * error, rel=0.05)
    assert (found["minus"].high - found["minus"].low) == pytest.approx(3 * (found["b"].high - found["b"].low))
    two = compare_corpora(own, {"b": others["b"], "c": cell(2.0, (2.0 + across).tolist())}, level=0.9)
    # Independent normal deviations over one chi: P(max |t| <= x), integrated over the chi's law.
    chi = np.sqrt(stats.chi2(2.5).ppf((np.arange(2000) + 0.5) / 2000) / 2.5)
    bound = brentq(lambda x: np.mean((2 * ndtr(x * chi) - 1) ** 2) - 0.9, 1.0, 9.0)
    assert (two[0].high - two[0].low) / 2 == pytest.approx(bound * error, rel=0.05)
    reasons = compare_corpora(own, {"no": {"value": 1.0}, "other": cell(1.0, [1.0, 2.0], clips=["p"])}, level=0.9)
    assert [item.reason for item in reasons] == ["no replicates", "measured on different clips"]
    [same, beside] = compare_corpora(own, {"same": own, "b": others["b"]}, level=0.9)
    assert (beside.high - beside.low) / 2 == pytest.approx(law.ppf(0.95) * error, rel=0.05)
    assert (same.difference, same.low, same.high, same.p, same.significant) == (0.0, 0.0, 0.0, 1.0, False)


def test_verdicts_and_levels() -> None:
    better, worse = Compared("b", 3, 3, 1.0, 0.5, 1.5, 0.01, True), Compared("b", 3, 3, -0.5, -0.9, -0.1, 0.01, True)
    assert [verdict(item, True) for item in (better, worse)] == ["better", "worse"]
    assert [verdict(item, False) for item in (better, worse)] == ["worse", "better"]
    assert verdict(Compared("b", 3, 3, 0.1, -1.0, 1.2, 0.5), True) == "no difference"
    assert verdict(Compared("b", reason="no replicates"), True) == "not compared"
    assert verdict(Compared("b", 3, 3, math.nan), True) == "not compared"
    tied = [{"a": "c", "b": "a", "significant": False}, {"a": "c", "b": "b", "significant": True}]
    assert best_of_column({"a": 3.0, "b": 3.0, "c": 2.9}, tied, True) == Best(["a", "b"], 3.0, ["c"])
    pair = {"a": "x", "b": "y"}
    assert [adjust_pairs([pair | {"p": p}], 0.75)[0]["significant"] for p in (0.25, 0.26)] == [True, False]


# ---------------------------------------------------------------- distances of corpora


CLIPS = [np.random.default_rng(i).standard_normal((3, 2)) for i in range(8)]
OUTPUTS = [clip + 0.5 + 0.4 * np.random.default_rng(90 + i).standard_normal((3, 2)) for i, clip in enumerate(CLIPS)]


@pytest.mark.parametrize("distance", ["fad", "fad_debiased", "kad", "kad_paired"])
@pytest.mark.parametrize("groups", [None, [0, 0, 0, 1, 1, 2, 3, 4]])
def test_intervals_of_distances_follow_from_their_replicates(distance: str, groups: list[int] | None) -> None:
    found = corpus_distance(distance, CLIPS, OUTPUTS, groups=groups, seed=0, level=0.9)
    replicates = np.array(found["replicates"])
    b = len(replicates)
    error = math.sqrt((b - 1) / b * np.square(replicates - replicates.mean()).sum())
    assert b == found["n_groups"] == (5 if groups else 8)
    assert found["freedom"] == pytest.approx(64 / 16 - 1 if groups else 7)
    assert (found["n"], found["n_windows"], found["dim"]) == (8, 24, 2)
    half = stats.t(found["freedom"]).ppf(0.95) * error
    value = found["value"]
    if distance == "fad":
        assert (found["low"], found["high"]) == pytest.approx(
            (value * math.exp(-half / value), value * math.exp(half / value))
        )
    else:
        assert (found["low"], found["high"]) == pytest.approx((value - half, value + half))
    if distance == "fad_debiased":
        whole = frechet_distance(np.concatenate(CLIPS), np.concatenate(OUTPUTS))
        shares = np.array([3, 2, 1, 1, 1]) / 8 if groups else np.full(8, 1 / 8)
        assert value == pytest.approx(whole - ((1 - shares) * (replicates - whole)).sum())


def test_the_smallest_corpora() -> None:
    two = corpus_distance("fad", CLIPS[:2], OUTPUTS[:2], seed=0, level=0.9)
    assert two["n_groups"] == 2
    assert two["freedom"] == 1.0
    assert two["low"] < two["value"] < two["high"]
    one_window = [clip[:1] for clip in CLIPS]
    pair = corpus_distance("fad", one_window[:2], [clip[:1] for clip in OUTPUTS[:2]], seed=0, level=0.9)
    assert "low" not in pair  # a clip left alone has one embedding
    triple = corpus_distance("fad", one_window[:3], [clip[:1] for clip in OUTPUTS[:3]], seed=0, level=0.9)
    assert len(triple["replicates"]) == 3
    with pytest.raises(ValueError, match="3 clips, the system 2"):
        corpus_distance("fad", CLIPS[:3], OUTPUTS[:2], seed=0, level=0.9)
    with pytest.raises(ValueError, match="too few pairs"):
        corpus_distance("kad_paired", [CLIPS[0], CLIPS[1][:0]], [OUTPUTS[0], OUTPUTS[1][:0]], seed=0, level=0.9)
    lopsided = corpora._spread([1.0, 3.0], np.array([0, 1]), 0.9)
    assert lopsided is not None
    assert lopsided.half == pytest.approx(stats.t(1).ppf(0.95))
    assert corpora._spread([1.0], np.array([0]), 0.9) is None


def test_an_interval_too_wide_for_a_number_is_open() -> None:
    """Half a million errors wide on the logarithm: what exceeds a number is infinite, and no error is raised."""
    value, replicates = corpora.frechet_replicates(CLIPS, OUTPUTS, np.repeat([0, 1], 4))
    assert len(replicates) == 2
    found = corpora.frechet(CLIPS, OUTPUTS, groups=np.array([0] * 7 + [1]), seed=0, level=1 - 1e-6)
    assert (found["low"], found["high"]) == (0.0, math.inf)
    assert found["value"] == pytest.approx(value)


def test_fad_infinity_draws_groups_on_both_sides() -> None:
    groups = [0, 1, 1, 2, 3, 4, 4, 5]
    found = corpus_distance("fad_inf", CLIPS, OUTPUTS, groups=groups, seed=4, level=0.9)
    sides = [
        [np.concatenate([clips[i] for i in range(8) if groups[i] == g]) for g in range(6)] for clips in (CLIPS, OUTPUTS)
    ]
    assert found["value"] == pytest.approx(frechet_infinity(*sides, seed=4).value)
    assert (found["n"], found["n_groups"]) == (8, 6)


def test_blocks_and_replicates_of_many_and_of_equal_clips() -> None:
    blocks = corpora._blocks(np.arange(201, dtype=np.int32), 5)
    assert [np.flatnonzero(blocks == i).tolist() for i in range(200)] == [b.tolist() for b in leave_out_blocks(201, 5)]
    for distance in ("fad", "kad_paired"):
        same = corpus_distance(distance, CLIPS, CLIPS, seed=0, level=0.9)
        assert (same["value"], same["low"], same["high"], same["replicates"]) == (0.0, 0.0, 0.0, [0.0] * 8)


def test_every_draw_counts() -> None:
    assert count_draws(np.array([[0, 2, 2], [1, 1, 1]], dtype=np.int32), 4).tolist() == [[1, 0, 2, 0], [0, 3, 0, 0]]
    assert sum(len(block) for block in itertools.islice(resample_blocks(3, 777, 1), 9)) == 777
