"""Statistics of clips that come in groups: closed forms, and what grouping must not change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from benchmarks.evaluation.measure import to_cell
from benchmarks.metrics.base import PairMetric
from benchmarks.statistics.groups import group_index, leave_out_blocks
from benchmarks.statistics.means import paired_difference, summarize
from benchmarks.statistics.multiple import Best, adjust_pairs, best_of_column, compare_pairs, compare_scores
from benchmarks.statistics.significance import holm
from benchmarks.store.store import Result

HOW: dict[str, Any] = {"resamples": 500, "seed": 0, "level": 0.95}
#: Six values of three groups: mean 4, sums of the centered values by group -4, 0, 4.
SIX, OF = [1.0, 3.0, 2.0, 4.0, 6.0, 8.0], ["a", "a", "b", "b", "b", "c"]
SIX_ERROR = math.sqrt(3 / 2 * (16 + 0 + 16)) / 6
SIX_FREEDOM = 36 / (4 + 9 + 1) - 1


def tracks(n: int, seed: int, sizes: int = 4) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Scores of four systems on n clips, and the groups of the clips."""
    rng = np.random.default_rng(seed)
    clips = [f"clip{i:03d}" for i in range(n)]
    scores = {name: dict(zip(clips, (rng.normal(i / 2, 1, n)).tolist(), strict=True)) for i, name in enumerate("abcd")}
    return scores, {clip: f"track{i // sizes}" for i, clip in enumerate(clips)}


def test_groups_are_numbered_by_first_appearance_and_a_clip_without_one_is_its_own() -> None:
    ids = ["q", "a", "z", "b", "c"]
    assert group_index(ids, {"a": "t1", "q": "t2", "b": "t1", "z": ""}).tolist() == [0, 1, 2, 1, 3]
    assert group_index(ids).tolist() == [0, 1, 2, 3, 4]
    assert group_index([]).tolist() == []


@pytest.mark.parametrize(("n", "most", "expected"), [(1, 200, 1), (42, 200, 42), (200, 200, 200), (1003, 200, 200)])
def test_each_group_is_left_out_once(n: int, most: int, expected: int) -> None:
    blocks = leave_out_blocks(n, seed=3, most=most)
    assert len(blocks) == expected
    assert sorted(np.concatenate(blocks).tolist()) == list(range(n))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    assert all(np.array_equal(a, b) for a, b in zip(blocks, leave_out_blocks(n, seed=3, most=most), strict=True))
    with pytest.raises(ValueError, match="most=0"):
        leave_out_blocks(n, 0, most=0)


def test_cluster_robust_error_by_hand() -> None:
    found = paired_difference(SIX, [0.0] * 6, OF)
    assert (found.n, found.n_groups, found.mean) == (6, 3, 4.0)
    assert (found.error, found.freedom) == (pytest.approx(SIX_ERROR), pytest.approx(SIX_FREEDOM))
    half = SIX_ERROR * stdtrit(SIX_FREEDOM, 0.975)
    assert (found.low, found.high) == (pytest.approx(4 - half), pytest.approx(4 + half))
    assert found.p == pytest.approx(2 * stdtr(SIX_FREEDOM, -4 / SIX_ERROR))
    summary = summarize(SIX, OF)
    assert (summary.low, summary.high, summary.n_groups) == (found.low, found.high, 3)
    # Each value its own group: the error of a mean, and Student's t with n - 1 degrees of freedom.
    alone = paired_difference(SIX[:5], [0.0] * 5)
    assert alone.freedom == 4
    assert alone.error == pytest.approx(np.std(SIX[:5], ddof=1) / math.sqrt(5))
    assert alone.high == pytest.approx(np.mean(SIX[:5]) + alone.error * stdtrit(4, 0.975))


def test_copies_of_clips_add_nothing() -> None:
    """Every clip three times, as excerpts that all sound alike: the interval is that of the clips."""
    values = np.random.default_rng(0).exponential(size=20)
    once, thrice = summarize(values), summarize(np.repeat(values, 3), np.repeat(np.arange(20), 3))
    assert (thrice.n, thrice.n_groups) == (60, 20)
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    ignored = summarize(np.repeat(values, 3))
    assert ignored.high - ignored.low < 0.7 * (once.high - once.low)


def test_one_clip_per_group_is_no_groups() -> None:
    scores, _ = tracks(30, 1)
    own = {clip: f"group of {clip}" for clip in scores["a"]}
    values = list(scores["a"].values())
    assert summarize(values) == summarize(values, list(own.values()))
    assert paired_difference(scores["a"], scores["b"]) == paired_difference(scores["a"], scores["b"], own)
    assert compare_pairs(scores, **HOW) == compare_pairs(scores, own, **HOW)
    others = {name: scores[name] for name in "bcd"}
    assert compare_scores(scores["a"], others, **HOW) == compare_scores(scores["a"], others, own, **HOW)


def test_order_of_clips_and_names_of_groups_do_not_matter() -> None:
    scores, groups = tracks(30, 2)
    turned = {name: dict(reversed(values.items())) for name, values in scores.items()}
    renamed = {clip: group[::-1] + "!" for clip, group in reversed(groups.items())}
    assert compare_pairs(scores, groups, **HOW) == compare_pairs(turned, renamed, **HOW)
    a, b = scores["a"], scores["b"]
    assert paired_difference(a, b, groups) == paired_difference(turned["a"], turned["b"], renamed)
    assert compare_scores(a, {"b": b}, groups, **HOW) == compare_scores(turned["a"], {"b": b}, renamed, **HOW)


def test_pairs_are_paired_differences_and_do_not_depend_on_other_rows() -> None:
    scores, groups = tracks(40, 3)
    records = {(r["a"], r["b"]): r for r in compare_pairs(scores, groups, **HOW)}
    assert list(records) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    found = paired_difference(scores["b"], scores["d"], groups, n_resamples=500)
    record = records["b", "d"]
    assert (record["n"], record["n_groups"]) == (40, 10)
    assert (record["low"], record["high"], record["p"]) == pytest.approx((found.low, found.high, found.p))
    [alone] = compare_pairs({"b": scores["b"], "d": scores["d"]}, groups, **HOW)
    assert alone == pytest.approx(record)


def test_values_that_are_not_numbers_or_not_finite() -> None:
    gone = summarize([*SIX, math.nan, math.nan], [*OF, "c", "d"])
    assert (gone.n, gone.n_groups, gone.n_nan) == (6, 3, 2)
    assert gone.high == pytest.approx(summarize(SIX, OF).high)
    alike = paired_difference([math.inf] * 4, [1.0] * 4, list("aabb"))
    assert (alike.mean, alike.low, alike.p, alike.significant) == (math.inf, math.inf, 0.0, True)
    mixed = paired_difference([math.inf, 1.0, 2.0], [0.0] * 3)
    assert (mixed.mean, mixed.significant) == (math.inf, False)
    assert math.isnan(mixed.low)
    scores = {"exact": {"x": math.inf, "y": math.inf}, "nearly": {"x": math.inf, "y": 9.0}, "not": {"x": 1.0, "y": 2.0}}
    by = {(r["a"], r["b"]): r for r in compare_pairs(scores, **HOW)}
    assert by["exact", "not"]["p"] == 0.0
    mixed_pairs = {by["exact", "nearly"]["reason"], by["nearly", "not"]["reason"]}
    assert mixed_pairs == {"infinite for some clips and finite for others"}


def test_one_group_says_nothing_about_others() -> None:
    single = summarize(SIX, ["t"] * 6)
    assert (single.n, single.n_groups, single.mean) == (6, 1, 4.0)
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    difference = paired_difference(SIX, [0.0] * 6, ["t"] * 6)
    assert not difference.significant
    assert math.isnan(difference.error)
    scores, _ = tracks(8, 0)
    groups = dict.fromkeys(scores["a"], "t")
    [record] = compare_pairs({"a": scores["a"], "b": scores["b"]}, groups, **HOW)
    [compared] = compare_scores(scores["a"], {"b": scores["b"]}, groups, **HOW)
    assert record["reason"] == compared.reason == "all clips in common are of one group"


@pytest.mark.parametrize(("low", "high", "expected"), [(0.7, 5.2, (1.0, 5.0)), (2.0, 4.5, (2.0, 4.5))])
def test_the_interval_of_a_mean_ends_where_the_scores_do(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    meta: dict[str, Any] = {"value": 3.0, "n": 4, "n_groups": 2, "low": low, "high": high, "values": {}}
    metric = PairMetric(name="mos", title="MOS", function=lambda preds, target, rate: 3.0, worst=1.0, best=5.0)
    cell = to_cell(Result(meta), metric)
    assert (cell.low, cell.high) == expected
    one_group = to_cell(Result(meta | {"n_groups": 1, "low": math.nan, "high": math.nan}), metric)
    assert (one_group.value, one_group.low, one_group.high) == (3.0, None, None)


@given(
    seed=st.integers(0, 1000),
    n=st.integers(2, 40),
    n_groups=st.integers(2, 40),
    shift=st.floats(-3, 3),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
)
@settings(max_examples=60, deadline=None)
def test_interval_and_p_value_say_the_same(seed: int, n: int, n_groups: int, shift: float, confidence: float) -> None:
    rng = np.random.default_rng(seed)
    values, groups = rng.exponential(size=n) - 1 + shift, rng.integers(0, n_groups, n)
    found = paired_difference(values, np.zeros(n), groups, n_resamples=300, confidence=confidence)
    assert found.significant == (found.p <= 1 - confidence)
    assert 0 <= found.p <= 1
    if found.n_groups > 1:
        assert found.low <= found.mean <= found.high


def test_p_values_go_on_below_one_in_the_number_of_resamples() -> None:
    noise = np.random.default_rng(0).exponential(size=30)
    steps = [paired_difference(noise + shift, np.zeros(30)).p for shift in np.linspace(0, 3, 20)]
    assert steps == sorted(steps, reverse=True)
    assert 0 < steps[-1] < 1e-6


def test_holm_by_hand() -> None:
    """Smallest p times 4, next times 3, ..., never less than the one before: what Holm's step-down procedure gives."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_of_a_column_are_one_family() -> None:
    records = [{"a": "x", "b": str(i), "p": p} for i, p in enumerate([0.01, 0.04, 0.03, 0.005])]
    left_out = [{"a": "x", "b": "y", "reason": "measured on different clips"}, {"a": "x", "b": "z", "p": math.nan}]
    found = adjust_pairs([left_out[0], *records, left_out[1]], 0.95)
    assert [record.get("p_adjusted") for record in found] == pytest.approx([None, 0.03, 0.06, 0.06, 0.02, None])
    assert [record.get("significant") for record in found] == [None, True, False, False, True, None]
    assert "p_adjusted" not in records[0]  # the records given are left alone
    assert adjust_pairs([], 0.95) == []


def test_best_of_a_column_and_its_equals() -> None:
    values = {"a": 3.0, "b": 2.9, "c": 1.0, "d": math.nan}
    records = [
        {"a": "b", "b": "a", "significant": False},
        {"a": "a", "b": "c", "significant": True},
        {"a": "b", "b": "c", "significant": True},
    ]
    assert best_of_column(values, records, True) == Best(["a"], 3.0, ["b"])
    assert best_of_column(values, records, False) == Best(["c"], 1.0, [])
    assert best_of_column({"a": 1.0, "b": 1.0}, [], True) == Best(["a", "b"], 1.0, [])
    assert best_of_column({"d": math.nan}, [], True) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarize(SIX, OF[:5]), "5 groups for 6 values"),
        (lambda: paired_difference(SIX, SIX, dict(zip("abcdef", OF, strict=True))), "groups are a mapping"),
        (lambda: paired_difference({"a": 1.0}, {"a": 2.0}, ["t"]), "groups are a mapping"),
        (lambda: paired_difference([], [], confidence=95), "confidence=95"),
    ],
)
def test_wrong_groups_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
