"""What a run of a suite needs, has, and would cost: `m2l-bench tables --suite S --dry-run`.

Hours come from measured rates only: those that this store has recorded, those of `results/*/cost.json`, and the
shipped ones (`rates.json`, from another machine, so an order of magnitude). What has not been measured is named,
not guessed; a run on a few clips measures it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.evaluation.systems import STEREO
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.progress import duration
from benchmarks.harness.run import Need, RunOptions, RunReport, missing_units, waves_of
from benchmarks.harness.units import Unit
from benchmarks.store.store import Store
from benchmarks.suite import Suite
from benchmarks.tables.build import build_part
from benchmarks.tables.text import markdown_table

#: Stages that use a GPU; the others run on CPUs whatever the device.
GPU_STAGES = ("reconstruct", "embed", "features")

#: Rates of the `paper` suite, measured with random weights where there are no others.
SHIPPED = Path(__file__).with_name("rates.json")

STAGES = ("load", "reconstruct", "score", "embed", "aggregate", "features", "probe")


@dataclass(frozen=True)
class Rates:
    """Measured rates by (stage, name), in seconds per second of audio.

    Attributes:
        cpu: CPU seconds, one thread.
        gpu: seconds by the clock on a GPU.
        sources: where they are from, for people.
    """

    cpu: dict[tuple[str, str], float]
    gpu: dict[tuple[str, str], float]
    sources: list[str]


def measured_rates(store: Store, results: str | Path | None) -> Rates:
    """Rates of this store, then of the cost records below `results`, then those that ship; the first one counts."""
    own = store.rates()
    cpu, sources = dict(own), [f"{len(own)} in this store"] if own else []
    records = [Path(results).glob("*/cost.json"), Path(results).glob("local/*/cost.json")] if results else []
    for path in (*sorted(path for found in records for path in found), SHIPPED):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found = {
                ("reconstruct", name): float(values["cpu_seconds_per_second"])
                for name, values in record.get("systems", {}).items()
            }
            for stage, names in record.get("stages", {}).items():
                found |= {(stage, name): float(rate) for name, rate in names.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # an estimate can do without a damaged record
        new = {key: rate for key, rate in found.items() if key not in cpu}
        if new:
            cpu |= new
            place = "that ship" if path == SHIPPED else f"in {path}"
            sources.append(f"{len(new)} {place} ({record.get('machine', 'unknown machine')})")
    return Rates(cpu, store.rates("cuda"), sources)


@dataclass
class StageCost:
    """One stage of a suite: units, audio, and hours where rates are known.

    Attributes:
        units, stored, to_run: numbers of units; `to_run` leaves out what only intermediate results need.
        audio_seconds: of the units that would run.
        cpu_hours, gpu_hours: of the units whose rate is known.
        without_cpu_rate, without_gpu_rate: names that have none -> seconds of audio.
    """

    units: int = 0
    stored: int = 0
    to_run: int = 0
    audio_seconds: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    without_cpu_rate: dict[str, float] = field(default_factory=dict)
    without_gpu_rate: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DryRun:
    """What a dry run found."""

    suite: str
    title: str
    store: str
    needs: list[Need]
    stages: dict[str, StageCost]
    rates: Rates

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "suite": self.suite,
            "store": self.store,
            "needs": [vars(need) for need in self.needs],
            "stages": {name: vars(cost) for name, cost in self.stages.items()},
            "rates": {
                "cpu": {"/".join(key): rate for key, rate in sorted(self.rates.cpu.items())},
                "gpu": {"/".join(key): rate for key, rate in sorted(self.rates.gpu.items())},
                "sources": self.rates.sources,
            },
        }


def dry_run(
    suite: Suite, options: RunOptions, wanted: Sequence[str], store: Store, results: str | Path | None
) -> DryRun:
    """Plan the tables `wanted` of a suite and weigh what a store lacks of them.

    Raises:
        SuiteError, UnknownNameError: the suite names what does not exist, or has a wrong option.
    """
    return weighed(plan_suite(suite, options, wanted, store), suite, options, store, results)


def weighed(
    report: RunReport, suite: Suite, options: RunOptions, store: Store, results: str | Path | None = None
) -> DryRun:
    """What a store lacks of all that a dry run (`report`) has planned."""
    rates = measured_rates(store, results)
    stages = costs_of(report.planned, store, options.overwrite, rates)
    return DryRun(suite.name, suite.title, store.location, sorted_needs(report.needs.values()), stages, rates)


def plan_suite(suite: Suite, options: RunOptions, wanted: Sequence[str], store: Store) -> RunReport:
    """What the tables `wanted` ("table1", "table2", "figure2", ...) of a suite would run, and what they need.

    Every table is built as a dry run; the report's `planned` holds the units that the tables read.

    Raises:
        SuiteError, UnknownNameError: the suite names what does not exist, or has a wrong option.
    """
    dry = replace(options, dry_run=True, overwrite="missing", monitor=None, quiet=True, shard=None)
    report = RunReport()
    for name in wanted:
        if build_part(name, suite, store, SerialExecutor(), dry, report) is None:
            report.need("table", name, "this installation lacks the package that builds it")
    return report


def planned_keys(plan: RunReport) -> set[str]:
    """Keys of all units that the tables of a plan (`plan_suite`) rest on, whether they are in the store or not.

    A suite names one set of keys per `options.device` and `options.limit`. What is not available here (data, weights)
    has no known key. Neither have entries that no table reads: players of a report, drawings of a figure, checks of
    axes. They are cheap and are made again when they are needed.
    """
    return {unit.key for layer in waves_of(plan.planned) for unit in layer if not unit.stands_in}


def sorted_needs(needs: Iterable[Need]) -> list[Need]:
    """In the order of a run, missing ones last within each kind."""
    order = ("data", "system", "metric", "representation", "table")
    return sorted(needs, key=lambda need: (order.index(need.kind), not need.present))


def costs_of(planned: Sequence[Unit], store: Store, overwrite: str, rates: Rates) -> dict[str, StageCost]:
    """Units and hours by stage."""
    todo = {unit.key for unit in units_to_run(planned, store, overwrite)}
    units = [unit for layer in waves_of(planned) for unit in layer]
    stored = store.has_many([unit.key for unit in units])
    stages: dict[str, StageCost] = {}
    for unit in units:
        cost = stages.setdefault(unit.stage, StageCost())
        cost.units += 1
        cost.stored += unit.key in stored
        if unit.key in todo:
            _weigh(cost, unit, rates)
    order = {name: index for index, name in enumerate(STAGES)}
    return dict(sorted(stages.items(), key=lambda item: order.get(item[0], len(order))))


def units_to_run(planned: Sequence[Unit], store: Store, overwrite: str) -> list[Unit]:
    """The units of a plan that have to run: missing targets, and missing units that they need."""
    layers = waves_of(planned)
    return [u for layer in missing_units(layers, {unit.key for unit in planned}, store, overwrite) for u in layer]


def _weigh(cost: StageCost, unit: Unit, rates: Rates) -> None:
    cost.to_run += 1
    seconds = unit.amount
    if seconds <= 0:
        return
    cost.audio_seconds += seconds
    key = (unit.stage, unit.name)
    rate = rate_of(rates.cpu, key)
    if rate is not None:
        cost.cpu_hours += rate * seconds / 3600
    else:
        cost.without_cpu_rate[unit.name] = cost.without_cpu_rate.get(unit.name, 0.0) + seconds
    if unit.stage not in GPU_STAGES:
        return
    rate = rate_of(rates.gpu, key)
    if rate is not None:
        cost.gpu_hours += rate * seconds / 3600
    else:
        cost.without_gpu_rate[unit.name] = cost.without_gpu_rate.get(unit.name, 0.0) + seconds


def rate_of(rates: Mapping[tuple[str, str], float], key: tuple[str, str]) -> float | None:
    """The rate of a unit; two channels of a system count as twice its mono fold until they have been measured.

    Args:
        rates: by (stage, name).
        key: stage and name of the unit.
    """
    if key in rates:
        return rates[key]
    mono = rates.get((key[0], key[1].removesuffix(STEREO)))
    return None if mono is None else 2 * mono


def describe(found: DryRun, workers: int = 1, given: str = "") -> str:
    """The findings for people; `given` are the options that name suite and store, as they were typed."""
    given = given or f"--suite {found.suite}"
    total, left = (sum(getattr(c, f) for c in found.stages.values()) for f in ("units", "to_run"))
    stored = sum(cost.stored for cost in found.stages.values())
    lines = [f"{stored} units are in the store, {left} would run, of {total} ({found.title or found.suite})"]
    for present, title in ((True, "present"), (False, "missing")):
        chosen = [need for need in found.needs if need.present is present]
        if chosen:
            lines += ["", f"{title}:"]
        if present:
            for kind in dict.fromkeys(need.kind for need in chosen):
                texts = [n.name + (f" ({n.text})" if n.text else "") for n in chosen if n.kind == kind]
                lines.append(f"  {kind:14} {', '.join(texts)}")
        else:
            kinds: dict[tuple[str, str], list[str]] = {}
            for need in chosen:
                kinds.setdefault((need.name, need.text), []).append(need.kind)
            lines += [f"  {', '.join(k)} {name}: {text}" for (name, text), k in kinds.items()]
    lines += ["", *_stage_lines(found, workers, given)]
    return "\n".join(lines)


def _stage_lines(found: DryRun, workers: int, given: str) -> list[str]:
    rows = [
        [
            stage,
            f"{cost.units}",
            f"{cost.stored}",
            f"{cost.to_run}",
            f"{cost.audio_seconds / 3600:.1f} h" if cost.audio_seconds else "-",
            _hours(cost.cpu_hours, cost.without_cpu_rate, cost),
            _hours(cost.gpu_hours, cost.without_gpu_rate, cost) if stage in GPU_STAGES else "on CPU",
        ]
        for stage, cost in found.stages.items()
    ]
    lines = [markdown_table(["stage", "units", "stored", "to run", "audio", "CPU hours", "GPU hours"], rows)]
    cpu = sum(cost.cpu_hours for cost in found.stages.values())
    sources = ", ".join(found.rates.sources) or "none so far"
    lines += ["", f"CPU hours are of one core, from measured rates: {sources}."]
    if cpu:
        lines.append(
            f"What has a rate takes {cpu:.2g} hours of CPU, about {duration(cpu * 3600 / workers)} on "
            f"{workers} workers. Aggregates are scaled by audio, though some of them grow faster."
        )
    unknown = {s: c.without_cpu_rate for s, c in found.stages.items() if c.without_cpu_rate}
    if unknown:
        lines.append("Without a measured rate, and so not counted:")
        for stage, names in unknown.items():
            lines.append(f"  {stage}: {', '.join(names)} ({sum(names.values()) / 3600:.1f} h of audio)")
        here = all(need.present for need in found.needs if need.kind == "data")
        lines.append(f"  a few clips measure them: m2l-bench run {given if here else '--suite synthetic'} --limit 4")
    if any(cost.without_gpu_rate for cost in found.stages.values()):
        seen = "no rate on a GPU" if not found.rates.gpu else "not every rate on a GPU"
        lines.append(
            f"GPU hours: {seen} has been measured with this store, and none is assumed; "
            f"m2l-bench run {given} --limit 64 --device cuda measures them."
        )
    return lines


def _hours(hours: float, unknown: dict[str, float], cost: StageCost) -> str:
    if not cost.to_run:
        return "-"
    if unknown:
        return f"{_digits(hours)} + {len(unknown)} unknown" if hours else "not measured"
    return _digits(hours) if cost.audio_seconds else "not measured"


def _digits(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}" if hours >= 0.01 else "< 0.01"
