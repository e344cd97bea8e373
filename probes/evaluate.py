"""One cell of Table 1: features and targets in, predictions, scores and their spread out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.statistics.bootstrap import resample_blocks
from probes.metrics import Ranking, f1_scores, key_scores, key_weight_table
from probes.mlp.estimators import KNNProbe
from probes.mlp.monitor import MONITORS
from probes.mlp.training import ProbeJob, TrainedProbe, train_probes
from probes.protocol import Protocol
from probes.tasks.base import METRICS

Predictor = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """A task reduced to arrays; rows number the items of one feature matrix.

    Attributes:
        name: the task's.
        kind: "multilabel", "multiclass" or "key".
        labels: label names in column order.
        targets: (n_items,) class numbers or (n_items, n_labels) zeros and ones.
        splits: rows of train, validation and test, one triple per fold.
        batch_size: items per training step.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    targets: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    batch_size: int

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
        predictions: (n_seeds, n_test, n_labels) probabilities, test parts fold after fold.
        draws: metric -> values on bootstrap resamples of the test items, mean over seeds.
        details: chosen learning rates, kept epochs, and "never_improved" where no seed got better on the validation
            part after its first epoch.
    """

    per_seed: dict[str, list[float]]
    predictions: np.ndarray
    draws: dict[str, np.ndarray]
    details: dict[str, Any]


def evaluate(
    features: np.ndarray,
    problems: Sequence[Problem],
    protocol: Protocol,
    seeds: Sequence[int],
    *,
    resamples: int = 1000,
    device: str = "cpu",
    shuffle_labels: bool = False,
    variants: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, Evaluation | str]]:
    """Probe one feature matrix on all `problems` that share it.

    Args:
        features: (n_items, dim). Rows that are not finite in float32 are an error only if a split uses them.
        problems: tasks; those with the same batch size are trained in one pass.
        protocol: how.
        seeds: of the probes; "knn" has no randomness and counts as one.
        resamples: bootstrap resamples of the test items.
        device: where to train.
        shuffle_labels: permute the targets of all items that are not tested: scores must fall to chance.
        variants: deformation -> features of the same items after it; only test rows are read.

    Returns:
        task -> "probe" or "probe/deformation" -> `Evaluation`, or the reason why a variant has none.

    Raises:
        ValueError: as `probes.mlp.training.check_inputs`.
    """
    if shuffle_labels:
        problems = [_shuffled(problem) for problem in problems]
    used = np.unique(np.concatenate([np.concatenate(split) for p in problems for split in p.splits]))
    with np.errstate(over="ignore"):
        features = features.astype(np.float32, copy=False)
    finite = np.isfinite(features).all(axis=1)
    bad = used[~finite[used]]
    if bad.size:
        raise ValueError(f"features of {bad.size} items are not finite, the first is item {bad[0]}")
    if not finite.all():
        features = np.where(finite[:, None], features, np.float32(0))
    tested = {"": features, **{f"/{name}": changed for name, changed in (variants or {}).items()}}
    found: dict[str, dict[str, Evaluation | str]] = {problem.name: {} for problem in problems}
    for probe in protocol.probes:
        if probe == "knn":
            for problem in problems:
                models = _knn_models(features, problem, protocol)
                for suffix, matrix in tested.items():
                    found[problem.name][probe + suffix] = _test(models, matrix, problem, resamples)
            continue
        if probe not in ("mlp", "linear"):
            raise ValueError(f"unknown probe {probe!r}; known: mlp, linear, knn")
        groups: dict[tuple[int, tuple[int, ...]], list[Problem]] = {}
        for problem in problems:
            hidden = (
                () if probe == "linear" else protocol.hidden_units(features.shape[1], len(problem.labels))
            )
            groups.setdefault((problem.batch_size, hidden), []).append(problem)
        for (size, hidden), group in sorted(groups.items()):
            config = dataclasses.replace(
                protocol.config, batch_size=size, drop_last=protocol.drop_last, hidden_units=hidden
            )
            narrowed = dataclasses.replace(protocol, config=config)
            trained = _mlp_models(features, group, narrowed, seeds, device)
            for problem in group:
                for suffix, matrix in tested.items():
                    found[problem.name][probe + suffix] = _test(
                        trained[problem.name], matrix, problem, resamples, size if protocol.drop_last else 0
                    )
    return found


@dataclass(frozen=True)
class _Models:
    """Trained predictors by seed and fold: features -> (n, n_labels) probabilities."""

    predict: list[list[Predictor]]
    details: dict[str, Any]
    broken: int = 0  # seeds whose loss on the validation part is not finite


def _test(
    models: _Models, features: np.ndarray, problem: Problem, resamples: int, drop_last: int = 0
) -> Evaluation | str:
    """Predictions for all test parts, scored."""
    bad = int((~np.isfinite(features[problem.test_rows]).all(axis=1)).sum())
    if bad:
        return f"features of {bad} test clips are missing"
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
        predictions = np.stack(
            [
                np.concatenate(
                    [
                        predict(features[test])
                        for predict, (_, _, test) in zip(seed, problem.splits, strict=True)
                    ]
                )
                for seed in models.predict
            ]
        )
    infinite = int((~np.isfinite(predictions)).any(axis=(1, 2)).sum())
    for count, what in ((infinite, "predictions are"), (models.broken, "the loss is")):
        if count:
            largest = np.abs(features[problem.test_rows]).max()
            return f"{what} not finite with {count} of {len(predictions)} seeds (the largest feature is {largest:.2g})"
    return score(problem, predictions, resamples, models.details, drop_last)


def _shuffled(problem: Problem) -> Problem:
    targets = problem.targets.copy()
    rng = np.random.default_rng(0)
    rest = np.setdiff1d(np.arange(len(targets)), problem.test_rows)
    if len(problem.splits) > 1 or not len(rest):
        raise ValueError("labels can be shuffled for a single split only: with folds every item is tested")
    targets[rest] = targets[rng.permutation(rest)]
    return dataclasses.replace(problem, targets=targets)


def _mlp_models(
    features: np.ndarray, problems: Sequence[Problem], protocol: Protocol, seeds: Sequence[int], device: str
) -> dict[str, _Models]:
    """All tasks, folds, seeds and learning rates of one probe, trained in one pass."""
    rates: Sequence[float | None] = protocol.learning_rates or (None,)
    jobs, places = [], []
    for problem in problems:
        for fold, (train, validation, _) in enumerate(problem.splits):
            for seed in seeds:
                for rate in rates:
                    jobs.append(ProbeJob(problem.targets, len(problem.labels), train, validation, seed, rate))
                    places.append((problem.name, fold, seed, rate))
    trained = dict(zip(places, train_probes(features, jobs, protocol.config, device=device), strict=True))
    found = {}
    for problem in problems:
        kept: list[list[TrainedProbe]] = [[] for _ in seeds]
        chosen = []
        for fold in range(len(problem.splits)):
            by_rate = {rate: [trained[problem.name, fold, seed, rate] for seed in seeds] for rate in rates}
            # one rate per fold, by the mean over seeds on the validation part: the test part has no say
            means = {rate: float(np.mean([_kept_score(probe) for probe in by_rate[rate]])) for rate in rates}
            best = max(means, key=means.__getitem__)
            chosen.append(best or protocol.config.learning_rate)
            for row, probe in enumerate(by_rate[best]):
                kept[row].append(probe)
        details = {
            "best_epochs": [[probe.best_epoch for probe in seed] for seed in kept],
            "epochs": [[len(probe.history) for probe in seed] for seed in kept],
            "learning_rates": chosen,
        }
        if _never_improved([probe for seed in kept for probe in seed]):
            details["never_improved"] = True
        predict: list[list[Predictor]] = [[probe.predict_proba for probe in seed] for seed in kept]
        broken = sum(any(not _finite_loss(probe) for probe in seed) for seed in kept)
        found[problem.name] = _Models(predict, details, broken)
    return found


def _never_improved(probes: Sequence[TrainedProbe]) -> bool:
    """Whether all probes are those of their first epoch; one that is perfect from there on has learned all the same."""
    return all(
        probe.best_epoch == 0 and len(probe.history) > 1 and _kept_score(probe) < 1.0 for probe in probes
    )


def _finite_loss(probe: TrainedProbe) -> bool:
    return not probe.history or math.isfinite(probe.history[probe.best_epoch]["loss"])


def _kept_score(probe: TrainedProbe) -> float:
    """The monitored value of the kept epoch."""
    if not probe.history:
        return 0.0
    values = probe.history[probe.best_epoch]
    names = [name for name in MONITORS if name in values]
    return values[names[0]] if names else -values["loss"]


def _knn_models(features: np.ndarray, problem: Problem, protocol: Protocol) -> _Models:
    """k nearest neighbors, k chosen on the validation part of each fold."""
    predict: list[Predictor] = []
    chosen = []
    for train, validation, _ in problem.splits:
        candidates = {k: _neighbors(features[train], problem, train, k) for k in protocol.neighbors}
        main = METRICS[problem.kind][0]
        values = {
            k: _Scorer(problem, problem.targets[validation], vote(features[validation]))(
                np.ones(len(validation))
            )[main]
            for k, vote in candidates.items()
        }
        best = max(values, key=values.__getitem__)
        predict.append(candidates[best])
        chosen.append(best)
    return _Models([predict], {"neighbors": chosen})


def _neighbors(items: np.ndarray, problem: Problem, train: np.ndarray, k: int) -> Predictor:
    """Votes (n, n_labels) of the k nearest of `items`; classes that training lacks get none."""
    fitted = KNNProbe(k, standardize=True).fit(items, problem.targets[train])

    def vote(queries: np.ndarray) -> np.ndarray:
        votes = fitted.predict_proba(queries)
        if problem.kind == "multilabel":
            return votes
        wide = np.zeros((len(queries), len(problem.labels)))
        wide[:, fitted.classes_] = votes
        return wide

    return vote


def chance(problem: Problem, resamples: int = 1000) -> Evaluation:
    """What the labels alone give: the best constant answer by the training part.

    The most frequent class; for keys the constant with the best expected MIREX score; for tags every clip
    gets the same scores, so ROC-AUC is one half and average precision the share of positives.
    """
    parts = []
    for train, _, test in problem.splits:
        if problem.kind == "multilabel":
            constant = problem.targets[train].mean(axis=0)
        else:
            prior = np.bincount(problem.targets[train], minlength=len(problem.labels)).astype(float)
            gain = prior @ key_weight_table(problem.labels) if problem.kind == "key" else prior
            constant = np.eye(len(problem.labels))[int(np.argmax(gain))]
        parts.append(np.tile(constant, (len(test), 1)))
    return score(problem, np.concatenate(parts)[None], resamples, {})


def score(
    problem: Problem,
    predictions: np.ndarray,
    resamples: int,
    details: dict[str, Any],
    drop_last: int = 0,
) -> Evaluation:
    """Metrics of predictions per seed, and of bootstrap resamples of the test items.

    Args:
        problem: the task.
        predictions: (n_seeds, n_test, n_labels), test parts fold after fold.
        resamples: number of resamples; every representation sees the same ones, so that differences of
            their draws are paired.
        details: kept as they are.
        drop_last: if set, the incomplete last batch of this size is left out of each test part.
    """
    metrics = METRICS[problem.kind]
    sizes = [len(test) for _, _, test in problem.splits]
    starts = np.cumsum([0, *sizes])
    kept = [size // drop_last * drop_last if drop_last else size for size in sizes]
    if min(kept) == 0:
        raise ValueError(
            f"task {problem.name!r}: a test part of {min(sizes)} items has no full batch of {drop_last}"
        )
    folds = [slice(start, start + size) for start, size in zip(starts, kept, strict=False)]
    targets = problem.targets[problem.test_rows]
    scorers = [[_Scorer(problem, targets[fold], seed[fold]) for fold in folds] for seed in predictions]
    per_seed = [_mean([scorer() for scorer in seed]) for seed in scorers]
    n = len(targets)
    draws: dict[str, list[float]] = {name: [] for name in metrics}
    blocks = resample_blocks(n, resamples, 0) if resamples else ()
    for chosen in (row for block in blocks for row in block):
        weights = np.bincount(chosen, minlength=n).astype(float)
        values = _mean([s(weights[fold]) for seed in scorers for s, fold in zip(seed, folds, strict=True)])
        for name in metrics:
            draws[name].append(values[name])
    return Evaluation(
        {name: [values[name] for values in per_seed] for name in metrics},
        predictions.astype(np.float32),
        {name: np.array(values) for name, values in draws.items()},
        details,
    )


class _Scorer:
    """Metrics of one set of predictions under any item weights."""

    def __init__(self, problem: Problem, targets: np.ndarray, predictions: np.ndarray) -> None:
        self.problem, self.targets = problem, targets
        if problem.kind == "multilabel":
            self.ranking = Ranking(targets, predictions)
        else:
            self.guess = predictions.argmax(axis=1)

    def __call__(self, weights: np.ndarray | None = None) -> dict[str, float]:
        if self.problem.kind == "multilabel":
            area, precision = self.ranking(weights)
            if weights is None and not np.isfinite(area).all():
                tag = self.problem.labels[int(np.flatnonzero(~np.isfinite(area))[0])]
                raise ValueError(f"tag {tag!r} has no positive or no negative test item")
            # a resample may lose all positives of a rare tag: its mean is over the tags that are left
            return {"roc_auc": float(np.nanmean(area)), "average_precision": float(np.nanmean(precision))}
        if weights is not None and weights.sum() == 0:
            return dict.fromkeys(METRICS[self.problem.kind], float("nan"))
        if self.problem.kind == "key":
            return key_scores(self.targets, self.guess, self.problem.labels, weights)
        return f1_scores(self.targets, self.guess, len(self.problem.labels), weights)


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.nanmean([value[name] for value in values])) for name in values[0]}
