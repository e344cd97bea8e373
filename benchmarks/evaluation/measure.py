"""Cells of systems x metrics: what Tables 2 and 3 and Figure 2 are made of."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.datasets import DataNotFoundError
from benchmarks.evaluation.cells import NOT_COMPUTED, Cell, tidy
from benchmarks.evaluation.clips import seconds_of
from benchmarks.evaluation.left_out import count_reasons, lost
from benchmarks.evaluation.own_plan import runs_user_code
from benchmarks.evaluation.plan import PlannedCell, Planner
from benchmarks.evaluation.systems import SystemRow
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport, run_units
from benchmarks.harness.units import Unit
from benchmarks.metrics.base import Metric
from benchmarks.store.store import CorruptEntryError, Result, Store
from benchmarks.user_code import stdout_to_stderr


@dataclass
class Measured:
    """Cells of a block of rows and columns, what is behind them, and how the run went.

    Attributes:
        rows: systems.
        cells: (row, metric) -> cell.
        metadata: row -> what only running a system tells.
        scores: metric -> row -> clip -> score.
        comparisons: of every two rows of a column.
        report: how the run went.
        n_clips: clips that were asked for.
        manifest: digest of their ids and audio.
        description: their number in words, as in "42 clips of 18 tracks by 11 artists".
        group_name: what a group of clips is called.
        groups: clip -> group, of clips that are not their own group.
        replicates: metric -> row -> a corpus distance with its replicates, and the clips of each group.
        coverage: how much of the data set is available, where that is not all.
    """

    rows: list[SystemRow]
    cells: dict[tuple[str, str], Cell]
    metadata: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, dict[str, float]]]
    comparisons: list[dict[str, Any]]
    report: RunReport
    n_clips: int
    manifest: str
    description: str = "0 clips"
    group_name: str = "group"
    groups: dict[str, str] = field(default_factory=dict)
    replicates: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    coverage: str | None = None


def measure(
    planner: Planner,
    store: Store,
    executor: Executor,
    wanted: Sequence[tuple[str, int | None]],
    metrics: Sequence[Metric],
    system_options: Mapping[str, Mapping[str, Any]] | None = None,
    compare: bool = True,
    metadata_too: bool = True,
    needed: Sequence[str] = (),
) -> Measured:
    """Run whatever the cells of `wanted` x `metrics` need and read them from the store.

    A dry run (`planner.options.dry_run`) runs nothing: `Measured.report` then holds what would run, what is needed for
    it, and why cells are blocked. What is not available is planned with stand-ins.

    Args:
        planner: clips and keys.
        store, executor: where results are kept, and what computes missing ones.
        wanted: systems with their numbers of denoising steps (None: the system's default).
        metrics: columns.
        system_options: options of systems by name.
        compare: also compare every two rows on the same clips.
        metadata_too: also gather what only running the systems tells; it needs the audio of all clips.
        needed: systems without which the run is pointless.

    Raises:
        UserCodeError: a user's class cannot be constructed, or (`refuse_broken`) fails on every clip tried.
        FileNotFoundError: all of `needed` are missing (weights, packages, folders).
    """
    options = planner.options
    planner.store = planner.store or store
    try:
        n_clips, manifest = len(planner.clips), planner.manifest_digest
    except (DataNotFoundError, FileNotFoundError) as error:
        return _without_data(planner, wanted, metrics, tidy(str(error)))
    # Plan: every cell, the metadata of every row, a comparison of every column.
    given = system_options or {}
    rows = plan_rows(planner, wanted, given, needed)
    plan = {(row.label, metric.name): planner.cell(row, metric) for row in rows for metric in metrics}
    told = [row for row in rows if metadata_too and (row.reason is None or row.units)]
    metadata = {row.label: planner.metadata(row) for row in told}
    comparisons = {}
    for metric in metrics if compare else ():
        units = {row.label: unit for row in rows if (unit := plan[row.label, metric.name].unit) is not None}
        if len(units) > 1:
            comparisons[metric.name] = metric.comparison_unit(planner, list(units), list(units.values()))
    # Run: the cells' units and whatever they rest on.
    targets = [cell.unit for cell in plan.values() if cell.unit is not None]
    targets += [*metadata.values(), *comparisons.values()]
    report = run_units(targets, store, executor, options)
    if options.dry_run:
        _note_needs(report, planner, rows, metrics)
    # Read: cells with their scores and replicates, then metadata and comparisons.
    reader = _Reader(store, executor, options, report)
    found: dict[tuple[str, str], Cell] = {}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    replicates: dict[str, dict[str, dict[str, Any]]] = {}
    unusable: dict[str, str] = {}
    by_name = {metric.name: metric for metric in metrics}
    for (label, name), cell in plan.items():
        result = reader.read(cell.unit) if cell.unit is not None and cell.reason is None else None
        found[label, name] = reader.reason_cell(cell) if result is None else to_cell(result, by_name[name])
        if (why := found[label, name].reason) is not None and not (result is None and reader.pends(cell)):
            report.blocked[label, name] = why
        if result is not None:
            unusable |= result.meta.get("unusable", {})
            report.note_lost(label, lost(found[label, name]))
        if result is not None and "values" in result.meta:
            scores.setdefault(name, {})[label] = result.meta["values"]
        elif result is not None and "replicates" in result.meta:
            kept = {key: result.meta[key] for key in ("value", "replicates", "replicates_of")}
            kept["groups"] = _members(result.meta["clips"], planner.groups)
            replicates.setdefault(name, {})[label] = kept
    if options.shard is not None:
        unusable |= _shard_losses(planner, rows, reader, report)
    report.unusable = count_reasons({clip: tidy(why) for clip, why in unusable.items()})
    read_metadata = {label: reader.read(unit) for label, unit in metadata.items()}
    compared = []
    for name, unit in comparisons.items():
        result = reader.read(unit)
        for record in result.meta["comparisons"] if result else ():
            compared.append({"metric": name, **record})
    return Measured(
        rows,
        found,
        {label: dict(result.meta) for label, result in read_metadata.items() if result is not None},
        scores,
        compared,
        report,
        n_clips,
        manifest,
        planner.description,
        planner.group_name,
        planner.groups,
        replicates,
        planner.coverage,
    )


def _members(clips: Sequence[str], groups: Mapping[str, str]) -> list[list[str]]:
    """The clips of each group, groups in order of first appearance."""
    members: dict[str, list[str]] = {}
    for clip in clips:
        members.setdefault(groups.get(clip, clip), []).append(clip)
    return list(members.values())


def _note_needs(report: RunReport, planner: Planner, rows: Sequence[SystemRow], metrics: Sequence[Metric]) -> None:
    """What the cells of a dry run need, and why it is missing where it is."""
    if planner.stand_in is not None:
        reason = tidy(planner.stand_in.describe(planner.missing))
        report.need("data", planner.data_name, reason)
    else:
        size = f"{len(planner.suite_clips):,} clips, {seconds_of(planner.suite_clips) / 3600:.1f} h"
        covered = planner.coverage
        report.need("data", planner.data_name, None, f"{size}; {covered}" if covered else size)
    for row in rows:
        report.need("system", row.name, tidy(row.reason) if row.reason else None)
    for metric in metrics:
        why = metric.unavailable()
        report.need("metric", getattr(metric, "embedder", metric.name), tidy(why) if why else None)


def _shard_losses(planner: Planner, rows: Sequence[SystemRow], reader: _Reader, report: RunReport) -> dict[str, str]:
    """What a shard left out: without cells, its own units say so. Returns the clips that no row was given."""
    for row in rows:
        failed: dict[str, str] = {}
        for unit in (*row.units, *row.stereo):
            failed |= reader.failures(unit)
        report.note_lost(row.label, count_reasons({clip: tidy(why) for clip, why in failed.items()}))
    return {clip: why for unit in planner.load_units for clip, why in reader.failures(unit).items()}


def plan_rows(
    planner: Planner,
    wanted: Sequence[tuple[str, int | None]],
    system_options: Mapping[str, Mapping[str, Any]],
    needed: Sequence[str] = (),
) -> list[SystemRow]:
    """The rows of `wanted`; users' classes come first, so that a broken one is known before anything else is done.

    Raises:
        UserCodeError: a class fails on every clip that is tried, and the run refuses such.
        FileNotFoundError: a needed class of the user's, or everything that is needed, is missing.
    """
    rows: dict[int, SystemRow] = {}
    order = sorted(range(len(wanted)), key=lambda i: not runs_user_code(wanted[i][0]))
    with stdout_to_stderr():
        for i in order:
            name, steps = wanted[i]
            row = rows[i] = planner.system(name, steps, **system_options.get(name, {}))
            if row.error is not None and planner.options.refuse_broken:
                raise row.error
            if row.remark and row.remark not in planner.options.said:
                planner.options.said.add(row.remark)
                print(f"warning: {row.remark}", file=sys.stderr)
    missing = [rows[i] for i in order if wanted[i][0] in needed and rows[i].reason is not None]
    if missing and (len(missing) == len(needed) or runs_user_code(missing[0].name)):
        raise FileNotFoundError(f"{missing[0].label}: {missing[0].reason}")
    return [rows[i] for i in range(len(wanted))]


class _Reader:
    """Reads units from the store; one that turns out damaged is computed again, once."""

    def __init__(self, store: Store, executor: Executor, options: RunOptions, report: RunReport) -> None:
        self.store, self.executor, self.options, self.report = store, executor, options, report

    def read(self, unit: Unit) -> Result | None:
        for attempt in range(2):
            try:
                return self.store.get(unit.key)
            except KeyError:
                return None
            except CorruptEntryError:
                if attempt == 0:
                    again = replace(self.options, overwrite="missing", quiet=True)
                    self.report.add(run_units([unit], self.store, self.executor, again))
        return None

    def failures(self, unit: Unit) -> dict[str, str]:
        """Clips that a unit in the store has no result for."""
        try:
            return dict(self.store.meta(unit.key).get("failures", {}))
        except (KeyError, CorruptEntryError):
            return {}

    def pends(self, cell: PlannedCell) -> bool:
        """Whether a cell without a result merely has not been computed yet."""
        return cell.reason is None and cell.unit is not None and cell.unit.key not in self.report.failed

    def reason_cell(self, cell: PlannedCell) -> Cell:
        """A cell without a result."""
        if cell.reason is not None or cell.unit is None:
            return Cell(reason=tidy(cell.reason or "no clips"))
        failed = self.report.failed.get(cell.unit.key)
        if failed is not None:
            return Cell(reason=f"failed in {failed.stage} {failed.name}: {failed.error}")
        return Cell(reason=NOT_COMPUTED)


def to_cell(result: Result, metric: Metric) -> Cell:
    """A table cell from an aggregate."""
    meta = result.meta
    failed = {clip: tidy(why) for clip, why in sorted(meta.get("failures", {}).items())}
    failures = count_reasons(failed)
    # Only entries with content: a complete cell has none of these details.
    details: dict[str, Any] = {key: meta[key] for key in ("n_windows", "dim") if key in meta}
    if meta.get("n_groups", meta.get("n")) != meta.get("n"):
        details["n_groups"] = meta["n_groups"]
    if getattr(metric, "covariances", False) and meta.get("n_windows", math.inf) <= meta.get("dim", 0):
        details["few_windows"] = True
    given = meta.get("n", 0) + len(failed.keys() - meta.get("unusable", {}).keys())
    if given != meta.get("n", 0):
        details["given"] = given
    if meta.get("lost"):
        details["lost"] = count_reasons({clip: failed[clip] for clip in meta["lost"]})
    if meta.get("notes"):
        details["counted"] = count_reasons(meta["notes"])
    if "value" not in meta:
        reason = meta.get("reason") or ("no clip could be measured" if failures else "no clips")
        return Cell(reason=reason, failures=failures, details=details)
    low, high = _interval(meta, metric)
    return Cell(
        value=meta["value"],
        n=meta["n"],
        median=meta.get("median"),
        low=low,
        high=high,
        failures=failures,
        details=details | {"failed_clips": failed},
    )


def _interval(meta: Mapping[str, Any], metric: Metric) -> tuple[float | None, float | None]:
    """The interval of an aggregate; one group of clips has none. That of a mean ends where the scores themselves do."""
    low, high = meta.get("low"), meta.get("high")
    if low is None or high is None or math.isnan(low):
        return None, None
    if "values" in meta:
        least, most = metric.limits
        low, high = max(low, min(least, meta["value"])), min(high, max(most, meta["value"]))
    return low, high


def _without_data(
    planner: Planner, wanted: Sequence[tuple[str, int | None]], metrics: Sequence[Metric], reason: str
) -> Measured:
    rows = [SystemRow(name, None, reason=reason, n_steps=steps) for name, steps in wanted]
    cells = {(row.label, metric.name): Cell(reason=reason) for row in rows for metric in metrics}
    report = RunReport(blocked=dict.fromkeys(cells, reason))
    report.need("data", planner.data_name, reason)
    return Measured(rows, cells, {}, {}, [], report, 0, "")
