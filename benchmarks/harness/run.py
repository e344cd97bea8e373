"""From units to results in the store: what has to run, in which order, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from benchmarks.harness.base import Executor
from benchmarks.harness.progress import Monitor, Progress
from benchmarks.harness.units import Done, Unit, execute, is_provisional
from benchmarks.store.store import Store

OVERWRITE = ("missing", "always", "never", "cache-only")


@dataclass
class RunOptions:
    """What a run computes and how.

    Attributes:
        overwrite: "missing" computes what the store lacks; "always" computes everything again; "never"
            computes what is missing but refuses to change a result file; "cache-only" computes nothing.
        limit: largest number of items (0: as the suite says).
        seconds: of audio that is used of each item, from its beginning (0: all).
        shard: (index, count): compute only this share of the units, and write no tables.
        dry_run: compute nothing; report what would run.
        device: device of neural networks. Results of devices differ in the last bits, so it is part of the key.
        quiet: print no progress to stderr.
        monitor: is told how the run proceeds.
        refuse_broken: stop before anything is measured when a user's class fails on every item that is tried.
        trials: users' systems that this run has tried, by name and options.
        said: warnings that have been printed, and units of users' code that this run has brought up to date.
    """

    overwrite: str = "missing"
    limit: int = 0
    seconds: float = 0.0
    shard: tuple[int, int] | None = None
    dry_run: bool = False
    device: str = "cpu"
    quiet: bool = False
    monitor: Monitor | None = None
    refuse_broken: bool = False
    trials: dict[str, Any] = field(default_factory=dict, repr=False)
    said: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        if self.overwrite not in OVERWRITE:
            raise ValueError(f"overwrite must be one of {', '.join(OVERWRITE)}, got {self.overwrite!r}")
        if self.limit < 0:
            raise ValueError(f"limit must be at least 0, got {self.limit}")
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"seconds must be at least 0, got {self.seconds}")
        if self.shard is not None:
            index, count = self.shard
            if not 0 <= index < count:
                raise ValueError(f"shard {index}/{count}: the index runs from 0 to {count - 1}")


@dataclass(frozen=True)
class Need:
    """Something that a run needs: a data set, a system, a representation, a metric.

    Attributes:
        kind, name: what it is.
        present: whether it can be used here.
        text: its size, or why it cannot be used; for a missing one with the command that gets it.
    """

    kind: str
    name: str
    present: bool
    text: str = ""


@dataclass
class RunReport:
    """What a run did: units computed, found, failed; for a dry run, what it would do.

    Attributes:
        pending: units that would run.
        planned: a dry run's targets, with stand-ins for what is not available.
        needs: what a dry run found to be needed, by kind and name.
        blocked: (row, column) -> why the cell has no value, unless it merely has not been computed yet.
        lost: row -> reason -> number of items that the row was given and has no value for.
        unusable: reason -> number of items that no row was given.
        cpu_seconds: stage -> CPU time of the units that were computed.
    """

    computed: int = 0
    cached: int = 0
    failed: dict[str, Done] = field(default_factory=dict)
    pending: list[Unit] = field(default_factory=list)
    planned: list[Unit] = field(default_factory=list)
    needs: dict[tuple[str, str], Need] = field(default_factory=dict)
    blocked: dict[tuple[str, str], str] = field(default_factory=dict)
    lost: dict[str, dict[str, int]] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    def add(self, other: RunReport) -> None:
        """Add another report to this one."""
        self.computed += other.computed
        self.cached += other.cached
        self.failed |= other.failed
        self.planned += other.planned
        self.needs |= other.needs
        self.blocked |= other.blocked
        known = {unit.key for unit in self.pending}
        self.pending += [unit for unit in other.pending if unit.key not in known]
        for row, reasons in other.lost.items():
            self.note_lost(row, reasons)
        for stage, seconds in other.cpu_seconds.items():
            self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + seconds
        for why, count in other.unusable.items():
            self.unusable[why] = max(count, self.unusable.get(why, 0))

    def need(self, kind: str, name: str, reason: str | None, text: str = "") -> None:
        """Record a need; `reason` says why it is not met (None: it is)."""
        self.needs[kind, name] = Need(kind, name, reason is None, text if reason is None else reason)

    def note_lost(self, row: str, reasons: Mapping[str, int]) -> None:
        """Record the items that a row lost in one of its cells; its other cells lost the same ones."""
        for why, count in reasons.items():
            known = self.lost.setdefault(row, {})
            known[why] = max(count, known.get(why, 0))


def waves_of(units: Iterable[Unit]) -> list[list[Unit]]:
    """All units and their inputs, layered so that each layer only needs the ones before it.

    Within a layer units are ordered by stage and name, so that a worker keeps one model at a time.
    """
    depth: dict[str, int] = {}
    found: dict[str, Unit] = {}

    def visit(unit: Unit) -> int:
        if unit.key not in depth:
            found[unit.key] = unit
            depth[unit.key] = 1 + max((visit(item) for item in unit.inputs), default=-1)
        return depth[unit.key]

    for unit in units:
        visit(unit)
    layers: list[list[Unit]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key, unit in found.items():
        layers[depth[key]].append(unit)
    return [sorted(layer, key=lambda unit: (unit.stage, unit.name)) for layer in layers]


def run_units(units: Sequence[Unit], store: Store, executor: Executor, options: RunOptions) -> RunReport:
    """Bring `units` into the store, with whatever inputs they need.

    A unit whose result exists is skipped, and then its inputs are not needed either: audio may be removed from a
    store that has the scores. When a unit fails, the units that need it fail with it; the others continue.
    """
    layers = waves_of(units)
    if options.overwrite in ("missing", "never") and not options.dry_run:
        drop_outdated(layers, store, options)
    todo = missing_units(layers, {unit.key for unit in units}, store, options.overwrite)
    report = RunReport(cached=sum(len(layer) for layer in layers) - sum(len(layer) for layer in todo))
    if options.overwrite == "cache-only" or options.dry_run:
        report.pending = [unit for layer in todo for unit in layer if not unit.stands_in]
        report.planned = list(units) if options.dry_run else []
        return report
    if options.shard is not None:
        index, count = options.shard
        todo = [[unit for unit in layer if unit.stage != "aggregate"] for layer in todo]
        todo = [[unit for unit in layer if unit.on_shard(index, count)] for layer in todo]
    planned = [unit for layer in todo for unit in layer]
    progress = Progress(planned, store, executor, quiet=options.quiet)
    if options.monitor is not None:
        options.monitor.begin(planned)
    for layer in todo:
        ready = []
        for unit in layer:
            broken = next((item for item in unit.inputs if item.key in report.failed), None)
            if broken is None:
                ready.append(unit)
                continue
            cause = report.failed[broken.key]
            report.failed[unit.key] = replace(cause, key=unit.key, stage=unit.stage, name=unit.name)
            if options.monitor is not None:
                options.monitor.step(report.failed[unit.key])
        here, elsewhere = [unit for unit in ready if unit.local], [unit for unit in ready if not unit.local]
        ended = (execute(unit, store.location) for unit in here)
        for done in chain(ended, executor.run(elsewhere, store.location) if elsewhere else ()):
            progress.step(done)
            if options.monitor is not None:
                options.monitor.step(done)
            if done.error is not None:
                report.failed[done.key] = done
                continue
            report.computed += 1
            report.cpu_seconds[done.stage] = report.cpu_seconds.get(done.stage, 0.0) + done.cpu_seconds
            if done.amount > 0 and done.cpu_seconds > 0:
                store.add_rate(
                    done.stage,
                    done.name,
                    done.amount,
                    done.cpu_seconds,
                    device=done.device,
                    wall_seconds=done.wall_seconds,
                )
    progress.close()
    store.flush()
    return report


def drop_outdated(layers: Sequence[Sequence[Unit]], store: Store, options: RunOptions) -> None:
    """Remove from the store what a run repeats: units of a user's code in which items failed or whose results must not
    be reused, and all that depends on them. They are removed first, so that a killed run leaves no mixture.
    """
    outdated: set[str] = set()
    for layer in layers:
        for unit in layer:
            if not unit.own or unit.key in options.said:
                continue
            if options.shard and not unit.on_shard(*options.shard):
                continue
            options.said.add(unit.key)
            unkept = unit.watch is not None and not unit.watch.keep
            if unkept or any(item.key in outdated for item in unit.inputs) or is_provisional(unit, store):
                outdated.add(unit.key)
                store.delete(unit.key)


def missing_units(
    layers: Sequence[Sequence[Unit]], targets: set[str], store: Store, overwrite: str
) -> list[list[Unit]]:
    """The units that have to run: missing targets, and missing units that they need."""
    if overwrite == "always":
        return [list(layer) for layer in layers]
    needed = set(targets)
    todo: list[list[Unit]] = []
    for layer in reversed(layers):
        asked = [unit for unit in layer if unit.key in needed]
        present = store.has_many([unit.key for unit in asked])
        chosen = [unit for unit in asked if unit.key not in present]
        needed.update(item.key for unit in chosen for item in unit.inputs)
        todo.append(chosen)
    return todo[::-1]
