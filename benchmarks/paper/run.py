"""Fetching and measuring for `m2l-bench paper`: what fails leaves its reason, and the rest goes on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets.musiccaps import CLIPS
from benchmarks.evaluation.cells import Cell, Row, tidy
from benchmarks.fetch.command import available, complete, fetch, fetchable
from benchmarks.fetch.corpora import musiccaps
from benchmarks.fetch.options import Options
from benchmarks.fetch.suite import names_for, overview
from benchmarks.fetch.transfer import say
from benchmarks.harness.run import RunOptions
from benchmarks.paper.estimate import BITS_PER_SECOND, StageHours, stage_hours
from benchmarks.status.dry_run import Rates, measured_rates, plan_suite
from benchmarks.store.store import Store
from benchmarks.suite import Suite
from benchmarks.tables.beside import beside_markdown, beside_record
from benchmarks.tables.figure2 import FigureResult
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import json_text, write_if_changed
from benchmarks.weights.find import has_weight, restriction
from benchmarks.weights.table import WEIGHTS

Part = TableResult | FigureResult
#: Name of the files that hold published and measured figures side by side.
BESIDE = "published"


@dataclass(frozen=True)
class Thing:
    """Something that the suite needs and that can be fetched.

    Attributes:
        name, kind, license: as `m2l-bench fetch` lists them.
        bytes: to transfer (None if only the server knows).
        present: whether it is here.
        restriction: how its license restricts use, of weights.
    """

    name: str
    kind: str
    license: str
    bytes: int | None
    present: bool
    restriction: str | None


def things_for(suite: Suite, options: Options) -> list[Thing]:
    """What the suite needs, in the order in which it is fetched."""
    rows = {row["name"]: row for row in _rows(options)}
    names = names_for(suite, fetchable())
    here = complete(names, options)
    found = []
    for name in names:
        row = rows[name]
        weights = name in WEIGHTS
        present = has_weight(name)[0] if weights else name in here
        limits = restriction(row["license"]) if weights else None
        found.append(Thing(name, row["kind"], row["license"], row["bytes"], present, limits))
    return found


def _rows(options: Options) -> list[dict[str, Any]]:
    """What can be fetched; of MusicCaps the clips that are asked for."""
    rows = available()
    for row in rows:
        if row["name"] == musiccaps.NAME and options.limit:
            row["bytes"] = row["bytes"] * options.limit // CLIPS
    return rows


def announce(suite: Suite, options: Options) -> None:
    """One list of what is missing, with sizes, licenses and the total, on stderr."""
    names = names_for(suite, fetchable())
    for line in overview(suite, names, _rows(options), complete(names, options)):
        say(line)


def fetch_missing(suite: Suite, options: Options) -> dict[str, str]:
    """Fetch what is missing, one after the other; returns name -> why it could not be fetched."""
    failed = {}
    for name in names_for(suite, fetchable()):
        try:
            (result,) = fetch([name], options)
            messages = result["failed"]
        except (OSError, ValueError, RuntimeError) as error:  # of one thing: the others are fetched
            messages = [str(error) or type(error).__name__]
            say(f"  failed: {messages[0]}")
        if messages:
            failed[name] = "; ".join(messages[:3])
    return failed


def explained(part: Part, failures: Mapping[str, str]) -> Part:
    """A table or figure whose empty cells also say why what they lack could not be fetched.

    Args:
        part: as measured.
        failures: name -> message, from `fetch_missing`. A cell's reason names the command that gets what it lacks.
    """
    if not failures:
        return part
    if isinstance(part, TableResult):
        return dataclasses.replace(part, rows=[_explained_row(row, failures) for row in part.rows])
    curves = {
        system: {
            metric: [{**point, "reason": _with_cause(point["reason"], failures)} for point in points]
            for metric, points in metrics.items()
        }
        for system, metrics in part.curves.items()
    }
    return dataclasses.replace(part, curves=curves)


def _explained_row(row: Row, failures: Mapping[str, str]) -> Row:
    cells: dict[str, Cell] = {
        key: dataclasses.replace(cell, reason=_with_cause(cell.reason, failures)) for key, cell in row.cells.items()
    }
    return dataclasses.replace(row, cells=cells)


def _with_cause(reason: str | None, failures: Mapping[str, str]) -> str | None:
    wanted = re.findall(r"m2l-bench fetch ([\w.-]+\w)", reason or "")
    causes = [f"fetching it failed: {tidy(failures[name])}" for name in dict.fromkeys(wanted) if name in failures]
    return ". ".join([reason, *causes]) if reason and causes else reason


def write_beside(made: Iterable[Part], folder: Path) -> list[Path]:
    """Write published and measured figures side by side, as Markdown and JSON; returns the files."""
    tables = [part for part in made if isinstance(part, TableResult)]
    if not tables:
        return []
    paths = [folder / f"{BESIDE}.md", folder / f"{BESIDE}.json"]
    write_if_changed(paths[0], beside_text(tables))
    write_if_changed(paths[1], json_text({table.name: beside_record(table) for table in tables}))
    return paths


def beside_text(made: Iterable[Part]) -> str:
    """All tables' published and measured figures, as Markdown."""
    return "\n".join(beside_markdown(part) for part in made if isinstance(part, TableResult))


def estimate(
    suite: Suite,
    wanted: Sequence[str],
    options: RunOptions,
    store: Store,
    fetching: Options,
    results: str | Path | None,
) -> tuple[dict[str, StageHours], Rates]:
    """Hours and gigabytes of what is left, fetching included, and the rates they rest on.

    Args:
        suite: from `paper_suite`.
        wanted: its tables and figures.
        options: of the run.
        store: what is there is not counted.
        fetching: as the fetch would be asked.
        results: folder with records of rates.
    """
    rates = measured_rates(store, results)
    plan = plan_suite(suite, options, wanted, store)
    stages = {"fetch": _fetch_stage(things_for(suite, fetching), fetching)}
    return stages | stage_hours(plan.planned, store, options.overwrite, rates), rates


def _fetch_stage(things: Collection[Thing], options: Options) -> StageHours:
    missing = [thing for thing in things if not thing.present]
    size = sum(thing.bytes or 0 for thing in missing)
    clips = (options.limit or CLIPS) if any(thing.name == musiccaps.NAME for thing in missing) else 0
    wait = 8 * size / BITS_PER_SECOND + clips * 3600 / musiccaps.VIDEOS_AN_HOUR
    unknown = {thing.name for thing in missing if thing.bytes is None}
    return StageHours(units=len(missing), bytes=size, wait_seconds=wait, unknown=unknown)


def listing(things: Sequence[Thing]) -> dict[str, Any]:
    """What is to be fetched, JSON-ready: every thing, the bytes that are missing, and those of unknown size."""
    missing = [thing for thing in things if not thing.present]
    return {
        "things": [vars(thing) for thing in things],
        "bytes": sum(thing.bytes or 0 for thing in missing),
        "unknown_size": [thing.name for thing in missing if thing.bytes is None],
    }
