"""`m2l-bench gate`: compare a suite's results with its pinned baseline, or pin them.

Exit codes: 0 nothing is worse, 1 a cell is worse, 2 wrong usage (or a damaged file), 3 something pinned is
missing. Worse goes before missing. The first line on stderr of a red run says which it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cache import write_atomic
from benchmarks.cli import MISSING as MISSING_STATUS
from benchmarks.cli import OK, UsageError, results_folder
from benchmarks.gate import MISSING, WORSE, GateReport, compare
from benchmarks.gate_output import difference_lines, message, to_json, to_junit, to_markdown
from benchmarks.gate_policy import ALPHA, PolicyError, parse_tolerance
from benchmarks.gate_record import Record, RecordError, read_baseline, read_results, write_baseline
from benchmarks.suite import load_suite

WORSE_STATUS = 1


def gate_main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    folder = results_folder(options.results, load_suite(options.suite).name)
    path = Path(options.baseline) if options.baseline else folder / "baseline.json"
    try:
        tolerances = dict(parse_tolerance(text) for text in options.tolerance)
        if options.update:
            return _update(folder, path, options.system, tolerances)
        if options.system:
            raise UsageError("--system chooses what --update pins; a gate judges everything pinned")
        if not path.is_file():
            raise FileNotFoundError(f"no baseline {path}; pin the results with: m2l-bench gate --update")
        report = compare(
            read_baseline(path),
            _results(folder),
            tolerances=tolerances,
            alpha=options.alpha,
            strict=options.strict,
        )
    except (RecordError, PolicyError, ValueError) as error:
        raise UsageError(str(error)) from None
    status = status_of(report)
    if options.junit:
        write_atomic(options.junit, to_junit(report))
    text = to_markdown(report)
    _append_step_summary(text)
    _say(report)
    print(to_json(report, status) if options.json else text, end="")
    return status


def status_of(report: GateReport) -> int:
    """The exit code of a report; a baseline without cells gates nothing, which is missing too."""
    if report.of(WORSE):
        return WORSE_STATUS
    return MISSING_STATUS if report.of(MISSING) or not report.verdicts else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench gate",
        description="Compare the results of a suite with its pinned baseline, clip by clip.",
        epilog="exit codes: 0 nothing is worse, 1 worse, 2 wrong usage, 3 something pinned is missing",
    )
    add = parser.add_argument
    add(
        "--suite", default="synthetic", metavar="NAME|FILE", help="a shipped suite or a TOML file (synthetic)"
    )
    add("--results", default="results", metavar="DIR", help="folder of result files (results)")
    add("--baseline", metavar="FILE", help="pinned scores (RESULTS/SUITE/baseline.json)")
    add(
        "--tolerance",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="change of the mean that is let through; kept in the baseline with --update (repeatable)",
    )
    add("--alpha", type=float, default=ALPHA, help=f"bound on the chance of any false 'worse' ({ALPHA:g})")
    add(
        "--strict",
        action="store_true",
        help="count every change beyond its tolerance, whatever chance says: for systems that give the same "
        "bits on every run",
    )
    add("--junit", metavar="FILE", help="write JUnit XML")
    add("--json", action="store_true", help="JSON on stdout instead of Markdown")
    add("--update", action="store_true", help="pin the current results, and print what that changes")
    add("--system", action="append", metavar="NAME", help="with --update: pin only this system (repeatable)")
    return parser


def _results(folder: Path) -> Record:
    try:
        return read_results(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no results in {folder} ({error.filename}); run m2l-bench tables") from None


def _update(folder: Path, path: Path, systems: Sequence[str] | None, tolerances: dict[str, float]) -> int:
    """Pin the current results; tolerances of the old baseline are kept."""
    current = _results(folder)
    old = read_baseline(path) if path.is_file() else None
    if old is not None:
        tolerances = {**old.tolerances, **tolerances}
    new = current.pinned(systems, tolerances)
    if not new.measured:
        print(f"{folder}: nothing was measured; no baseline written", file=sys.stderr)
        return MISSING_STATUS
    before = compare(old, current, tolerances=tolerances) if old is not None else None
    values = [(metric, system, new.cells[metric][system].value) for metric, system in new.measured]
    print("\n".join([f"### Baseline of suite {new.suite}", "", *difference_lines(before, values)]))
    if before is not None:
        print(f"\nThe new numbers against the old baseline:\n\n{to_markdown(before)}", end="")
    write_baseline(path, new)
    print(f"written: {path}", file=sys.stderr)
    return OK


def _append_step_summary(text: str) -> None:
    """GitHub shows this file's Markdown on the run's page."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(text + "\n")


def _say(report: GateReport) -> None:
    """What is wrong, on stderr too: in a log it stands out from the table."""
    for name in (WORSE, MISSING):
        for item in report.of(name):
            print(f"gate: {name}: {message(item)}", file=sys.stderr)
    if not report.verdicts:
        print("gate: the baseline pins nothing", file=sys.stderr)
