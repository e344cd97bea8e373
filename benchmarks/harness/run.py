"""From a suite to finished units: what has to run, in what order, and how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TextIO

from benchmarks.evaluation.left_out import count_clips, listed
from benchmarks.harness.executors import Executor
from benchmarks.harness.units import Done, Unit, is_provisional
from benchmarks.store.store import Store

OVERWRITE = ("missing", "always", "never", "cache-only")


class Monitor(Protocol):
    """Is told how a run goes, so that others can see it (`m2l-bench status`)."""

    def begin(self, units: Sequence[Unit]) -> None:
        """These units will run now, in some order."""
        ...

    def step(self, done: Done) -> None:
        """One of them ended, or cannot run because one before it failed."""
        ...


@dataclass
class RunOptions:
    """How a run treats what is there.

    Attributes:
        overwrite: "missing" computes what the store lacks; "always" computes everything again; "never"
            computes what is missing but refuses to change a result file; "cache-only" computes nothing.
        limit: at most this many clips (0: as the suite says).
        shard: (index, count): do only this share of the units, and write no tables.
        dry_run: compute nothing, count what would run.
        device: device for neural systems; results of devices differ in the last bits, so it is in the key.
        quiet: no progress on stderr.
        monitor: is told how the run goes.
        refuse_broken: stop before anything is measured when a user's class fails on every clip that is tried.
        trials: users' systems that this run has tried, by name and options.
        said: what was said once, and units of users' code that this run has brought up to date.
    """

    overwrite: str = "missing"
    limit: int = 0
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
        if self.shard is not None:
            index, count = self.shard
            if not 0 <= index < count:
                raise ValueError(f"shard {index}/{count}: the index runs from 0 to {count - 1}")


@dataclass
class RunReport:
    """What a run did: units computed, found, failed; for a dry run, what it would do.

    Attributes:
        lost: row -> reason -> clips that the row was given and has no value for.
        unusable: reason -> clips that no row was given.
    """

    computed: int = 0
    cached: int = 0
    failed: dict[str, Done] = field(default_factory=dict)
    pending: list[Unit] = field(default_factory=list)
    lost: dict[str, dict[str, int]] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)

    def add(self, other: RunReport) -> None:
        """Take another report's counts in."""
        self.computed += other.computed
        self.cached += other.cached
        self.failed |= other.failed
        known = {unit.key for unit in self.pending}
        self.pending += [unit for unit in other.pending if unit.key not in known]
        for row, reasons in other.lost.items():
            self.note_lost(row, reasons)
        for why, count in other.unusable.items():
            self.unusable[why] = max(count, self.unusable.get(why, 0))

    def note_lost(self, row: str, reasons: Mapping[str, int]) -> None:
        """Clips that a row lost in one of its cells; the same clips are lost in every other one."""
        for why, count in reasons.items():
            known = self.lost.setdefault(row, {})
            known[why] = max(count, known.get(why, 0))

    def say_left_out(self, stream: TextIO | None = None) -> bool:
        """Print what was left out, with reasons (default: to stderr); says whether a row lost clips it was given."""
        lines = [f"left out of every row: {count_clips(n)}: {why}" for why, n in listed(self.unusable)]
        for row, reasons in self.lost.items():
            lines += [f"left out of {row}: {count_clips(n)}: {why}" for why, n in listed(reasons)]
        if lines:
            print(*lines, sep="\n", file=stream or sys.stderr)
        return bool(self.lost)


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

    A unit whose result is there is not touched, and then its inputs are not needed either: audio may be
    removed from a store that has the scores. A failed unit takes those that need it with it; the others
    go on.
    """
    layers = waves_of(units)
    if options.overwrite in ("missing", "never") and not options.dry_run:
        drop_outdated(layers, store, options)
    todo = missing_units(layers, {unit.key for unit in units}, store, options.overwrite)
    report = RunReport(cached=sum(len(layer) for layer in layers) - sum(len(layer) for layer in todo))
    if options.overwrite == "cache-only" or options.dry_run:
        report.pending = [unit for layer in todo for unit in layer]
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
        for done in executor.run(ready, store.location):
            progress.step(done)
            if options.monitor is not None:
                options.monitor.step(done)
            if done.error is not None:
                report.failed[done.key] = done
                continue
            report.computed += 1
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
    """Take out of the store what a run does again: units of a user's code in which clips failed, or whose results may
    not serve another run, and all that rests on them. They go first, so that a killed run leaves no mixture.
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
    """The units that have to run: those asked for that are missing, and what they need that is missing."""
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


class Estimate:
    """Seconds of CPU a list of units will take, from rates measured before in this store."""

    def __init__(self, store: Store) -> None:
        self.rates = store.rates()
        self.by_stage: dict[str, list[float]] = {}
        for (stage, _), rate in self.rates.items():
            self.by_stage.setdefault(stage, []).append(rate)

    def seconds(self, unit: Unit) -> float | None:
        """CPU seconds of one unit: its own rate, else the mean rate of its stage, else None."""
        rate = self.rates.get((unit.stage, unit.name))
        if rate is None and unit.stage in self.by_stage:
            rate = sum(self.by_stage[unit.stage]) / len(self.by_stage[unit.stage])
        return None if rate is None else rate * unit.amount

    def total(self, units: Iterable[Unit]) -> tuple[float, int]:
        """Seconds for all that can be estimated, and the number of units that cannot."""
        known = [self.seconds(unit) for unit in units]
        return sum(s for s in known if s is not None), sum(s is None for s in known)


class Progress:
    """One line on stderr: how many units are done, what was last, and about how long is left."""

    def __init__(
        self,
        units: Sequence[Unit],
        store: Store,
        executor: Executor,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet or not units
        self.clock = clock
        self.count, self.total = 0, len(units)
        self.live = self.stream.isatty()
        self.last = -1e9
        estimate = Estimate(store)
        guess = [estimate.seconds(unit) for unit in units]
        known = [seconds for seconds in guess if seconds is not None]
        filler = sum(known) / len(known) if known else 1.0
        self.weights = {
            unit.key: seconds if seconds is not None else filler
            for unit, seconds in zip(units, guess, strict=True)
        }
        self.left = sum(self.weights.values())
        self.all = self.left
        self.workers = int(getattr(executor, "workers", 1))
        self.known = bool(known)
        self.start = clock()

    def step(self, done: Done) -> None:
        """A unit ended."""
        self.count += 1
        self.left -= self.weights.get(done.key, 0.0)
        if done.error is not None and not self.quiet:
            self._write(f"failed: {done.stage} {done.name}: {done.error}", end="\n")
        now = self.clock()
        if self.quiet or (now - self.last < (0.2 if self.live else 10.0) and self.count < self.total):
            return
        self.last = now
        self._write(f"[{self.count}/{self.total}] {done.stage} {done.name}{self._remaining(now)}")

    def _remaining(self, now: float) -> str:
        done = self.all - self.left
        if self.count == self.total:
            return f"  done in {duration(now - self.start)}"
        if done < 0.05 * self.all:
            # Too early for the clock: workers are still starting. Rates of earlier runs may know.
            return f"  about {duration(self.left / self.workers)} left" if self.known else ""
        # Weights are CPU seconds where rates are known, else equal shares; the clock scales both.
        return f"  about {duration((now - self.start) * self.left / done)} left"

    def _write(self, text: str, end: str | None = None) -> None:
        if self.live and end is None:
            self.stream.write(f"\r\x1b[K{text}")
        else:
            self.stream.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """End the live line."""
        if self.live and not self.quiet and self.count:
            self.stream.write("\n")
            self.stream.flush()


def duration(seconds: float) -> str:
    """A length of time for people: "12 s", "3 min 20 s", "2.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds / 3600:.1f} h"


def describe_pending(report: RunReport, store: Store, workers: int) -> list[str]:
    """Lines of a dry run: units and CPU time by stage and name."""
    estimate = Estimate(store)
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in report.pending:
        groups.setdefault((unit.stage, unit.name), []).append(unit)
    lines = [f"{report.cached} units are in the store, {len(report.pending)} would run"]
    for (stage, name), units in sorted(groups.items()):
        seconds, unknown = estimate.total(units)
        cost = f"about {duration(seconds)} of CPU" if not unknown else "no rate measured yet"
        lines.append(f"  {stage:12} {name:28} {len(units):5} units  {cost}")
    seconds, unknown = estimate.total(report.pending)
    tail = f", without {unknown} units of unknown cost" if unknown else ""
    if report.pending:
        lines.append(f"  in all about {duration(seconds / max(workers, 1))} on {workers} workers{tail}")
    return lines
