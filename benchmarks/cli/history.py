"""`m2l-bench history`: how a suite's results changed from commit to commit."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.errors import OK, UsageError
from benchmarks.gate.history import draw, read_history, select, to_markdown
from benchmarks.gate.record import RecordError
from benchmarks.suite import load_suite
from benchmarks.tables.places import HELP, place_of
from benchmarks.tables.text import json_text, write_if_changed


def history_main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    place = place_of(options.results, load_suite(options.suite).name)
    if not place.reference.is_dir():
        raise FileNotFoundError(_nothing(options, place.reference))
    try:
        entries = read_history(place.reference, place.newest, options.last)
        if not entries:
            raise FileNotFoundError(_nothing(options, place.reference))
        series = select(entries, options.metric, options.system)
    except RecordError as error:
        raise UsageError(str(error)) from None
    output = Path(options.output) if options.output else place.reference / "history.svg"
    write_if_changed(output, draw(entries, series))
    print(f"written: {output}", file=sys.stderr)
    text = json_text([asdict(entry) for entry in entries]) if options.json else to_markdown(entries, series)
    print(text, end="")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench history",
        description="Show how a suite's results changed: one entry per commit that changed them, and what was "
        "measured since. Prints a table and draws the trend.",
    )
    add = parser.add_argument
    add(
        "--suite", default="synthetic", metavar="NAME|FILE", help="a shipped suite or a TOML file (synthetic)"
    )
    add("--results", metavar="DIR", help=HELP)
    add("-o", "--output", metavar="SVG", help="the drawing (RESULTS/SUITE/history.svg)")
    add("--metric", action="append", metavar="NAME", help="show only this metric (repeatable)")
    add("--system", action="append", metavar="NAME", help="show only this system (repeatable)")
    add("--last", type=_positive, default=60, metavar="N", help="show the last N commits (60)")
    add("--json", action="store_true", help="JSON on stdout instead of Markdown")
    return parser


def _nothing(options: argparse.Namespace, folder: Path) -> str:
    command = ["m2l-bench", "tables", "--suite", options.suite]
    command += ["--results", options.results] if options.results else []
    return f"no results in {folder}, committed or not; run {shlex.join(command)} first"


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of commits, at least 1")
    return int(text)
