"""Many comparisons and distances of corpora: bounds by hand, by SciPy's distributions, and from the replicates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr
from statistics_plain import cell, loop

from benchmarks.metrics.frechet import frechet_distance, frechet_infinity
from benchmarks.metrics.kernel import kernel_distance, median_bandwidth, paired_kernel_distance
from benchmarks.statistics import corpus as corpora
from benchmarks.statistics.bootstrap import count_draws, resample_blocks
from benchmarks.statistics.corpus import corpus_distance
from benchmarks.statistics.groups import leave_out_blocks
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
    with pytest.raises(ValueError, match="1 clips: a distance of corpora needs at least 2"):
        corpus_distance("fad", CLIPS[:1], OUTPUTS[:1], seed=0, level=0.9)
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


@pytest.mark.parametrize(("half", "finite"), [(699.5, True), (699.99, True), (700.0, False), (701.0, False)])
def test_the_widest_interval_of_a_distance(monkeypatch: pytest.MonkeyPatch, half: float, finite: bool) -> None:
    monkeypatch.setattr(corpora, "frechet_replicates", lambda *_: (1.0, [1.0, 1.0]))
    monkeypatch.setattr(corpora, "_spread", lambda *_: corpora._Spread(half, {}))
    found = corpora.frechet(CLIPS, OUTPUTS, groups=np.arange(8), seed=0, level=0.9)
    assert found["high"] == (pytest.approx(math.exp(half)) if finite else math.inf)
    assert found["low"] == (pytest.approx(math.exp(-half)) if finite else 0.0)


def test_kernel_distances_of_clips_and_without_each() -> None:
    """Without a block the distance is that of the other clips, at the bandwidth of all."""
    blocks = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    kept = [np.flatnonzero(blocks != block) for block in range(7)]

    def chosen(clips: list[np.ndarray], which: np.ndarray) -> list[np.ndarray]:
        return [clips[i] for i in which]

    found = corpus_distance("kad", CLIPS, OUTPUTS, groups=blocks, seed=0, level=0.9)
    sigma = median_bandwidth(np.concatenate(OUTPUTS))
    assert found["value"] == pytest.approx(kernel_distance(np.concatenate(CLIPS), np.concatenate(OUTPUTS)))
    assert found["replicates"] == pytest.approx([
        kernel_distance(*(np.concatenate(chosen(clips, which)) for clips in (CLIPS, OUTPUTS)), bandwidth=sigma)
        for which in kept
    ])  # fmt: skip
    found = corpus_distance("kad_paired", CLIPS, OUTPUTS, groups=blocks, seed=0, level=0.9)
    sigma = median_bandwidth(np.concatenate(CLIPS))
    assert found["value"] == pytest.approx(paired_kernel_distance(CLIPS, OUTPUTS))
    assert found["replicates"] == pytest.approx(
        [paired_kernel_distance(chosen(CLIPS, which), chosen(OUTPUTS, which), bandwidth=sigma) for which in kept]
    )


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
