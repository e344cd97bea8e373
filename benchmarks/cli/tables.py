"""`m2l-bench tables` and `m2l-bench run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from benchmarks.cli.options import (
    WORK,
    DryRun,
    Format,
    JsonFormat,
    Names,
    Results,
    SuiteName,
    Work,
    command_line,
    finish,
    options_text,
)
from benchmarks.errors import FAILED, OK, UsageError, check_folder
from benchmarks.harness.base import Executor
from benchmarks.harness.progress import Beat
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import Suite, load_suite
from benchmarks.tables.build import build_part, wanted_parts
from benchmarks.tables.cost import cost_markdown, cost_record
from benchmarks.tables.figure2 import FigureResult
from benchmarks.tables.places import INCOMPLETE, ROOT, Place, place_of, remove_incomplete
from benchmarks.tables.scores import write_scores
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import json_text, write_if_changed

Strict = Annotated[bool, Parameter(help="exit with 1 when a clip failed or a cell has no value")]


def _shard(kind: type, tokens: Sequence[Any]) -> tuple[int, int]:
    text = tokens[0].value
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"{text!r} is not I/N with 0 <= I < N")
    return int(index), int(count)


def tables(
    *,
    suite: SuiteName = "synthetic",
    only: Names = None,
    results: Results = None,
    work: Work = WORK,
    dry_run: DryRun = False,
    refresh: bool = False,
    strict: Strict = False,
    format: Format = "md",
    json: JsonFormat = False,
) -> int:
    """Measure what the store lacks, then write and print tables and figures.

    Args:
        only: only table 1, 2 (with Figure 2) or 3, or figure2; may be repeated
        refresh: in m2l's own checkout: also rewrite the committed reference, results/SUITE
    """
    chosen = load_suite(suite)
    wanted = wanted_parts(chosen, only)
    place = place_of(results, chosen.name)
    check_folder("--results", results or place.measured)
    if refresh and not place.in_checkout:
        raise UsageError(f"--refresh rewrites the reference of m2l's own checkout; {place.measured} is written anyway")
    format = "json" if json else format
    run, executor, store = work.open(refuse_broken=True, dry_run=dry_run)
    if run.dry_run:
        return _plan(chosen, suite, wanted, store, work, run, executor, results or ROOT, format)
    made, report = _measure(chosen, wanted, store, work, run, executor)
    status = _finish(made, report, verbose=work.verbose, strict=strict)
    target = _Target(suite, results, place, store, work, refresh, format)
    return status if _write(made, target, failed=bool(report.failed)) else status or FAILED


def run(
    *,
    suite: SuiteName = "synthetic",
    only: Names = None,
    shard: Annotated[tuple[int, int] | None, Parameter(converter=_shard, n_tokens=1, metavar="I/N")] = None,
    work: Work = WORK,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> int:
    """Measure what the store lacks; write no tables.

    Args:
        only: only table 1, 2 (with Figure 2) or 3, or figure2; may be repeated
        shard: only share I (from 0) of N of the work
    """
    chosen = load_suite(suite)
    wanted = wanted_parts(chosen, only)
    run, executor, store = work.open(refuse_broken=True, dry_run=dry_run, shard=shard)
    if run.dry_run:
        return _plan(chosen, suite, wanted, store, work, run, executor, ROOT, "md")
    made, report = _measure(chosen, wanted, store, work, run, executor)
    # the rest of a shard's tables is measured by other shards
    status = _finish(made if shard is None else [], report, verbose=work.verbose, strict=strict)
    print(f"{report.computed} units computed, {report.cached} already done, {len(report.failed)} failed")
    return status


def _plan(
    suite: Suite,
    given: str,
    wanted: Sequence[str],
    store: Store,
    work: Work,
    run: RunOptions,
    executor: Executor,
    results: str,
    format: str,
) -> int:
    """Show what would run, what is missing, and how long it takes."""
    from benchmarks.status.dry_run import describe, dry_run

    found = dry_run(suite, run, wanted, store, results)
    if format == "json":
        print(json_text(found.to_dict()), end="")
    else:
        options = options_text(suite=given, store=work.store)
        print(describe(found, getattr(executor, "workers", 1), options))
    return OK


def _measure(
    suite: Suite, wanted: Sequence[str], store: Store, work: Work, run: RunOptions, executor: Executor
) -> tuple[list[TableResult | FigureResult], RunReport]:
    """Build the tables and figures, with a record in the store of how far this job is."""
    report = RunReport()
    about = {"executor": work.executor, "device": work.device}
    beat = Beat(store, suite.name, run.shard or (0, 1), about)
    run.monitor = beat if run.overwrite != "cache-only" else None
    with beat if run.monitor else nullcontext(), executor:
        made = [build_part(name, suite, store, executor, run, report) for name in wanted]
    return [item for item in made if item is not None], report


def _finish(made: Sequence[TableResult | FigureResult], report: RunReport, *, verbose: bool, strict: bool) -> int:
    measured = not made or any(item.measured for item in made)
    status = finish(report, verbose=verbose, measured=measured)
    cells = [
        cell for table in made if isinstance(table, TableResult) for row in table.rows for cell in row.cells.values()
    ]
    unclean = any(cell.failures or (cell.value is None and cell.reason != "-") for cell in cells)
    return FAILED if strict and measured and unclean and not report.failed else status


@dataclass(frozen=True)
class _Target:
    """Where tables are written, how they are printed, and the options that say so."""

    suite: str
    results: str | None
    place: Place
    store: Store
    work: Work
    refresh: bool
    format: str


def _write(made: Sequence[TableResult | FigureResult], options: _Target, *, failed: bool) -> bool:
    """Write and print; False when `--overwrite never` met a file that would change."""
    place, store, work = options.place, options.store, options.work
    folder = place.measured
    fine, shown, written = True, [], []
    for item in made:
        if isinstance(item, FigureResult):
            text = item.to_json() if options.format == "json" else item.to_markdown()
        else:
            text = item.render(options.format)
        if isinstance(item, TableResult) or options.format in ("md", "json"):
            shown.append(text)
        if item.measured and work.overwrite == "never" and _differs(item, folder):
            print(f"{folder / item.name}.json would change; left as it is (--overwrite never)", file=sys.stderr)
            fine = False
        elif failed and (lost := _lost(item, folder)):
            paths = _written_to(item, folder, store, item.name + INCOMPLETE)
            print(
                f"{folder / item.name}.json is kept: this run failed and lacks {lost} of its cells;",
                "written beside it:",
                *(str(path) for path in paths),
                file=sys.stderr,
            )
        elif not item.measured:
            print(f"{item.name}: nothing could be measured; no file written", file=sys.stderr)
        else:
            paths = _written_to(item, folder, store, item.name)
            remove_incomplete(folder, item.name)
            if options.refresh:
                paths += _written_to(item, place.reference, store, item.name)
            print("written:", *(str(path) for path in paths), file=sys.stderr)
            written.append(item.name)
    targets = [folder, *([place.reference] if options.refresh else [])]
    if written:
        for target in targets:
            write_scores(target)
    costs = cost_record(store, [row.name for item in made if isinstance(item, TableResult) for row in item.rows])
    if costs["systems"]:
        for target in targets:
            write_if_changed(target / "cost.json", json_text(costs))
        if options.format == "md":
            shown.append(cost_markdown(costs))
    print("\n".join(shown), flush=True)  # after writing: a reader that closes the pipe early loses no file
    if any(item.measured for item in made) and not work.quiet:
        command = command_line("report", suite=options.suite, store=work.store, results=options.results)
        print(f"to look and listen: {command}", file=sys.stderr)
    if place.in_checkout and written and not (options.refresh or work.limit):
        from benchmarks.gate.record import RecordError
        from benchmarks.gate.reproduction import reproduction_lines

        try:
            lines = reproduction_lines(place.reference, folder, written, load_suite(options.suite).metrics)
        except (OSError, RecordError) as error:
            lines = [f"not compared with {place.reference}: {error}"]
        print(*lines, sep="\n", file=sys.stderr)
    return fine


def _written_to(item: TableResult | FigureResult, folder: Path, store: Store, stem: str) -> list[Path]:
    if isinstance(item, FigureResult):
        return item.write(folder, store, stem)
    return item.write(folder, stem)


def _lost(item: TableResult | FigureResult, folder: Path) -> int:
    """How many cells with a value the file in the folder has and the new one lacks."""
    from benchmarks.gate.reproduction import read_values, values_of

    return len(read_values(folder / f"{item.name}.json").keys() - values_of(loads(item.to_json())).keys())


def _differs(item: TableResult | FigureResult, folder: Path) -> bool:
    path = folder / f"{item.name}.json"
    return path.is_file() and path.read_text(encoding="utf-8") != item.to_json()
