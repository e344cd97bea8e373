"""The probe stage, one cell of Table 1: features and targets in, predictions, scores and their spread out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness.units import Unit
from benchmarks.store.store import Result, Store
from probes.features import gather
from probes.jobs import EvaluateJob
from probes.mlp.config import MONITOR_NAMES, ProbeConfig
from probes.mlp.estimators import KNNProbe
from probes.mlp.training import ProbeJob, TrainedProbe, train_probes
from probes.protocol import Protocol
from probes.scoring import Evaluation, Problem, Scorer, chance, score
from probes.tasks.base import METRICS

Predictor = Callable[[np.ndarray], np.ndarray]


def evaluate(
    features: np.ndarray,
    problems: Sequence[Problem],
    protocol: Protocol,
    seeds: Sequence[int],
    *,
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
                    found[problem.name][probe + suffix] = _test(models, matrix, problem)
            continue
        if probe not in ("mlp", "linear"):
            raise ValueError(f"unknown probe {probe!r}; known: mlp, linear, knn")
        groups: dict[tuple[int, tuple[int, ...]], list[Problem]] = {}
        for problem in problems:
            hidden = () if probe == "linear" else protocol.hidden_units(features.shape[1], len(problem.labels))
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
                        trained[problem.name], matrix, problem, size if protocol.drop_last else 0
                    )
    return found


@dataclass(frozen=True)
class _Models:
    """Trained predictors by seed and fold: features -> (n, n_labels) probabilities, or values."""

    predict: list[list[Predictor]]
    details: dict[str, Any]
    broken: int = 0  # seeds whose loss on the validation part is not finite


def _test(models: _Models, features: np.ndarray, problem: Problem, drop_last: int = 0) -> Evaluation | str:
    """Predictions for all test parts, scored."""
    bad = int((~np.isfinite(features[problem.test_rows]).all(axis=1)).sum())
    if bad:
        return f"features of {bad} test clips are missing"
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted below
        predictions = np.stack(
            [
                np.concatenate(
                    [predict(features[test]) for predict, (_, _, test) in zip(seed, problem.splits, strict=True)]
                )
                for seed in models.predict
            ]
        )
    infinite = int((~np.isfinite(predictions)).any(axis=(1, 2)).sum())
    for count, what in ((infinite, "predictions are"), (models.broken, "the loss is")):
        if count:
            largest = np.abs(features[problem.test_rows]).max()
            return f"{what} not finite with {count} of {len(predictions)} seeds (the largest feature is {largest:.2g})"
    return score(problem, predictions, models.details, drop_last)


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
            targets, regression = _Scale.of(problem, train).down(problem.targets), problem.kind == "regression"
            for seed in seeds:
                for rate in rates:
                    job = ProbeJob(targets, len(problem.labels), train, validation, seed, rate, regression)
                    jobs.append(job)
                    places.append((problem.name, fold, seed, rate))
    trained = dict(zip(places, train_probes(features, jobs, protocol.config, device=device), strict=True))
    found = {}
    for problem in problems:
        kept: list[list[TrainedProbe]] = [[] for _ in seeds]
        chosen = []
        for fold in range(len(problem.splits)):
            by_rate = {rate: [trained[problem.name, fold, seed, rate] for seed in seeds] for rate in rates}
            # one rate per fold, by the mean over seeds on the validation part: the test part has no say
            means = {rate: float(np.mean([_kept_score(p, protocol.config) for p in by_rate[rate]])) for rate in rates}
            best = max(means, key=means.__getitem__)
            chosen.append(best or protocol.config.learning_rate)
            for row, probe in enumerate(by_rate[best]):
                kept[row].append(probe)
        details = {
            "best_epochs": [[probe.best_epoch for probe in seed] for seed in kept],
            "epochs": [[len(probe.history) for probe in seed] for seed in kept],
            "learning_rates": chosen,
        }
        if _never_improved([probe for seed in kept for probe in seed], protocol.config):
            details["never_improved"] = True
        scales = [_Scale.of(problem, train) for train, _, _ in problem.splits]
        predict = [[scale.predictor(probe) for scale, probe in zip(scales, seed, strict=True)] for seed in kept]
        broken = sum(any(not _finite_loss(probe) for probe in seed) for seed in kept)
        found[problem.name] = _Models(predict, details, broken)
    return found


@dataclass(frozen=True)
class _Scale:
    """Values to regress on as the network sees them: with mean 0 and deviation 1 over the training items."""

    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None

    @staticmethod
    def of(problem: Problem, train: np.ndarray) -> _Scale:
        """The scale of a problem's targets; none for classes and tags."""
        if problem.kind != "regression":
            return _Scale()
        seen = problem.targets[train]
        deviation = seen.std(axis=0)
        return _Scale(seen.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def down(self, targets: np.ndarray) -> np.ndarray:
        """(n, n_labels) what is trained on."""
        return targets if self.mean is None else (targets - self.mean) / self.deviation

    def predictor(self, probe: TrainedProbe) -> Predictor:
        """features -> probabilities, or values in their own unit."""
        if self.mean is None:
            return probe.predict_proba
        return lambda features: probe.decision_function(features) * self.deviation + self.mean


def _never_improved(probes: Sequence[TrainedProbe], config: ProbeConfig) -> bool:
    """Whether all probes are those of their first epoch; one that is perfect from there on has learned all the same."""
    return all(p.best_epoch == 0 and len(p.history) > 1 and _kept_score(p, config) < 1.0 for p in probes)


def _finite_loss(probe: TrainedProbe) -> bool:
    return not probe.history or math.isfinite(probe.history[probe.best_epoch]["loss"])


def _kept_score(probe: TrainedProbe, config: ProbeConfig) -> float:
    """Of the kept epoch the value that it was kept for, else the one that ended the training."""
    if not probe.history:
        return 0.0
    values = probe.history[probe.best_epoch]
    monitor = next((name for name in (config.select_on, config.stop_on) if name in MONITOR_NAMES), None)
    return -values["loss"] if monitor is None else values[monitor]


def _knn_models(features: np.ndarray, problem: Problem, protocol: Protocol) -> _Models:
    """k nearest neighbors, k chosen on the validation part of each fold."""
    predict: list[Predictor] = []
    chosen = []
    for train, validation, _ in problem.splits:
        candidates = {k: _neighbors(features[train], problem, train, k) for k in protocol.neighbors}
        main = METRICS[problem.kind][0]
        values = {
            k: Scorer(problem, problem.targets[validation], vote(features[validation]))(np.ones(len(validation)))[main]
            for k, vote in candidates.items()
        }
        best = max(values, key=values.__getitem__)
        predict.append(candidates[best])
        chosen.append(best)
    return _Models([predict], {"neighbors": chosen})


def _neighbors(items: np.ndarray, problem: Problem, train: np.ndarray, k: int) -> Predictor:
    """Votes (n, n_labels) of the k nearest of `items`, or their mean values; classes that training lacks get none."""
    targets = problem.targets[train]
    if problem.kind == "regression":
        known = KNNProbe(k, standardize=True).keep(items)
        return lambda queries: known.mean_of_nearest(queries, targets)
    fitted = KNNProbe(k, standardize=True).fit(items, targets)

    def vote(queries: np.ndarray) -> np.ndarray:
        votes = fitted.predict_proba(queries)
        if problem.kind == "multilabel":
            return votes
        wide = np.zeros((len(queries), len(problem.labels)))
        wide[:, fitted.classes_] = votes
        return wide

    return vote


def probe(unit: Unit, store: Store) -> Result:
    """Evaluate the tasks of a unit on its features. Payload: `EvaluateJob`.

    Arrays: `task/probe[/deformation]/predictions` (n_seeds, n_test, n_labels) and `…/replicates/METRIC` (B,), the
    scores without one block of groups each. Clips without features are left out of every part and reported in
    `meta["failures"]`.
    """
    job: EvaluateJob = unit.payload
    meta: dict[str, Any] = {"evaluations": {}, "failures": {}}
    arrays: dict[str, np.ndarray] = {}
    if job.is_chance:
        for problem in job.problems:
            name = f"{problem.name}/{job.protocol.probes[0]}"
            _record(meta, arrays, name, chance(problem))
        return Result(meta, arrays)
    features, ids, failures = gather(unit.inputs[: job.n_features], store, job.output)
    missing = np.flatnonzero(~np.isfinite(features).all(axis=1))
    problems = [problem.without(missing) for problem in job.problems]
    variants = {}
    start = job.n_features
    for deformation, count in job.deformed.items():
        changed, changed_ids, _ = gather(unit.inputs[start : start + count], store, job.output)
        start += count
        rows = np.array([ids.index(clip_id) for clip_id in changed_ids])
        deformed = features.copy()
        deformed[rows] = changed
        # NaN rows of clips whose deformed audio failed stay: better no score than one on clean features
        variants[deformation] = deformed
    for problem in problems:
        meta["failures"][problem.name] = failures
    found = evaluate(features, problems, job.protocol, job.seeds, shuffle_labels=job.shuffle_labels, variants=variants)
    for problem in problems:
        for key, evaluation in found[problem.name].items():
            _record(meta, arrays, f"{problem.name}/{key}", evaluation)
    return Result(meta, arrays)


def _record(meta: dict[str, Any], arrays: dict[str, np.ndarray], key: str, evaluation: Evaluation | str) -> None:
    if isinstance(evaluation, str):
        meta["evaluations"][key] = {"reason": evaluation}
        return
    meta["evaluations"][key] = {
        "per_seed": evaluation.per_seed,
        "details": evaluation.details,
        "n_groups": evaluation.n_groups,
        "n_effective": evaluation.n_effective,
    }
    arrays[f"{key}/predictions"] = evaluation.predictions
    for metric, values in evaluation.replicates.items():
        arrays[f"{key}/replicates/{metric}"] = values
