"""A task reduced to arrays, and scores of predictions on it with their jackknife replicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.statistics.groups import effective_groups, leave_out_blocks, number_groups
from probes.metrics import Ranking, f1_scores, key_scores, key_weight_table, regression_scores
from probes.tasks.base import METRICS, TaskData


@dataclass(frozen=True)
class Problem:
    """A task reduced to arrays; rows number the items of one feature matrix.

    Attributes:
        name: the task's.
        kind: "multilabel", "multiclass", "key" or "regression".
        labels: names of classes, tags or values in column order.
        targets: (n_items,) class numbers, or (n_items, n_labels) zeros and ones, or values.
        splits: rows of train, validation and test, one triple per fold.
        batch_size: items per training step.
        groups: (n_items,) number of each item's group, which intervals count; None: each item on its own.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    targets: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    batch_size: int
    groups: np.ndarray | None = None

    @property
    def test_groups(self) -> np.ndarray:
        """(n_test,) the groups of `test_rows`, numbered in order of first appearance."""
        rows = self.test_rows
        return number_groups(rows if self.groups is None else self.groups[rows])

    @property
    def test_rows(self) -> np.ndarray:
        """Rows of all test parts, fold after fold."""
        return np.concatenate([test for _, _, test in self.splits])

    def without(self, missing: np.ndarray) -> Problem:
        """The same problem without rows whose features are missing."""
        gone = set(missing.tolist())

        def keep(rows: np.ndarray) -> np.ndarray:
            return np.array([row for row in rows.tolist() if row not in gone], dtype=np.int64)

        splits = tuple((keep(train), keep(valid), keep(test)) for train, valid, test in self.splits)
        return dataclasses.replace(self, splits=splits)


@dataclass(frozen=True)
class Evaluation:
    """Scores of one probe on one task.

    Attributes:
        per_seed: metric -> one value per seed (the mean over folds).
        predictions: (n_seeds, n_test, n_labels) probabilities, or values, test parts fold after fold.
        replicates: metric -> (B,) values without one block of groups of test items each, mean over seeds; the
            blocks are those of `leave_out_blocks`.
        details: chosen learning rates, kept epochs, and "never_improved" where no seed got better on the validation
            part after its first epoch.
        n_groups, n_effective: groups of the test items, and how many of one size tell as much.
    """

    per_seed: dict[str, list[float]]
    predictions: np.ndarray
    replicates: dict[str, np.ndarray]
    details: dict[str, Any]
    n_groups: int
    n_effective: float


def problem_of(data: TaskData, scheme: str, name: str | None = None, batch_size: int | None = None) -> Problem:
    """A task's targets and splits as arrays; rows number its clips. `name` is what results go by."""
    splits = tuple(
        (data.rows(split.train), data.rows(split.validation), data.rows(split.test)) for split in data.splits(scheme)
    )
    info = data.info
    groups = data.clusters.index(clip.id for clip in data.clips)
    size = batch_size or info.batch_size
    return Problem(name or info.name, info.kind, info.labels, data.targets, splits, size, groups)


def chance(problem: Problem) -> Evaluation:
    """What the labels alone give: the best constant answer by the training part.

    The most frequent class; for keys the constant with the best expected MIREX score; for tags every clip
    gets the same scores, so ROC-AUC is one half and average precision the share of positives; for values their means.
    """
    parts = []
    for train, _, test in problem.splits:
        if problem.kind in ("multilabel", "regression"):
            constant = problem.targets[train].mean(axis=0)
        else:
            prior = np.bincount(problem.targets[train], minlength=len(problem.labels)).astype(float)
            gain = prior @ key_weight_table(problem.labels) if problem.kind == "key" else prior
            constant = np.eye(len(problem.labels))[int(np.argmax(gain))]
        parts.append(np.tile(constant, (len(test), 1)))
    return score(problem, np.concatenate(parts)[None], {})


def score(problem: Problem, predictions: np.ndarray, details: dict[str, Any], drop_last: int = 0) -> Evaluation:
    """Metrics of predictions per seed, and without each block of groups of the test items.

    Blocks depend on the test items alone: every representation leaves out the same ones, so that differences of their
    replicates are paired. Groups that lie in several folds are left out of all of them.

    Args:
        problem: the task.
        predictions: (n_seeds, n_test, n_labels), test parts fold after fold.
        details: kept as they are.
        drop_last: if set, the incomplete last batch of this size is left out of each test part.
    """
    metrics = METRICS[problem.kind]
    sizes = [len(test) for _, _, test in problem.splits]
    starts = np.cumsum([0, *sizes])
    kept = [size // drop_last * drop_last if drop_last else size for size in sizes]
    if min(kept) == 0:
        raise ValueError(f"task {problem.name!r}: a test part of {min(sizes)} items has no full batch of {drop_last}")
    folds = [slice(start, start + size) for start, size in zip(starts, kept, strict=False)]
    targets = problem.targets[problem.test_rows]
    scorers = [[Scorer(problem, targets[fold], seed[fold]) for fold in folds] for seed in predictions]
    per_seed = [_mean([scorer() for scorer in seed]) for seed in scorers]
    groups = problem.test_groups
    replicates: dict[str, list[float]] = {name: [] for name in metrics}
    for block in leave_out_blocks(1 + int(groups.max()), 0):
        weights = (~np.isin(groups, block)).astype(float)
        values = _mean([s(weights[fold]) for seed in scorers for s, fold in zip(seed, folds, strict=True)])
        for name in metrics:
            replicates[name].append(values[name])
    return Evaluation(
        {name: [values[name] for values in per_seed] for name in metrics},
        predictions.astype(np.float32),
        {name: np.array(values) for name, values in replicates.items()},
        details,
        1 + int(groups.max()),
        effective_groups(groups),
    )


class Scorer:
    """Metrics of one set of predictions under any item weights."""

    def __init__(self, problem: Problem, targets: np.ndarray, predictions: np.ndarray) -> None:
        self.problem, self.targets = problem, targets
        if problem.kind == "multilabel":
            self.ranking = Ranking(targets, predictions)
        elif problem.kind == "regression":
            self.predicted = predictions
        else:
            self.guess = predictions.argmax(axis=1)

    def __call__(self, weights: np.ndarray | None = None) -> dict[str, float]:
        if weights is not None and weights.sum() == 0:
            return dict.fromkeys(METRICS[self.problem.kind], float("nan"))
        if self.problem.kind == "multilabel":
            area, precision = self.ranking(weights)
            if weights is None and not np.isfinite(area).all():
                tag = self.problem.labels[int(np.flatnonzero(~np.isfinite(area))[0])]
                raise ValueError(f"tag {tag!r} has no positive or no negative test item")
            # without a group a rare tag may have no positives: the mean is over the tags that are left
            return {"roc_auc": _known_mean(area), "average_precision": _known_mean(precision)}
        if self.problem.kind == "regression":
            return regression_scores(self.targets, self.predicted, weights)
        if self.problem.kind == "key":
            return key_scores(self.targets, self.guess, self.problem.labels, weights)
        return f1_scores(self.targets, self.guess, len(self.problem.labels), weights)


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: _known_mean(np.array([value[name] for value in values])) for name in values[0]}


def _known_mean(values: np.ndarray) -> float:
    """Mean of those that are not NaN, which a tag or a fold without items is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
