"""`m2l-bench gate` and `history`: a suite's results against its pinned baseline, and over commits.

Exit codes of the gate: 0 nothing is worse, 1 a cell is worse (and nothing else is 1), 2 wrong usage or a damaged file,
3 something pinned is missing, or a file cannot be read or written. Worse goes before missing. The first line on stderr
of a red run says which it is. Whatever happens, JUnit and Markdown say it too.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from benchmarks.cli.options import Json, Names, Results, SuiteName, command_line
from benchmarks.errors import MISSING, OK, USAGE, UsageError, describe_os_error
from benchmarks.gate.output import Output, shown
from benchmarks.gate.policy import ALPHA, PolicyError, parse_tolerance
from benchmarks.gate.record import RecordError
from benchmarks.gate.run import Gate
from benchmarks.registry import UnknownNameError
from benchmarks.suite import SuiteError, load_suite
from benchmarks.tables.build import parts_of
from benchmarks.tables.places import Place, place_of
from benchmarks.tables.text import json_text, write_if_changed


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

    @property
    def pin_command(self) -> str:
        """The command line that pins the results of the same suite and folders."""
        return command_line("gate", suite=self.suite, results=self.results, baseline=self.baseline, update=True)


_DEFAULTS = GateOptions()


def gate(options: GateOptions = _DEFAULTS) -> int:
    """Compare the results of a suite with its pinned baseline, clip by clip; or pin them.

    Exit codes: 0 nothing is worse, 1 worse, 2 wrong usage or a damaged file, 3 something is missing.
    """
    if options.junit and Path(options.junit).is_dir():
        raise UsageError(f"--junit {options.junit}: this is a folder; give a file, as in {options.junit}/gate.xml")
    output = Output(options.suite, options.junit, options.json)
    try:
        return _gate(options, output)
    except (UsageError, RecordError, PolicyError, SuiteError, UnknownNameError) as error:
        return output.not_judged(str(error), USAGE)
    except OSError as error:
        return output.not_judged(describe_os_error(error), MISSING)
    except Exception as error:  # our fault, and yet not "worse"
        traceback.print_exc()
        return output.not_judged(f"internal error: {type(error).__name__}: {error}", MISSING)


def _gate(options: GateOptions, output: Output) -> int:
    suite = load_suite(options.suite)
    place = place_of(options.results, suite.name)
    found = Gate(
        place=place,
        baseline=_baseline_path(options.baseline, place, suite.name),
        tolerances=dict(parse_tolerance(text, suite.metrics) for text in options.tolerance),
        metrics=suite.metrics,
        measure_command=command_line("tables", suite=options.suite, results=options.results),
        pin_command=options.pin_command,
    )
    if not 0.0 < options.alpha < 0.5:
        raise UsageError(f"--alpha: alpha={options.alpha:g} must be between 0 and 0.5")
    if options.update:
        changes = found.pin(options.system)
        if changes is None:
            print(f"{place.reference}: nothing was measured; no baseline written", file=sys.stderr)
            return MISSING
        return shown(OK, changes)
    if options.system:
        raise UsageError("--system chooses what --update pins; a gate judges everything pinned")
    only = [name for _, parts in parts_of(options.only) for name in parts] if options.only else None
    return output.verdict(found.judge(alpha=options.alpha, strict=options.strict, only=only))


def _baseline_path(given: str | None, place: Place, suite: str) -> Path:
    """`--baseline`, which may be a folder of results as for `--results`."""
    if not given:
        return place.reference / "baseline.json"
    folder = Path(given).is_dir() or not (Path(given).suffix or Path(given).exists())
    return Path(given) / suite / "baseline.json" if folder else Path(given)


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
