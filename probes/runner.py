"""From a request to evaluated cells: what a run does, contamination, intervals, comparisons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks.datasets import DataNotFoundError, PublishedSize
from benchmarks.datasets.base import shortened
from benchmarks.evaluation.cells import NOT_COMPUTED, tidy
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport, run_units
from benchmarks.harness.units import Unit, fetch
from benchmarks.statistics.multiple import adjust_pairs
from benchmarks.store.store import Result, Store
from benchmarks.user_code import stdout_to_stderr
from probes.intervals import Evidence, difference_interval, score_interval
from probes.plan import Planner
from probes.representations import row_name
from probes.representations.base import RepresentationSpec
from probes.request import CHANCE, Request
from probes.tasks import create_task
from probes.tasks.base import TaskData, TaskDataError, TaskInfo
from probes.tasks.limited import limited

NEVER_IMPROVED = (
    "no seed improved on its first epoch; are the features in the order (n_frames, dim), and of a usual size?"
)
#: Data sets with the same recordings under two names: training on one contaminates the other.
SAME_RECORDINGS = ({"beatport_key", "giantsteps-mtg-key"},)


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
        pending: it merely has not been computed yet.
        contaminated: the representation was trained on the task's data set.
        n_groups, n_effective: groups of test items, and how many of one size tell as much; intervals count them.
        details, replicates, predictions: as stored.
    """

    task: str
    representation: str
    probe: str
    scores: dict[str, Score] = field(default_factory=dict)
    n_test: int = 0
    n_groups: int = 0
    n_effective: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    contaminated: bool = False
    reason: str | None = None
    pending: bool = False
    deformation: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    replicates: dict[str, np.ndarray] = field(default_factory=dict)
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
        seconds: of each clip, of a run on their beginnings (0: whole clips).
    """

    request: Request
    infos: dict[str, TaskInfo]
    tasks: dict[str, TaskData]
    specs: dict[str, RepresentationSpec]
    cells: list[ProbeCell]
    report: RunReport
    limit: int = 0
    seconds: float = 0.0

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


@dataclass
class _Tasks:
    """The tasks of a request as far as their data is available.

    Attributes:
        infos: what is known of each.
        data: of those that could be read.
        reasons: why the others could not.
        sizes: published sizes of missing data sets, by data set.
        places: task -> name of its data set.
        limit: clips per part, if anything was left out for it.
    """

    infos: dict[str, TaskInfo] = field(default_factory=dict)
    data: dict[str, TaskData] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, PublishedSize] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    limit: int = 0

    def load(self, name: str, request: Request, limit: int, seconds: float = 0.0) -> None:
        """Add one task.

        Raises:
            UnknownNameError: no such task.
        """
        task = create_task(name, **dict(request.task_options.get(name, {})))
        size: PublishedSize | None = getattr(task, "published", None)
        self.infos[name], self.places[name] = task.info, name if size is None else size.data
        try:
            data = whole = task.load()
            data.splits(request.protocol.scheme)
            if limit:
                data = limited(whole, request.protocol.scheme, limit)
                self.limit = self.limit if data is whole else limit
            if seconds:
                data = replace(data, clips=shortened(data.clips, seconds))
            self.data[name] = data
        except (DataNotFoundError, TaskDataError, OSError) as error:
            self.reasons[name] = str(error)
            if size is not None:
                self.sizes[size.data] = size
                if isinstance(error, DataNotFoundError) and size.command not in str(error):
                    self.reasons[name] += f". To get it: {size.command}"

    def note_needs(self, report: RunReport) -> None:
        """Which data sets a dry run needs, and why they are missing where they are."""
        for name, place in self.places.items():
            reason = self.reasons.get(name)
            if reason is not None and place in self.sizes:
                reason = self.sizes[place].describe(reason)
            report.need("data", place, tidy(reason) if reason else None)


def run(request: Request, store: Store, executor: Executor, options: RunOptions) -> ProbeRun:
    """Compute what the store lacks and collect all cells.

    Missing data or weights become reasons of cells; so does a failed unit.

    Raises:
        UnknownNameError: a task or representation that does not exist.
        UsageError: an output or a deformation that a representation does not have.
    """
    # Tasks: their data, or why it is missing.
    loaded = _Tasks()
    for name in request.tasks:
        loaded.load(name, request, options.limit, options.seconds)
    infos, tasks = loaded.infos, loaded.data
    # Units: one probe per representation and group of tasks that share clips.
    planner = Planner(request, tasks, options, store)
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
    if options.dry_run:
        units += planner.stand_ins(plan, loaded.sizes)
    # A probe needs all features: shards compute those, a later run without shards the probes.
    wanted = units if options.shard is None else [item for unit in units for item in unit.inputs]
    report = run_units(wanted, store, executor, options)
    if options.dry_run:
        loaded.note_needs(report)
        for name in request.representations:
            if name != CHANCE:
                reason = planner.reason(name, plan)
                report.need("representation", name.partition("@")[0], tidy(reason) if reason else None)
    # Cells: what the store holds now.
    cells: list[ProbeCell] = []
    for representation in request.representations:
        for name in request.tasks:
            planned = plan.get((representation, name), loaded.reasons.get(name, "no data"))
            contaminated = is_contaminated(planner.specs.get(representation), infos[name])
            found_cells = _read(request, representation, name, planned, store, report, contaminated)
            for cell in found_cells:
                if cell.reason is not None and not cell.pending and cell.deformation is None:
                    for metric in infos[name].metrics:
                        report.blocked[representation, f"{name}/{metric}"] = cell.reason
            cells += found_cells
    return ProbeRun(request, infos, tasks, planner.specs, cells, report, loaded.limit, options.seconds)


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
        return [ProbeCell(task, representation, probes[0], reason=NOT_COMPUTED, pending=True)]
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
    cell.predictions = result.arrays[f"{key}/predictions"]
    cell.n_test = int(cell.predictions.shape[1])
    cell.n_groups, cell.n_effective = int(record["n_groups"]), float(record["n_effective"])
    for metric, values in record["per_seed"].items():
        replicates = cell.replicates[metric] = result.arrays[f"{key}/replicates/{metric}"]
        mean = float(np.mean(values))
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        low, high = score_interval(metric, mean, replicates, Evidence(cell.n_test, cell.n_effective, level))
        cell.scores[metric] = Score(mean, std, tuple(values), low, high)
    failed = result.meta["failures"].get(cell.task, {})
    cell.failures, cell.left_out = dict(sorted(Counter(failed.values()).items())), frozenset(failed)
    cell.details = record["details"]


def compare(first: ProbeCell, second: ProbeCell, metric: str, level: float) -> dict[str, Any] | None:
    """The difference of two representations on the same test items; None where that cannot be.

    Replicate by replicate both left out the same groups, so the error of their difference is paired.
    """
    if metric not in first.scores or metric not in second.scores or first.n_test != second.n_test:
        return None
    if first.left_out != second.left_out:
        return None
    difference = first.scores[metric].mean - second.scores[metric].mean
    replicates = first.replicates[metric] - second.replicates[metric]
    low, high, p = difference_interval(difference, replicates, Evidence(first.n_test, first.n_effective, level))
    return {
        "task": first.task,
        "metric": metric,
        "a": row_name(first.representation),
        "b": row_name(second.representation),
        "n": first.n_test,
        "n_groups": first.n_groups,
        "difference": difference,
        "low": low,
        "high": high,
        **({"p": p} if np.isfinite(p) else {"reason": "the test items are one group"}),
    }


def all_comparisons(probe_run: ProbeRun) -> list[dict[str, Any]]:
    """Every two representations on every task, by its main metric.

    The pairs of a task are one family: `p_adjusted` and `significant` are Holm's.
    """
    found = []
    for task, info in probe_run.infos.items():
        records = []
        for first, second in combinations(probe_run.request.representations, 2):
            a, b = probe_run.cell(first, task), probe_run.cell(second, task)
            if a is not None and b is not None:
                record = compare(a, b, info.metrics[0], probe_run.request.level)
                records += [] if record is None else [record]
        found += adjust_pairs(records, probe_run.request.level)
    return found
