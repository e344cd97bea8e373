"""From tasks and representations to evaluated cells: units, keys, contamination, comparisons.

features (per representation, 24 clips) -> probe (per representation, tasks of one data set) -> cells
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.datasets import DataNotFoundError
from benchmarks.errors import UsageError
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport, run_units
from benchmarks.harness.units import Unit, fetch
from benchmarks.store.fingerprint import code_digest, library_versions
from benchmarks.store.store import Result, Store
from benchmarks.user_code import ClashError, stdout_to_stderr, user_error
from probes.features import FeaturePlan
from probes.protocol import Protocol
from probes.representations import own_target, split_name
from probes.representations.base import RepresentationSpec
from probes.tasks import create_task
from probes.tasks.base import TaskData, TaskDataError, TaskInfo
from probes.tasks.limited import limited

CHANCE = "chance"
NEVER_IMPROVED = (
    "no seed improved on its first epoch; are the features in the order (n_frames, dim), and of a usual size?"
)
#: Data sets with the same recordings under two names: training on one contaminates the other.
SAME_RECORDINGS = ({"beatport_key", "giantsteps-mtg-key"},)


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        tasks: names.
        representations: names, with `@output` where not the default; "chance" is the constant answer.
        protocol: how.
        seeds: of the probes.
        task_options, representation_options: by name, passed to the factories.
        resamples: of the bootstrap.
        level: coverage of the intervals.
        deformations: also test on deformed clips (the probe is trained on clean ones).
        shuffle_labels: permute training labels; a check that scores fall to chance.
    """

    tasks: tuple[str, ...]
    representations: tuple[str, ...]
    protocol: Protocol
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    task_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    representation_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resamples: int = 1000
    level: float = 0.95
    deformations: tuple[str, ...] = ()
    shuffle_labels: bool = False


@dataclass(frozen=True)
class Score:
    """One metric of one cell: mean and deviation over seeds, interval over test items; all as shares of 1."""

    mean: float
    std: float
    per_seed: tuple[float, ...]
    low: float
    high: float


@dataclass
class ProbeCell:
    """A representation on a task, measured with one probe; or the reason why not.

    Attributes:
        task, representation, probe: which.
        scores: metric -> score.
        n_test: test items behind them.
        failures: reason -> number of clips left out.
        left_out: ids of those clips.
        contaminated: the representation was trained on the task's data set.
        result: predictions, draws and details, as stored.
    """

    task: str
    representation: str
    probe: str
    scores: dict[str, Score] = field(default_factory=dict)
    n_test: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    contaminated: bool = False
    reason: str | None = None
    deformation: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    draws: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: np.ndarray | None = None

    @property
    def never_improved(self) -> bool:
        """No seed got better on the validation part after its first epoch."""
        return bool(self.details.get("never_improved"))


@dataclass
class ProbeRun:
    """Everything a run found.

    Attributes:
        limit: clips per part of a split, of a run on a part of the data (0: all of it).
    """

    request: Request
    infos: dict[str, TaskInfo]
    tasks: dict[str, TaskData]
    specs: dict[str, RepresentationSpec]
    cells: list[ProbeCell]
    report: RunReport
    limit: int = 0

    def cell(self, representation: str, task: str, probe: str | None = None) -> ProbeCell | None:
        """The cell on clean audio, with the protocol's main probe unless another is named."""
        probe = probe or self.request.protocol.probes[0]
        key = (representation, task, None)
        found = [cell for cell in self.cells if (cell.representation, cell.task, cell.deformation) == key]
        named = [cell for cell in found if cell.probe == probe]
        return next(iter(named or [cell for cell in found if cell.reason is not None]), None)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the scores has to know of single cells: probes that learned nothing."""
        return [
            f"{cell.representation} on {cell.task} ({cell.probe}): {NEVER_IMPROVED}"
            for cell in self.cells
            if cell.never_improved and cell.deformation is None
        ]


def run(request: Request, store: Store, executor: Executor, options: RunOptions) -> ProbeRun:
    """Compute what the store lacks and collect all cells.

    Missing data or weights become reasons of cells; so does a failed unit.

    Raises:
        UnknownNameError: a task or representation that does not exist.
        UsageError: an output or a deformation that a representation does not have.
    """
    infos: dict[str, TaskInfo] = {}
    tasks: dict[str, TaskData] = {}
    reasons: dict[str, str] = {}
    limit = 0
    for name in request.tasks:
        task = create_task(name, **dict(request.task_options.get(name, {})))
        infos[name] = task.info
        try:
            data = whole = task.load()
            data.splits(request.protocol.scheme)
            if options.limit:
                data = limited(whole, request.protocol.scheme, options.limit)
                limit = limit if data is whole else options.limit
            tasks[name] = data
        except (DataNotFoundError, TaskDataError, OSError) as error:
            reasons[name] = str(error)
    planner = _Planner(request, tasks, options, store)
    # What is only planned must not run anybody's code on a clip.
    planner.ask = options.overwrite != "cache-only" and not options.dry_run
    units: list[Unit] = []
    plan: dict[tuple[str, str], Unit | str] = {}
    with stdout_to_stderr():
        for name in request.representations:
            for group in planner.groups():
                found = planner.unit(name, group)
                if isinstance(found, Unit):
                    units.append(found)
                for task_name in group:
                    plan[name, task_name] = found
    # a probe needs all features: shards compute those, a later run without shards the probes
    wanted = units if options.shard is None else [item for unit in units for item in unit.inputs]
    report = run_units(wanted, store, executor, options)
    cells = []
    for representation in request.representations:
        for name in request.tasks:
            planned = plan.get((representation, name), reasons.get(name, "no data"))
            contaminated = is_contaminated(planner.specs.get(representation), infos[name])
            cells += _read(request, representation, name, planned, store, report, contaminated)
    return ProbeRun(request, infos, tasks, planner.specs, cells, report, limit)


class _Planner:
    def __init__(
        self, request: Request, tasks: Mapping[str, TaskData], options: RunOptions, store: Store
    ) -> None:
        self.request, self.tasks, self.options, self.store = request, tasks, options, store
        self.ask = True
        self.plans: dict[str, FeaturePlan | str] = {}
        self.specs: dict[str, RepresentationSpec] = {}

    def groups(self) -> list[tuple[str, ...]]:
        """Tasks that share clips: one feature matrix, one training pass."""
        found: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for name, data in self.tasks.items():
            if self.request.protocol.scheme in data.schemes:
                found.setdefault(tuple((clip.id, clip.digest) for clip in data.clips), []).append(name)
        return [tuple(names) for names in found.values()]

    def _plan(self, representation: str) -> FeaturePlan | str:
        name, _ = split_name(representation)
        if name not in self.plans:
            options = dict(self.request.representation_options.get(name, {}))
            clips = next(iter(self.tasks.values())).clips
            try:
                plan = self.plans[name] = FeaturePlan(name, options, self.options.device, clips, self.store)
            except (FileNotFoundError, ImportError) as error:
                self.plans[name] = str(error)
                if self.options.refuse_broken and (
                    own_target(name) is not None or isinstance(error, ClashError)
                ):
                    raise user_error(error) from error
                return self.plans[name]
            if plan.error is not None and self.options.refuse_broken:
                raise plan.error
            if plan.remark and plan.remark not in self.options.said:
                self.options.said.add(plan.remark)
                print(f"warning: {plan.remark}", file=sys.stderr)
        return self.plans[name]

    def unit(self, representation: str, group: tuple[str, ...]) -> Unit | str:
        """The probe unit of a representation on tasks that share clips, or why there is none."""
        request = self.request
        inputs: list[Unit] = []
        counts = []
        _, output = split_name(representation)
        if representation != CHANCE:
            plan = self._plan(representation)
            if isinstance(plan, str):
                return plan
            self.specs[representation] = plan.spec
            if output is not None and output not in plan.spec.outputs:
                known = ", ".join(plan.spec.outputs)
                raise UsageError(f"representation {representation!r}: no output {output!r} (has: {known})")
            for deformation in request.deformations:
                plan.check_deformation(deformation)
            clips = self.tasks[group[0]].clips
            problem = plan.problem(clips, self.store, ask=self.ask)
            if problem is not None:
                return f"{representation}: {problem}"
            inputs = plan.units(clips)
            counts.append(len(inputs))
            tested = sorted({i for name in group for split in self._splits(name) for i in split.test})
            rows = self.tasks[group[0]].rows(tested)
            for deformation in request.deformations:
                deformed = plan.units([clips[row] for row in sorted(rows.tolist())], deformation)
                inputs += deformed
                counts.append(len(deformed))
        spec = {
            "representation": CHANCE if representation == CHANCE else "features",
            "output": output,
            "protocol": request.protocol.to_dict(),
            "seeds": list(request.seeds),
            "tasks": [
                {
                    "name": name,
                    "data": self.tasks[name].digest,
                    "splits": [split.digest for split in self._splits(name)],
                    "batch_size": self.tasks[name].info.batch_size,
                }
                for name in group
            ],
            "resamples": request.resamples,
            "shuffle_labels": request.shuffle_labels,
            "deformations": list(request.deformations),
            "code": code_digest("probes.evaluate", "probes.stage"),
            "libraries": library_versions(),
        }
        from probes.stage import problem_of

        protocol = request.protocol
        problems = tuple(
            problem_of(self.tasks[name], protocol.scheme, name, protocol.batch_size) for name in group
        )
        payload = (
            problems,
            protocol,
            request.seeds,
            output,
            request.resamples,
            counts,
            request.shuffle_labels,
            request.deformations,
            representation == CHANCE,
        )
        return Unit(
            "probe",
            f"{representation} on {' + '.join(group)}",
            "probes.stage:probe",
            spec,
            inputs=tuple(inputs),
            payload=payload,
        )

    def _splits(self, name: str) -> Any:
        return self.tasks[name].splits(self.request.protocol.scheme)


def is_contaminated(spec: RepresentationSpec | None, info: TaskInfo) -> bool:
    """Whether the representation's training data holds the task's recordings."""
    if spec is None:
        return False
    same = next((names for names in SAME_RECORDINGS if info.dataset in names), {info.dataset})
    return bool(same & set(spec.training_datasets))


def _read(
    request: Request,
    representation: str,
    task: str,
    planned: Unit | str,
    store: Store,
    report: RunReport,
    contaminated: bool,
) -> list[ProbeCell]:
    """Cells of one representation on one task, for all probes and deformations."""
    probes = request.protocol.probes if representation != CHANCE else request.protocol.probes[:1]
    if isinstance(planned, str):
        return [ProbeCell(task, representation, probes[0], reason=planned, contaminated=contaminated)]
    if planned.key in report.failed:
        failed = report.failed[planned.key]
        why = f"failed in {failed.stage} {failed.name}: {failed.error}"
        return [ProbeCell(task, representation, probes[0], reason=why, contaminated=contaminated)]
    if not store.has(planned.key):
        return [ProbeCell(task, representation, probes[0], reason="not computed yet")]
    result = fetch(planned, store)
    cells = []
    for probe in probes:
        for deformation in (None, *request.deformations) if representation != CHANCE else (None,):
            cell = ProbeCell(task, representation, probe, contaminated=contaminated, deformation=deformation)
            _fill(cell, result, request.level)
            cells.append(cell)
    return cells


def _fill(cell: ProbeCell, result: Result, level: float) -> None:
    key = "/".join([cell.task, cell.probe, *([cell.deformation] if cell.deformation else [])])
    record = result.meta["evaluations"][key]
    if "reason" in record:
        cell.reason = record["reason"]
        return
    tails = ((1 - level) / 2, (1 + level) / 2)
    for metric, values in record["per_seed"].items():
        draws = result.arrays[f"{key}/draws/{metric}"]
        cell.draws[metric] = draws
        low, high = shifted_interval(draws, float(np.mean(values)), tails)
        low, high = max(low, 0.0), min(high, 1.0)
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        cell.scores[metric] = Score(float(np.mean(values)), std, tuple(values), low, high)
    cell.predictions = result.arrays[f"{key}/predictions"]
    cell.n_test = int(cell.predictions.shape[1])
    failed = result.meta["failures"].get(cell.task, {})
    cell.failures, cell.left_out = dict(sorted(Counter(failed.values()).items())), frozenset(failed)
    cell.details = record["details"]


def shifted_interval(draws: np.ndarray, value: float, tails: tuple[float, float]) -> tuple[float, float]:
    """Quantiles of bootstrap draws, shifted so that the draws' mean is the measured value.

    Resamples repeat items and lose rare classes, which biases macro means and average precision of small
    test parts by more than their spread; the shift takes that bias off again.
    """
    if not draws.size or np.isnan(draws).all():
        return math.nan, math.nan
    low, high = np.nanquantile(draws, tails) - np.nanmean(draws) + value
    return float(low), float(high)


def compare(first: ProbeCell, second: ProbeCell, metric: str, level: float) -> dict[str, Any] | None:
    """Paired bootstrap of two representations on the same test items; None where that cannot be.

    Both cells' draws used the same resamples, so the quantiles of their difference are paired.
    """
    if metric not in first.scores or metric not in second.scores or first.n_test != second.n_test:
        return None
    if first.left_out != second.left_out:
        return None
    difference = first.scores[metric].mean - second.scores[metric].mean
    low, high = shifted_interval(
        first.draws[metric] - second.draws[metric], difference, ((1 - level) / 2, (1 + level) / 2)
    )
    return {
        "task": first.task,
        "metric": metric,
        "a": first.representation,
        "b": second.representation,
        "n": first.n_test,
        "difference": difference,
        "low": low,
        "high": high,
        "significant": bool(low > 0 or high < 0),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """`m2l-bench probe …`, see `probes.cli`."""
    from probes.cli import main as command

    return command(argv)


def all_comparisons(probe_run: ProbeRun) -> list[dict[str, Any]]:
    """Every two representations on every task, by its main metric."""
    found = []
    names = probe_run.request.representations
    for task, info in probe_run.infos.items():
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                a, b = probe_run.cell(first, task), probe_run.cell(second, task)
                if a is None or b is None:
                    continue
                record = compare(a, b, info.metrics[0], probe_run.request.level)
                if record is not None:
                    found.append(record)
    return found
