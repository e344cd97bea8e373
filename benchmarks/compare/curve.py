"""Quality over training: the kept checkpoints of a run on a suite, each against the last one.

Rows are the run's initial weights (step 0), its kept checkpoints, and controls; every difference from the last
checkpoint is paired by clip, with intervals that hold for all of them at once (`benchmarks.statistics.multiple`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.result import Comparison
from benchmarks.compare.systems import compare
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.store.store import Store
from benchmarks.tables.places import stem_for
from benchmarks.tables.text import json_text
from m2l.io.atomic import write_atomic
from m2l.io.torch_files import CheckpointError
from m2l.training.checkpoint import STEP_FILE, list_checkpoints, read_settings, step_of, verify_checkpoint

#: Not a coder but a floor: what keeping magnitudes and inventing phases gives.
CONTROLS = ("mel-griffinlim",)


class RunError(ValueError):
    """A folder that is no training run, or holds too few checkpoints."""


@dataclass(frozen=True)
class Points:
    """A run's checkpoints as systems.

    Attributes:
        names: system names by training step, oldest first; step 0 is the initialization.
        options: options of systems by name.
    """

    names: Mapping[int, str]
    options: Mapping[str, Mapping[str, Any]]


def points_of(run: Path) -> Points:
    """The run's initial weights and its kept checkpoints.

    Raises:
        RunError: `run` is no run, has no checkpoint, or one that is damaged.
    """
    kept = list_checkpoints(run)
    try:
        settings = read_settings(run)
        for folder in kept:
            if (folder / STEP_FILE).exists():
                verify_checkpoint(folder)
    except CheckpointError as error:
        raise RunError(str(error)) from None
    if not kept:
        raise RunError(f"{str(run)!r} holds no complete checkpoint (step-...)")
    names: dict[int, str] = {}
    options: dict[str, dict[str, Any]] = {}
    if settings.init is None:
        names[0] = "step 0=music2latent-random"
        options[names[0]] = {"preset": settings.preset, "seed": settings.seed}
    for folder in kept:
        names[step_of(folder)] = f"step {step_of(folder)}=music2latent:{folder}"
    return Points(names, options)


def measure_curve(
    planner: Planner,
    store: Store,
    executor: Executor,
    run: Path,
    *,
    metrics: Sequence[str] | None = None,
    controls: Sequence[str] = CONTROLS,
) -> Comparison:
    """Measure what is missing; the last checkpoint is the new system, all others are its baselines.

    Raises:
        RunError: see `points_of`.
        SuiteError: the suite has no [table2].
    """
    points = points_of(run)
    *earlier, last = points.names.values()
    found = compare(
        planner,
        store,
        executor,
        [last],
        baselines=[*controls, *earlier],
        metrics=metrics,
        system_options=points.options,
    )
    where = planner.suite.title or planner.suite.name
    title = f"Quality over training steps ({where}, {planner.description})"
    return dataclasses.replace(found, table=dataclasses.replace(found.table, name="curve", title=title))


def curve_records(found: Comparison) -> list[dict[str, Any]]:
    """One record per step and metric: value, interval, and the last checkpoint's difference from it."""
    last = found.new[0]
    columns = [column.key for column in found.table.columns if column.higher_is_better is not None]
    records = []
    for row in found.table.rows:
        if not row.name.startswith("step "):
            continue
        for key in columns:
            cell = row.cells[key]
            differences = {item.against: item for item in found.against.get((last, key), [])}
            other = differences.get(row.name)
            records.append(
                {
                    "step": int(row.name.removeprefix("step ")),
                    "metric": key,
                    "value": cell.value,
                    "low": cell.low,
                    "high": cell.high,
                    "n": cell.n,
                    "reason": cell.reason,
                    "last_minus_this": None if other is None or other.reason else other.difference,
                    "last_minus_this_low": None if other is None or other.reason else other.low,
                    "last_minus_this_high": None if other is None or other.reason else other.high,
                    "significant": None if other is None or other.reason else other.significant,
                }
            )
    return records


def curve_json(found: Comparison, run: Path) -> str:
    """The curve and everything behind it as JSON."""
    record = json.loads(found.to_json())
    record["run"] = run.name
    record["curve"] = curve_records(found)
    return json_text(record)


def write_curve(found: Comparison, run: Path, folder: Path) -> str:
    """Write curve.json and curve.md into a folder; returns what was written, in words."""
    stem = stem_for(folder, "curve", failed=bool(found.report.failed))
    write_atomic(folder / f"{stem}.json", curve_json(found, run))
    write_atomic(folder / f"{stem}.md", found.to_markdown())
    return f"{folder}/{stem}.json and {stem}.md"
