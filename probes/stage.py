"""The probe stage: what a worker does with the features of one representation."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness.units import Unit
from benchmarks.store.store import Result, Store
from probes.evaluate import Evaluation, Problem, chance, evaluate
from probes.features import gather
from probes.tasks.base import TaskData


def problem_of(
    data: TaskData, scheme: str, name: str | None = None, batch_size: int | None = None
) -> Problem:
    """A task's targets and splits as arrays; rows number its clips. `name` is what results go by."""
    splits = tuple(
        (data.rows(split.train), data.rows(split.validation), data.rows(split.test))
        for split in data.splits(scheme)
    )
    info = data.info
    return Problem(
        name or info.name, info.kind, info.labels, data.targets, splits, batch_size or info.batch_size
    )


def probe(unit: Unit, store: Store) -> Result:
    """Evaluate the tasks of a unit on its features.

    Payload: problems, protocol, seeds, output, resamples, number of input units of the clean features and
    of each deformation, whether labels are shuffled, the deformations, and whether this is the chance row.

    Arrays: `task/probe[/deformation]/predictions` (n_seeds, n_test, n_labels) and `…/draws/METRIC`
    (n_resamples,). Clips without features are left out of every part and reported in `meta["failures"]`.
    """
    problems, protocol, seeds, output, resamples, counts, shuffle, deformations, is_chance = unit.payload
    meta: dict[str, Any] = {"evaluations": {}, "failures": {}}
    arrays: dict[str, np.ndarray] = {}
    if is_chance:
        for problem in problems:
            _record(meta, arrays, f"{problem.name}/{protocol.probes[0]}", chance(problem, resamples))
        return Result(meta, arrays)
    features, ids, failures = gather(unit.inputs[: counts[0]], store, output)
    missing = np.flatnonzero(~np.isfinite(features).all(axis=1))
    problems = [problem.without(missing) for problem in problems]
    variants = {}
    start = counts[0]
    for deformation, count in zip(deformations, counts[1:], strict=True):
        changed, changed_ids, _ = gather(unit.inputs[start : start + count], store, output)
        start += count
        rows = np.array([ids.index(clip_id) for clip_id in changed_ids])
        deformed = features.copy()
        deformed[rows] = changed
        # NaN rows of clips whose deformed audio failed stay: better no score than one on clean features
        variants[deformation] = deformed
    for problem in problems:
        meta["failures"][problem.name] = failures
    found = evaluate(
        features, problems, protocol, seeds, resamples=resamples, shuffle_labels=shuffle, variants=variants
    )
    for problem in problems:
        for key, evaluation in found[problem.name].items():
            _record(meta, arrays, f"{problem.name}/{key}", evaluation)
    return Result(meta, arrays)


def _record(
    meta: dict[str, Any], arrays: dict[str, np.ndarray], key: str, evaluation: Evaluation | str
) -> None:
    if isinstance(evaluation, str):
        meta["evaluations"][key] = {"reason": evaluation}
        return
    meta["evaluations"][key] = {"per_seed": evaluation.per_seed, "details": evaluation.details}
    arrays[f"{key}/predictions"] = evaluation.predictions
    for metric, values in evaluation.draws.items():
        arrays[f"{key}/draws/{metric}"] = values
