"""Bounds, p-values, powers, jackknives: closed forms, SciPy's distributions, figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statistics_plain import cell

from benchmarks.statistics.bootstrap import resample_blocks
from benchmarks.statistics.corpus import compare_replicates
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
from benchmarks.statistics.means import paired_difference, summarize
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
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([0.6, 0.6, 0.7]) == [1.0, 1.0, 1.0]  # 1.8, 1.2 and 0.7


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
