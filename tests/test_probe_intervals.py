"""Intervals of probe scores: by groups of test items, near 1 as well, and comparisons made together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from benchmarks.datasets import Clip
from benchmarks.statistics.groups import effective_groups
from probes.intervals import Evidence, difference_interval, score_interval
from probes.metrics import PITCH_CLASSES
from probes.runner import ProbeCell, Score, compare
from probes.scoring import Problem, score
from probes.tasks.base import Clusters, TaskData, TaskInfo
from probes.tasks.labeled import note_clusters


def answers(hits: np.ndarray, groups: np.ndarray, n_labels: int = 12, seed: int = 0) -> tuple[Problem, np.ndarray]:
    """A problem whose items are all tested, and predictions (1, n, n_labels) that are right where `hits` says."""
    rng = np.random.default_rng(seed)
    rows = np.arange(len(hits))
    targets = rng.integers(0, n_labels, len(hits))
    guess = np.where(hits, targets, (targets + rng.integers(1, n_labels, len(hits))) % n_labels)
    problem = Problem("p", "multiclass", PITCH_CLASSES[:n_labels], targets, ((rows, rows, rows),), 16, groups)
    return problem, np.eye(n_labels)[guess][None]


def test_error_of_equal_groups_is_that_of_their_means() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(10), 8)
    hits = rng.random(80) < np.repeat(rng.random(10), 8)
    problem, predictions = answers(hits, groups)
    found = score(problem, predictions, {})
    assert found.n_groups == 10
    replicates = found.replicates["f1_micro"]
    error = np.std(replicates) * math.sqrt(9)
    by_group = hits.reshape(10, 8).mean(axis=1)
    assert error == pytest.approx(np.std(by_group, ddof=1) / math.sqrt(10))
    value = found.per_seed["f1_micro"][0]
    for bound in score_interval("f1_micro", value, replicates, Evidence(80, 10)):  # Wilson's equation
        n = value * (1 - value) / error**2
        assert abs(value - bound) == pytest.approx(t.ppf(0.975, 9) * math.sqrt(bound * (1 - bound) / n))


def test_many_groups_are_left_out_in_blocks() -> None:
    hits = np.random.default_rng(0).random(700) < 0.8
    found = score(*answers(hits, np.arange(700)), {})
    assert len(found.replicates["f1_micro"]) == 200
    error = np.std(found.replicates["f1_micro"]) * math.sqrt(199)
    assert error == pytest.approx(math.sqrt(0.8 * 0.2 / 700), rel=0.2)


def test_perfect_and_constant_scores() -> None:
    ones = np.ones(14)
    q = t.ppf(0.975, 13) ** 2
    for metric in ("f1_micro", "f1_macro", "roc_auc"):
        assert score_interval(metric, 1.0, ones, Evidence(352, 14)) == pytest.approx((352 / (352 + q), 1.0))
        assert score_interval(metric, 0.0, 0 * ones, Evidence(352, 14)) == pytest.approx((0.0, q / (352 + q)))
    for n in range(1, 400):  # rounding, too, keeps them from 0 to 1
        assert score_interval("f1_micro", 1.0, ones, Evidence(n, 14))[1] == 1.0
        assert score_interval("f1_micro", 0.0, 0 * ones, Evidence(n, 14))[0] == 0.0
    assert score_interval("roc_auc", 0.5, 0.5 * ones, Evidence(352, 14)) == (0.5, 0.5)
    # a mean over items is no surer than so many answers; the area under a curve may be
    nearly = np.full(14, 0.9) + 1e-4 * np.arange(14)
    widths = [np.diff(score_interval(m, 0.9, nearly, Evidence(100, 14)))[0] for m in ("f1_micro", "roc_auc")]
    assert widths[0] > 3 * widths[1] > 0
    assert np.isnan(score_interval("f1_micro", 0.9, np.array([np.nan, 0.9]), Evidence(100, 2))).all()


@pytest.mark.parametrize(("right", "least"), [(0.6, 0.92), (0.95, 0.88), (0.995, 0.92)])
def test_coverage_with_14_instruments(right: float, least: float) -> None:
    """At a nominal 95 %: right by groups, far too sure by items."""
    rng = np.random.default_rng(5)
    covered = {"groups": 0, "items": 0}
    trials = 500
    for _ in range(trials):
        sizes = rng.integers(15, 40, 14)
        groups = np.repeat(np.arange(14), sizes)
        hits = rng.random(len(groups)) < rng.beta(6 * right, 6 * (1 - right), 14)[groups]
        n, value = len(hits), float(hits.mean())
        for name, number in (("groups", groups), ("items", np.arange(n))):
            replicates = (hits.sum() - np.bincount(number, hits)) / (n - np.bincount(number))
            low, high = score_interval("f1_micro", value, replicates, Evidence(n, effective_groups(number)))
            assert low <= value <= high
            covered[name] += low <= right <= high
    assert least < covered["groups"] / trials < 0.99
    if right < 0.9:
        assert covered["items"] / trials < 0.75


def test_groups_of_unequal_size_widen_the_interval() -> None:
    """One instrument with most of the notes: fewer degrees of freedom than instruments."""
    replicates = 0.8 + 0.01 * np.random.default_rng(0).normal(size=14)
    equal, unequal = (score_interval("f1_micro", 0.8, replicates, Evidence(10**6, n)) for n in (14.0, 5.5))
    assert unequal[0] < equal[0] < equal[1] < unequal[1]
    found = score(*answers(np.arange(20) % 3 > 0, np.minimum(np.arange(20), 11)), {})
    assert (found.n_groups, found.n_effective) == (12, pytest.approx(400 / 92))


def test_difference_is_paired_and_t() -> None:
    replicates = np.array([0.1, 0.2, 0.3, 0.2])
    error = np.std(replicates) * math.sqrt(3)
    low, high, p = difference_interval(0.2, replicates, Evidence(40, 4))
    assert (low, high) == pytest.approx((0.2 - t.ppf(0.975, 3) * error, 0.2 + t.ppf(0.975, 3) * error))
    assert p == pytest.approx(2 * t.sf(0.2 / error, 3))
    assert difference_interval(0.0, np.zeros(4), Evidence(40, 4)) == (0.0, 0.0, 1.0)


def test_one_group_has_no_interval_and_no_verdict() -> None:
    hits = np.random.default_rng(0).random(40) < 0.5
    problem, predictions = answers(hits, np.zeros(40, dtype=int))
    found = score(problem, predictions, {})
    assert found.n_groups == 1
    (replicate,) = found.replicates["f1_micro"]
    assert math.isnan(replicate)
    assert np.isnan(score_interval("f1_micro", 0.5, found.replicates["f1_micro"], Evidence(40, 1))).all()
    cell = ProbeCell("p", "x", "mlp", {"f1_micro": Score(0.5, 0.0, (0.5,), 0.0, 1.0)}, replicates=found.replicates)
    record = compare(cell, replace(cell, representation="y"), "f1_micro", 0.95)
    assert record is not None
    assert record["reason"] == "the test items are one group"
    assert "p" not in record


def test_lost_tags_and_folds_are_left_out_of_replicates() -> None:
    """A group may hold all positives of a tag, or all items of a fold."""
    rng = np.random.default_rng(0)
    rows = np.arange(40)
    targets = (rng.random((40, 2)) < 0.5).astype(int)
    targets[:, 1] = rows < 4
    splits = ((rows, rows, rows[:8]), (rows, rows, rows[8:]))
    targets[10, 1] = 1
    problem = Problem("p", "multilabel", ("a", "b"), targets, splits, 16, rows // 4)
    found = score(problem, rng.random((2, 40, 2)), {})
    assert np.isfinite(found.replicates["roc_auc"]).all()
    whole = replace(problem, groups=np.where(rows < 8, 0, rows))
    assert np.isfinite(score(whole, rng.random((2, 40, 2)), {}).replicates["average_precision"]).all()


def note(name: str, instrument: str, pitch: str) -> Clip:
    return Clip(name, "notes", name, {"instrument": instrument, "pitch": pitch}, "", print)


def test_groups_of_notes_depend_on_what_is_asked() -> None:
    clips = [note("a", "Oboe", "C4"), note("b", "Oboe", "C4"), note("c", "Oboe", "C5"), note("d", "Flute", "C4")]
    ids = [clip.id for clip in clips]
    pitch, instrument = note_clusters(clips, "pitch_class"), note_clusters(clips, "instrument")
    assert pitch.index(ids).tolist() == [0, 0, 0, 1]
    assert instrument.index(ids).tolist() == [0, 0, 1, 2]
    assert pitch.describe(ids) == "4 notes of 2 instruments"
    assert instrument.describe(ids[1:]) == "3 notes"
    assert Clusters().index(ids).tolist() == [0, 1, 2, 3]


def test_groups_are_part_of_what_is_measured() -> None:
    clips = [note(name, "Oboe", "C4") for name in "abcd"]
    info = TaskInfo("notes", "1", "Notes", "multiclass", ("C",), "notes", "", "", "")
    data = TaskData(info, clips, np.zeros(4, dtype=int), {})
    grouped = replace(data, clusters=Clusters({"a": "x", "b": "x"}))
    assert data.clusters_digest != grouped.clusters_digest
    assert data.digest == grouped.digest, "the same clips and targets all the same"


def test_scores_of_values_have_intervals_on_their_scales() -> None:
    """R^2 on log(1 - R^2), Pearson's correlation on Fisher's z: Student's t with the jackknife's error there."""
    tested = Evidence(n_items=40, n_effective=4.0)  # of 6 groups that differ in size
    replicates = np.array([0.5, 0.6, 0.55, 0.58, 0.62, 0.53])
    for metric, there, back in (
        ("r2", lambda x: np.log(1 - x), lambda y: 1 - np.exp(y)),
        ("pearson", np.arctanh, np.tanh),
    ):
        moved = there(replicates)
        error = math.sqrt(5 / 6 * np.square(moved - moved.mean()).sum())
        half = t.ppf(0.975, 3) * error
        expected = sorted((back(there(0.57) - half), back(there(0.57) + half)))
        assert score_interval(metric, 0.57, replicates, tested) == pytest.approx(expected)
        assert score_interval(metric, 1.0, replicates, tested) == (1.0, 1.0)
        assert score_interval(metric, 0.57, np.array([0.5, 1.0]), tested) == (0.57, 0.57)
        assert np.isnan(score_interval(metric, 0.57, replicates[:1], tested)).all()
        two = Evidence(n_items=40, n_effective=1.0)  # at least one degree of freedom
        low, high = score_interval(metric, 0.57, replicates, two)
        wide = t.ppf(0.975, 1) * error
        assert (low, high) == pytest.approx(sorted((back(there(0.57) - wide), back(there(0.57) + wide))))
