"""A suite's units as if everything it needs were here, and what of that is not.

Data, weights or packages that are missing are planned with stand-ins, so that the number of units and the
hours of audio are known before anything is downloaded. A stand-in's key is in no store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.datasets import Clip, DataNotFoundError
from benchmarks.evaluation.measure import NOT_COMPUTED, tidy
from benchmarks.evaluation.plan import Planner, SystemRow
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions, RunReport, waves_of
from benchmarks.harness.units import Unit
from benchmarks.metrics.base import Metric
from benchmarks.store.store import Result, Store
from benchmarks.suite import Suite
from benchmarks.tables.build import TABLES
from benchmarks.tables.table import TableResult

CHANCE = "chance"


@dataclass(frozen=True)
class Size:
    """How large a data set is when it is complete: clips, seconds of each, and who says so."""

    data: str
    clips: int
    seconds: float
    source: str
    command: str


_NOTES = Size(
    "tinysol",
    2913,
    10.0,
    "Zenodo 3685367 has 2,913 notes; lengths are not published: 10 s as an upper guess",
    "m2l-bench fetch tinysol",
)

#: Published sizes by data set or task, for planning without the data.
SIZES: dict[str, Size] = {
    "musiccaps": Size(
        "musiccaps",
        5521,
        10.0,
        "Agostinelli et al. 2023: 5,521 clips of 10 s",
        "m2l-bench fetch musiccaps",
    ),
    "magnatagatune": Size(
        "magnatagatune",
        25860,
        29.1,
        "25,863 clips of 29.1 s, 3 of them corrupt",
        "m2l-bench fetch magnatagatune",
    ),
    "beatport": Size(
        "beatport",
        1272,
        120.0,
        "Zenodo 1101082: 1,272 of 1,486 two-minute excerpts have one key",
        "m2l-bench fetch beatport",
    ),
    "tinysol-pitch": _NOTES,
    "tinysol-instrument": _NOTES,
}

#: Data sets as clips name them -> length of a clip that is not known without reading it.
_SECONDS = {"magnatagatune": 29.1, "beatport_key": 120.0}
_CLIPS_PER_UNIT = 24


@dataclass(frozen=True)
class Need:
    """Something a suite needs: a data set, a system, a representation, a metric.

    Attributes:
        kind, name: what it is.
        present: whether it can be used here.
        text: how large it is, or why it cannot be used; a missing one names the command that helps.
    """

    kind: str
    name: str
    present: bool
    text: str = ""


@dataclass
class WhatIfPlan:
    """All units of a suite's tables, stand-ins among them, and everything they need."""

    units: list[Unit] = field(default_factory=list)
    needs: dict[tuple[str, str], Need] = field(default_factory=dict)

    def need(self, kind: str, name: str, reason: str | None, text: str = "") -> None:
        """Record a need; `reason` says why it is not met (None: it is)."""
        self.needs[kind, name] = Need(kind, name, reason is None, text if reason is None else tidy(reason))

    @cached_property
    def all_units(self) -> list[Unit]:
        """The units and everything they read, each once."""
        return [unit for layer in waves_of(self.units) for unit in layer]

    @cached_property
    def targets(self) -> set[str]:
        """Keys of units whose results are read by tables, not by units only."""
        return {unit.key for unit in self.units}


def plan_suite(
    suite: Suite, options: RunOptions, wanted: Sequence[str], store: Store | None = None
) -> WhatIfPlan:
    """Plan the tables `wanted` ("table1", "table2", "table3", "figure2") of a suite.

    Raises:
        SuiteError, UnknownNameError: the suite names what does not exist, or has a wrong option.
    """
    plan = WhatIfPlan()
    full = _Planner(suite, options, plan)
    full.store = store
    if suite.table2 is not None and "table2" in wanted:
        rows = [(name, None) for name in suite.table2.systems]
        _add(plan, full, rows, suite.table2.metrics, suite.table2.system_options, compare=True)
    if suite.figure2 is not None and "figure2" in wanted:
        steps = [(name, steps) for name in suite.figure2.systems for steps in suite.figure2.steps]
        _add(plan, full.first(suite.figure2.clips), steps, suite.figure2.metrics, {}, compare=True)
    if suite.table3 is not None and "table3" in wanted:
        rows = [(name, None) for name in suite.table3.rows.values()]
        _add(plan, full.first(suite.table3.clips), rows, suite.table3.metrics, {}, compare=True)
    if suite.table1 is not None and "table1" in wanted:
        _add_table1(plan, suite, options)
    return plan


def amount(unit: Unit) -> float:
    """Seconds of audio of a unit; of clips of unknown length what is published."""
    if unit.stage != "features" or unit.payload is None:
        return unit.amount
    return sum(clip.seconds or _SECONDS.get(clip.dataset, 10.0) for clip in unit.payload.clips)


def _not_here() -> Any:
    raise DataNotFoundError("a stand-in has no audio")


def _stand_ins(size: Size) -> list[Clip]:
    name = size.data
    return [
        Clip(f"{name}-{i}", name, f"stand-in {i}", {}, "stand-in", partial(_not_here), seconds=size.seconds)
        for i in range(size.clips)
    ]


class _Planner(Planner):
    """Plans stand-ins where the real thing is missing, and writes down what is."""

    def __init__(
        self, suite: Suite, options: RunOptions, plan: WhatIfPlan, clips: Sequence[Clip] | None = None
    ) -> None:
        super().__init__(suite, options)
        self.plan, self._given = plan, clips

    def first(self, n_clips: int) -> _Planner:
        """The same on the first clips only (0: all); the data set is not read again."""
        clips = self.clips[:n_clips] if n_clips else self.clips
        first = _Planner(self.suite, self.options, self.plan, clips)
        first.store = self.store
        return first

    @cached_property
    def clips(self) -> list[Clip]:
        if self._given is not None:
            return list(self._given)
        data = self.suite.data
        name = data.dataset
        if name == "folder":
            name = Path(str(data.options.get("path", name))).name
        try:
            found = super().clips
            size_here = f"{len(found):,} clips, {self._hours(found):.1f} h"
            covered = getattr(self, "coverage", None)
            self.plan.need("data", name, None, f"{size_here}; {covered}" if covered else size_here)
            return found
        except FileNotFoundError as error:
            size = SIZES.get(name)
            if size is None:
                self.plan.need("data", name, str(error))
                return []
            self.plan.need("data", name, f"{error}. Planned with its published size ({size.source}). "
                           f"To get it: {size.command}")  # fmt: skip
            clips = _stand_ins(size)
            limits = [limit for limit in (data.limit, self.options.limit) if limit]
            return clips[: min(limits)] if limits else clips

    @staticmethod
    def _hours(clips: Iterable[Clip]) -> float:
        return sum(clip.seconds or 10.0 for clip in clips) / 3600

    def system(self, name: str, n_steps: int | None = None, **system_options: Any) -> SystemRow:
        row = super().system(name, n_steps, **system_options)
        self.plan.need("system", name, row.reason)
        if row.reason is None or _published_only(name):
            return row
        # Which number of steps is its default is unknown without it; it is one for all that take one.
        n_steps = None if n_steps == 1 else n_steps
        row = replace(row, n_steps=n_steps)
        units = tuple(
            replace(load, stage="reconstruct", name=row.label, inputs=(load,), spec=_phantom(name, n_steps))
            for load in self.load_units
        )
        return SystemRow(name, None, n_steps=n_steps, units=units)

    def cell(self, row: SystemRow, metric: Metric) -> Unit | str:
        if row.reason is not None:
            return row.reason
        embedder = getattr(metric, "embedder", "")
        reason, stage, name = metric.unavailable(), "embed" if embedder else "score", embedder or metric.name
        self.plan.need("metric", name, reason)
        if reason is None:
            return super().cell(row, metric)
        pairs = list(zip(self.load_units, row.units, strict=True))
        made = [
            replace(load, stage=stage, name=name, spec=_phantom(name), inputs=(load, unit))
            for load, unit in pairs
        ]
        if stage == "embed":
            made += [
                replace(load, stage=stage, name=name, spec=_phantom(name), inputs=(load,))
                for load in self.load_units
            ]
        return Unit("aggregate", metric.name, "", _phantom(metric.name), tuple(made), amount=self.seconds)


def _published_only(name: str) -> bool:
    """Whether nobody can run a system, whatever is downloaded."""
    from benchmarks.autoencoders import create_autoencoder
    from benchmarks.autoencoders.latmusic import PublishedOnlyError

    try:
        create_autoencoder(name)
    except PublishedOnlyError:
        return True
    except Exception:  # any other reason is one that can be helped
        return False
    return False


def _phantom(*parts: Any) -> dict[str, Any]:
    return {"stand-in": list(parts)}


def _add(
    plan: WhatIfPlan,
    planner: _Planner,
    wanted: Sequence[tuple[str, int | None]],
    metrics: Sequence[Metric],
    system_options: Mapping[str, Mapping[str, Any]],
    *,
    compare: bool,
) -> None:
    """Add what `benchmarks.evaluation.measure.measure` would run."""
    if not planner.clips:
        return
    rows = [planner.system(name, steps, **system_options.get(name, {})) for name, steps in wanted]
    for metric in metrics:
        cells = {row.label: planner.cell(row, metric) for row in rows}
        units = {label: unit for label, unit in cells.items() if isinstance(unit, Unit)}
        plan.units += units.values()
        if compare and len(units) > 1:
            plan.units.append(metric.comparison_unit(planner, list(units), list(units.values())))
    plan.units += [planner.facts(row) for row in rows if row.reason is None]


class _EmptyStore(Store):
    """A store that has nothing and keeps nothing: a dry run against it lists every unit there is."""

    def has(self, key: str) -> bool:
        return False

    def has_many(self, keys: Any) -> set[str]:
        return set()

    def get(self, key: str) -> Result:
        raise KeyError(key)


def _add_table1(plan: WhatIfPlan, suite: Suite, options: RunOptions) -> None:
    """Units of the probes; this package reaches them through the table registry only."""
    try:
        builder = TABLES.load("table1")
    except ModuleNotFoundError as error:
        plan.need("table", "table1", f"this installation has no {error.name}")
        return
    dry = replace(options, dry_run=True, overwrite="missing", monitor=None, quiet=True, shard=None)
    built = builder(suite, _EmptyStore(), SerialExecutor(), dry)
    table, report = built if isinstance(built, tuple) else (built, RunReport())
    section = suite.table1 or {}
    reasons = _reasons(table)
    missing = [task for task in section["tasks"] if _same_for_all(reasons, task)]
    for task in section["tasks"]:
        size = SIZES.get(task)
        reason = _same_for_all(reasons, task)
        if reason is not None and size is not None:
            reason = f"{reason}. Planned with its published size ({size.source}). To get it: {size.command}"
        plan.need("data", size.data if size else task, reason)
    plan.units += report.pending
    rows = [
        name for name in section["representations"] if not (name in AUTOENCODERS and _published_only(name))
    ]
    names = [name for name in rows if name != CHANCE]
    for name in names:
        reason = next((r for t, r in reasons.get(name, {}).items() if t not in missing and r), None)
        if reason is None and len(missing) == len(section["tasks"]):
            reason = _representation_reason(name)
        plan.need("representation", name.partition("@")[0], reason)
    _add_stand_in_features(plan, report, names, missing, rows)


def _add_stand_in_features(
    plan: WhatIfPlan, report: RunReport, names: Sequence[str], missing: Sequence[str], rows: Sequence[str]
) -> None:
    """Features of missing tasks, and of missing representations on the tasks that are here."""
    sizes = {SIZES[task].data: SIZES[task] for task in missing if task in SIZES}
    bases = list(dict.fromkeys(name.partition("@")[0] for name in names))
    features = [unit for unit in report.pending if unit.stage == "features"]
    here = {unit.name for unit in features}
    model = [unit for unit in features if unit.name == features[0].name] if features else []
    for base in bases:
        if base not in here:
            plan.units += [replace(unit, name=base, spec=_phantom(base, unit.key)) for unit in model]
        for size in sizes.values():
            count = math.ceil(size.clips / _CLIPS_PER_UNIT)
            seconds = size.clips * size.seconds / count
            plan.units += [
                Unit(
                    "features",
                    base,
                    "",
                    _phantom(base, size.data, i),
                    amount=seconds,
                    group=f"{size.data}{i}",
                )
                for i in range(count)
            ]
    plan.units += [
        Unit("probe", f"{row} on {data}", "", _phantom("probe", row, data)) for row in rows for data in sizes
    ]


def _reasons(table: TableResult) -> dict[str, dict[str, str | None]]:
    """Row -> task -> why it cannot be measured (None where it can)."""
    found: dict[str, dict[str, str | None]] = {}
    for row in table.rows:
        for key, cell in row.cells.items():
            reason = None if cell.reason in (None, "-", NOT_COMPUTED) else cell.reason
            found.setdefault(row.name, {})[key.partition("/")[0]] = reason
    return found


def _same_for_all(reasons: Mapping[str, Mapping[str, str | None]], task: str) -> str | None:
    """The reason all rows share: then it is the data that is missing."""
    found = {row.get(task) for row in reasons.values()}
    return found.pop() if len(found) == 1 else None


def _representation_reason(name: str) -> str | None:
    """Why a representation cannot be made; None when it can."""
    from benchmarks.registry import load_target

    try:
        load_target("probes.representations:create_representation")(name.partition("@")[0])
    except (FileNotFoundError, ImportError) as error:
        return str(error)
    return None
