"""`m2l-bench tables` and `m2l-bench run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
from benchmarks.harness.progress import duration
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import Suite, load_suite
from benchmarks.tables.build import build_parts, wanted_parts
from benchmarks.tables.figure2 import FigureResult
from benchmarks.tables.places import ROOT, Place, place_of
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import json_text
from benchmarks.tables.write import shown_text, write_parts

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
        only: only table 1, 2 (with Figure 2) or 3, or figure2, or rate; may be repeated
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
    made, report = build_parts(wanted, chosen, store, executor, run, work.executor)
    status = _finish(made, report, verbose=work.verbose, strict=strict)
    written = write_parts(
        made, place, store, refresh=refresh, change=work.overwrite != "never", failed=bool(report.failed)
    )
    # after writing: a reader that closes the pipe early loses no file
    print(shown_text(made, written.costs, format), flush=True)
    if report.computed and not work.quiet:
        spent = sorted(report.cpu_seconds.items(), key=lambda item: -item[1])
        print("CPU time: " + ", ".join(f"{stage} {duration(took)}" for stage, took in spent), file=sys.stderr)
    if any(item.measured for item in made) and not work.quiet:
        command = command_line("report", suite=suite, store=work.store, results=results)
        print(f"to look and listen: {command}", file=sys.stderr)
    if place.in_checkout and written.names and not (refresh or work.limit or work.seconds):
        _say_reproduction(chosen, place, written.names)
    return status or FAILED if written.refused else status


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
        only: only table 1, 2 (with Figure 2) or 3, or figure2, or rate; may be repeated
        shard: only share I (from 0) of N of the work
    """
    chosen = load_suite(suite)
    wanted = wanted_parts(chosen, only)
    run, executor, store = work.open(refuse_broken=True, dry_run=dry_run, shard=shard)
    if run.dry_run:
        return _plan(chosen, suite, wanted, store, work, run, executor, ROOT, "md")
    made, report = build_parts(wanted, chosen, store, executor, run, work.executor)
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


def _finish(made: Sequence[TableResult | FigureResult], report: RunReport, *, verbose: bool, strict: bool) -> int:
    measured = not made or any(item.measured for item in made)
    status = finish(report, verbose=verbose, measured=measured)
    cells = [
        cell for table in made if isinstance(table, TableResult) for row in table.rows for cell in row.cells.values()
    ]
    unclean = any(cell.failures or (cell.value is None and cell.reason != "-") for cell in cells)
    return FAILED if strict and measured and unclean and not report.failed else status


def _say_reproduction(suite: Suite, place: Place, written: Sequence[str]) -> None:
    """In the checkout: how much of the committed results was reproduced."""
    from benchmarks.gate.record import RecordError
    from benchmarks.gate.reproduction import reproduction_lines

    try:
        lines = reproduction_lines(place.reference, place.measured, written, suite.metrics)
    except (OSError, RecordError) as error:
        lines = [f"not compared with {place.reference}: {error}"]
    print(*lines, sep="\n", file=sys.stderr)
