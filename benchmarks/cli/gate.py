"""`m2l-bench gate` and `history`: a suite's results against its pinned baseline, and over commits.

Exit codes of the gate: 0 nothing is worse, 1 a cell is worse (and nothing else is 1), 2 wrong usage or a damaged file,
3 something pinned is missing, or a file cannot be read or written. Worse goes before missing. The first line on stderr
of a red run says which it is. Whatever happens, JUnit and Markdown say it too.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from benchmarks.cli.options import Json, Names, Results, SuiteName, command_line
from benchmarks.errors import MISSING as MISSING_STATUS
from benchmarks.errors import OK, USAGE, UsageError, describe_os_error, discard_output
from benchmarks.gate.judge import MISSING, WORSE, GateReport, compare
from benchmarks.gate.policy import ALPHA, PolicyError, parse_tolerance
from benchmarks.gate.record import Record, RecordError, read_baseline, write_baseline
from benchmarks.gate.render import difference_lines, junit_of_error, message, to_json, to_junit, to_markdown
from benchmarks.gate.results import read_results
from benchmarks.metrics.base import Metric
from benchmarks.registry import UnknownNameError
from benchmarks.suite import SuiteError, load_suite
from benchmarks.tables.build import parts_of
from benchmarks.tables.places import Place, place_of
from benchmarks.tables.text import json_text, write_if_changed
from m2l.io.atomic import write_atomic

WORSE_STATUS = 1


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What is judged, how, and where the verdict goes.

    Attributes:
        baseline: pinned scores, or another results folder that has them
        only: judge only table 1, 2 (with Figure 2) or 3, or figure2; may be repeated
        tolerance: largest change of the mean that passes; kept in the baseline with --update; may be repeated
        alpha: bound on the chance of any false "worse"
        strict: count every change beyond its tolerance, whatever chance says: for systems that give the same
            bits on every run
        junit: write JUnit XML to this file
        update: pin the current results, and print what that changes
        system: with --update: pin only this system; may be repeated
    """

    suite: SuiteName = "synthetic"
    results: Results = None
    baseline: Annotated[str | None, Parameter(metavar="FILE|DIR")] = None
    only: Names = None
    tolerance: Annotated[tuple[str, ...], Parameter(metavar="METRIC=VALUE")] = ()
    alpha: float = ALPHA
    strict: bool = False
    junit: Annotated[str | None, Parameter(metavar="FILE")] = None
    json: Json = False
    update: bool = False
    system: Annotated[list[str] | None, Parameter(metavar="NAME")] = None

    def command(self, *more: str) -> str:
        """The gate's command line for the same suite and folders, to be typed as it is printed."""
        words = command_line("gate", suite=self.suite, results=self.results, baseline=self.baseline)
        return " ".join([words, *more])

    @property
    def tables_command(self) -> str:
        """The command line that measures what the gate judges."""
        return command_line("tables", suite=self.suite, results=self.results)


_DEFAULTS = GateOptions()


def gate(options: GateOptions = _DEFAULTS) -> int:
    """Compare the results of a suite with its pinned baseline, clip by clip; or pin them.

    Exit codes: 0 nothing is worse, 1 worse, 2 wrong usage or a damaged file, 3 something is missing.
    """
    if options.junit and Path(options.junit).is_dir():
        raise UsageError(f"--junit {options.junit}: this is a folder; give a file, as in {options.junit}/gate.xml")
    try:
        return _gate(options)
    except (UsageError, RecordError, PolicyError, SuiteError, UnknownNameError) as error:
        return _not_judged(options, str(error), USAGE)
    except OSError as error:
        return _not_judged(options, describe_os_error(error), MISSING_STATUS)
    except Exception as error:  # our fault, and yet not "worse"
        traceback.print_exc()
        return _not_judged(options, f"internal error: {type(error).__name__}: {error}", MISSING_STATUS)


def _gate(options: GateOptions) -> int:
    loaded = load_suite(options.suite)
    suite, metrics = loaded.name, loaded.metrics
    place = place_of(options.results, suite)
    path = _baseline_path(options.baseline, place, suite)
    tolerances = dict(parse_tolerance(text, metrics) for text in options.tolerance)
    if not 0.0 < options.alpha < 0.5:
        raise UsageError(f"--alpha: alpha={options.alpha:g} must be between 0 and 0.5")
    if options.update:
        return _update(place, path, options, tolerances, metrics)
    if options.system:
        raise UsageError("--system chooses what --update pins; a gate judges everything pinned")
    if not path.is_file():
        raise FileNotFoundError(f"no baseline {path}; pin the results with: {options.command('--update')}")
    baseline = read_baseline(path)
    if place.in_checkout:
        print(f"gate: {place.newest} against {path}", file=sys.stderr)
    try:
        current = read_results(place.newest)
    except FileNotFoundError as error:
        print(f"gate: {error}; measure them with: {options.tables_command}", file=sys.stderr)
        current = Record(baseline.suite, "", 0, 0, {}, {}, {})
    try:
        report = compare(
            baseline,
            current,
            tolerances=tolerances,
            alpha=options.alpha,
            strict=options.strict,
            only=[name for _, parts in parts_of(options.only) for name in parts] if options.only else None,
            metrics=metrics,
        )
    except (PolicyError, ValueError) as error:
        raise RecordError(f"{path}: {error}") from None
    status = status_of(report)
    text = to_markdown(report)
    _say(report)
    if options.junit:
        status = _written(status, options.junit, to_junit(report))
    _append_step_summary(text)
    return _shown(status, to_json(report, status) if options.json else text)


def status_of(report: GateReport) -> int:
    """The exit code of a report; a baseline without cells gates nothing, which is missing too."""
    if report.of(WORSE):
        return WORSE_STATUS
    return MISSING_STATUS if report.of(MISSING) or not report.verdicts else OK


def _not_judged(options: GateOptions, text: str, status: int) -> int:
    """Say why there is no verdict, wherever somebody may look for one."""
    with suppress(OSError):
        print(f"m2l-bench: {text}", file=sys.stderr)
    if options.junit:
        _written(status, options.junit, junit_of_error(options.suite, text))
    markdown = f"### Gate of suite {options.suite}: red (not judged)\n\n{text}\n"
    _append_step_summary(markdown)
    record = {"suite": options.suite, "status": status, "error": text}
    return _shown(status, dumps(record, indent=2, sort_keys=True) + "\n" if options.json else markdown)


def _written(status: int, path: str, text: str) -> int:
    """Write a file; one that cannot be written is no reason to lose a verdict, but none to be green."""
    try:
        write_atomic(path, text)
        return status
    except OSError as error:
        print(f"m2l-bench: {path} is not written: {error.strerror or error}", file=sys.stderr)
        return status or MISSING_STATUS


def _shown(status: int, text: str) -> int:
    """Print a verdict; a closed pipe does not change it."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        discard_output()
        with suppress(OSError):
            print(f"m2l-bench: the verdict cannot be printed: {error.strerror or error}", file=sys.stderr)
        return status or MISSING_STATUS
    return status


def _baseline_path(given: str | None, place: Place, suite: str) -> Path:
    """`--baseline`, which may be a folder of results as for `--results`."""
    if not given:
        return place.reference / "baseline.json"
    folder = Path(given).is_dir() or not (Path(given).suffix or Path(given).exists())
    return Path(given) / suite / "baseline.json" if folder else Path(given)


def _update(
    place: Place, path: Path, options: GateOptions, tolerances: dict[str, float], metrics: dict[str, Metric]
) -> int:
    """Pin the current results; tolerances of the old baseline are kept."""
    folder = place.reference
    try:
        current = read_results(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; measure them with: {options.tables_command}") from None
    if place.in_checkout and place.newest != folder:
        print(
            f"pinned are the tables of {folder}; to take over those of {place.measured} first: "
            f"{options.tables_command} --refresh",
            file=sys.stderr,
        )
    old = read_baseline(path) if path.is_file() else None
    if old is not None:
        tolerances = {**old.tolerances, **tolerances}
    new = current.pinned(options.system, tolerances)
    values = [
        (table, metric, system, record.cells[metric][system].value)
        for table, record in new.tables.items()
        for metric, system in record.measured
    ]
    if not values:
        print(f"{folder}: nothing was measured; no baseline written", file=sys.stderr)
        return MISSING_STATUS
    try:
        before = compare(old, current, tolerances=tolerances, metrics=metrics) if old is not None else None
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from None
    text = "\n".join([f"### Baseline of suite {new.suite}", "", *difference_lines(before, values)]) + "\n"
    if before is not None:
        text += f"\nThe new numbers against the old baseline:\n\n{to_markdown(before)}"
    write_baseline(path, new)
    print(f"written: {path}", file=sys.stderr)
    return _shown(OK, text)


def _append_step_summary(text: str) -> None:
    """GitHub shows this file's Markdown on the run's page."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            print(f"GITHUB_STEP_SUMMARY is not written: {describe_os_error(error)}", file=sys.stderr)


def _say(report: GateReport) -> None:
    """What is wrong, on stderr too: in a log it stands out from the table."""
    for name in (WORSE, MISSING):
        for item in report.of(name):
            print(f"gate: {name}: {message(item)}", file=sys.stderr)
    if not report.verdicts:
        print("gate: the baseline pins nothing", file=sys.stderr)


def _last(kind: type, tokens: Sequence[Any]) -> int:
    text = tokens[0].value
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is not a number of commits, at least 1")
    return int(text)


def history(
    *,
    suite: SuiteName = "synthetic",
    results: Results = None,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"), metavar="SVG")] = None,
    metric: Annotated[list[str] | None, Parameter(metavar="NAME")] = None,
    system: Annotated[list[str] | None, Parameter(metavar="NAME")] = None,
    last: Annotated[int, Parameter(converter=_last, metavar="N")] = 60,
    json: Json = False,
) -> int:
    """Show how a suite's results changed from commit to commit.

    There is one entry per commit that changed them, and one for what was measured since. Prints a table and draws the
    trend.

    Args:
        output: the drawing (default: RESULTS/SUITE/history.svg)
        metric: show only this metric; may be repeated
        system: show only this system; may be repeated
        last: show the last N commits
    """
    from benchmarks.gate.history import draw, read_history, select, to_markdown

    place = place_of(results, load_suite(suite).name)
    folder = place.reference
    try:
        entries = read_history(folder, place.newest, last) if folder.is_dir() else []
        if not entries:
            hint = command_line("tables", suite=suite, results=results)
            raise FileNotFoundError(f"no results in {folder}, committed or not; run {hint} first")
        series = select(entries, metric, system)
    except RecordError as error:
        raise UsageError(str(error)) from None
    output = output or folder / "history.svg"
    write_if_changed(output, draw(entries, series))
    print(f"written: {output}", file=sys.stderr)
    print(json_text([asdict(entry) for entry in entries]) if json else to_markdown(entries, series), end="")
    return OK
