"""`m2l-bench tables` and `m2l-bench run`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.cli.options import open_store, positive_shard
from benchmarks.errors import FAILED, MISSING, OK, UsageError, check_folder
from benchmarks.evaluation.left_out import say_left_out
from benchmarks.harness.executors import EXECUTORS, make_executor
from benchmarks.harness.progress import Beat
from benchmarks.harness.run import OVERWRITE, RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import Suite, load_suite
from benchmarks.tables.build import build_part, wanted_parts
from benchmarks.tables.figure2 import FigureResult
from benchmarks.tables.places import HELP, INCOMPLETE, ROOT, Place, place_of, remove_incomplete
from benchmarks.tables.scores import write_scores
from benchmarks.tables.table import FORMATS, TableResult
from benchmarks.tables.text import json_text, markdown_table, write_if_changed


def tables_main(argv: Sequence[str]) -> int:
    """Measure what is missing, write `results/<suite>/`, and print the tables."""
    options = _parser("tables").parse_args(argv)
    return _run(options, write=True)


def run_main(argv: Sequence[str]) -> int:
    """Measure what is missing (or one shard of it) into the store."""
    options = _parser("run").parse_args(argv)
    return _run(options, write=False)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"m2l-bench {command}",
        description="Measure what the store lacks"
        + (", then write and print tables and figures." if command == "tables" else "; write no tables."),
    )
    add = parser.add_argument
    add(
        "--suite", default="synthetic", metavar="NAME|FILE", help="a shipped suite or a TOML file (synthetic)"
    )
    add("--only", action="append", metavar="N", help="only table 1, 2 (with Figure 2) or 3; may be repeated")
    add("--executor", default="loky", choices=EXECUTORS, help="who computes (loky: local processes)")
    add("--workers", type=int, metavar="N", help="local workers (default: the CPUs this process may use)")
    add("--address", metavar="URL", help="a running dask scheduler or ray cluster")
    add("--overwrite", default="missing", choices=OVERWRITE, help="what to compute again (missing)")
    add(
        "--limit",
        type=int,
        default=0,
        metavar="N",
        help="use only the first N clips (Table 1: of each part, and at least one of every class)",
    )
    add("--device", default="cpu", help="device of neural systems and embedders (cpu)")
    add(
        "--store",
        metavar="DIR|URL",
        help="where results of work units are kept: a folder or s3://… (default: in the cache folder)",
    )
    add("--dry-run", action="store_true", help="say what would run and how long, and stop")
    add("--strict", action="store_true", help="exit with 1 when a clip failed or a cell has no value")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("-v", "--verbose", action="store_true", help="show tracebacks of your own code's errors")
    if command == "tables":
        add("--results", metavar="DIR", help=HELP)
        add("--refresh", action="store_true",
            help="in m2l's own checkout: also rewrite the committed reference, results/SUITE")  # fmt: skip
        add("--format", default="md", choices=FORMATS, help="what is printed (md)")
        add("--json", dest="format", action="store_const", const="json", help="same as --format json")
    else:
        add("--shard", type=positive_shard, metavar="I/N", help="only share I (from 0) of N of the work")
    return parser


def _run(options: argparse.Namespace, *, write: bool) -> int:
    suite = load_suite(options.suite)
    wanted = wanted_parts(suite, options.only)
    if write:
        place = place_of(options.results, suite.name)
        check_folder("--results", options.results or place.measured)
        if options.refresh and not place.in_checkout:
            raise UsageError(
                f"--refresh rewrites the reference of m2l's own checkout; {place.measured} is written anyway"
            )
    try:
        run = RunOptions(
            overwrite=options.overwrite,
            limit=options.limit,
            shard=getattr(options, "shard", None),
            dry_run=options.dry_run,
            device=options.device,
            quiet=options.quiet,
            refuse_broken=True,
        )
        executor = make_executor(options.executor, workers=options.workers, address=options.address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    store = open_store(options.store)
    if run.dry_run:
        return _dry_run(suite, wanted, store, run, options, getattr(executor, "workers", 1))
    report = RunReport()
    made: list[TableResult | FigureResult] = []
    beat = Beat(
        store, suite.name, run.shard or (0, 1), {"executor": options.executor, "device": options.device}
    )
    run.monitor = beat if run.overwrite != "cache-only" else None
    with beat if run.monitor else nullcontext(), executor:
        for name in wanted:
            found = build_part(name, suite, store, executor, run, report)
            if found is not None:
                made.append(found)
    if options.verbose:
        print_details(report)
    status = _status(made, report, strict=options.strict, partial=run.shard is not None)
    if write and not _write(made, place, store, options, failed=bool(report.failed)):
        status = status or FAILED
    if not write:
        print(f"{report.computed} units computed, {report.cached} were there, {len(report.failed)} failed")
    return status


def _dry_run(
    suite: Suite,
    wanted: Sequence[str],
    store: Store,
    run: RunOptions,
    options: argparse.Namespace,
    workers: int,
) -> int:
    """Say what would run, what is missing, and how long it takes."""
    from benchmarks.status.dry_run import describe, dry_run

    found = dry_run(suite, run, wanted, store, getattr(options, "results", None) or ROOT)
    as_json = getattr(options, "format", "md") == "json"
    print(
        json.dumps(found.to_dict(), indent=2, sort_keys=True)
        if as_json
        else describe(found, workers, _given(options))
    )
    return OK


def _given(options: argparse.Namespace) -> str:
    """The options that name suite and store, for a command that is to be typed as it is printed."""
    return shlex.join(["--suite", options.suite, *(["--store", options.store] if options.store else [])])


def _status(
    made: Sequence[TableResult | FigureResult], report: RunReport, *, strict: bool, partial: bool
) -> int:
    lost = say_left_out(report)
    if report.failed:
        causes = sorted({f"{d.stage} {d.name}: {d.error}" for d in report.failed.values()})
        print(f"{len(report.failed)} units failed:", *causes, sep="\n  ", file=sys.stderr)
        return failed_status(report)
    if partial:
        return MISSING if lost else OK  # other shards hold the rest
    tables = [item for item in made if isinstance(item, TableResult)]
    cells = [cell for table in tables for row in table.rows for cell in row.cells.values()]
    if made and not any(item.measured for item in made):
        return MISSING
    if strict and any(cell.failures or (cell.value is None and cell.reason != "-") for cell in cells):
        return FAILED
    return MISSING if lost else OK


def failed_status(report: RunReport) -> int:
    """The exit code of a run with failed units: 3 where a user's code failed, else 1."""
    return MISSING if all(done.own for done in report.failed.values()) else FAILED


def print_details(report: RunReport) -> None:
    """Tracebacks of failed units, each once."""
    for text in dict.fromkeys(done.details for done in report.failed.values() if done.details):
        print(text.rstrip(), file=sys.stderr)


def _write(
    made: Sequence[TableResult | FigureResult],
    place: Place,
    store: Store,
    options: argparse.Namespace,
    *,
    failed: bool,
) -> bool:
    """Write and print; False when `--overwrite never` met a file that would change."""
    folder = place.measured
    fine, shown, written = True, [], []
    for item in made:
        if isinstance(item, FigureResult):
            text = item.to_json() if options.format == "json" else item.to_markdown()
        else:
            text = item.render(options.format)
        if isinstance(item, TableResult) or options.format in ("md", "json"):
            shown.append(text)
        if item.measured and options.overwrite == "never" and _differs(item, folder):
            print(
                f"{folder / item.name}.json would change; left as it is (--overwrite never)", file=sys.stderr
            )
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
    costs = cost_record(store, made)
    if costs["systems"]:
        for target in targets:
            write_if_changed(target / "cost.json", json_text(costs))
        if options.format == "md":
            shown.append(_cost_lines(costs))
    print("\n".join(shown), flush=True)  # after writing: a reader that closes the pipe early loses no file
    if any(item.measured for item in made) and not options.quiet:
        elsewhere = f" --results {shlex.quote(options.results)}" if options.results else ""
        command = f"m2l-bench report {_given(options)}{elsewhere}"
        print(f"to look and listen: {command}", file=sys.stderr)
    if place.in_checkout and written and not (options.refresh or options.limit):
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

    return len(
        read_values(folder / f"{item.name}.json").keys() - values_of(json.loads(item.to_json())).keys()
    )


def _differs(item: TableResult | FigureResult, folder: Path) -> bool:
    path = folder / f"{item.name}.json"
    return path.is_file() and path.read_text(encoding="utf-8") != item.to_json()


def cost_record(store: Store, made: Sequence[TableResult | FigureResult]) -> dict[str, Any]:
    """Real-time factors on this machine: CPU seconds per second of audio, one thread.

    They are times, so they live beside the tables (`cost.json`) and not in them.
    """
    rates = store.rates()
    names = [row.name for item in made if isinstance(item, TableResult) for row in item.rows]
    systems = {
        name: {
            "cpu_seconds_per_second": float(f"{rates['reconstruct', name]:.3g}"),
            "real_time_factor": float(f"{1 / rates['reconstruct', name]:.3g}"),
        }
        for name in dict.fromkeys(names)
        if rates.get(("reconstruct", name), 0) > 0
    }
    stages: dict[str, dict[str, float]] = {}
    for (stage, name), rate in sorted(rates.items()):
        if rate > 0:
            stages.setdefault(stage, {})[name] = float(f"{rate:.3g}")
    return {
        "systems": systems,
        "stages": stages,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, one thread per clip",
    }


def _cost_lines(costs: dict[str, Any]) -> str:
    rows = [
        [name, f"{values['real_time_factor']:g} x", f"{values['cpu_seconds_per_second'] * 1000:g} ms"]
        for name, values in costs["systems"].items()
    ]
    title = f"Speed of encoding and decoding on this machine ({costs['machine']}; loading included)"
    return f"{title}\n\n{markdown_table(['', 'real time', 'CPU per second of audio'], rows)}\n"
