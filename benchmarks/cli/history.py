"""`m2l-bench history`: record a suite's results under the current commit, and draw the trend."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.errors import MISSING, OK, UsageError
from benchmarks.gate.history import (
    Entry,
    committed,
    draw,
    entry_of,
    head,
    merged,
    read_history,
    select,
    to_markdown,
    write_history,
)
from benchmarks.gate.record import TABLE, RecordError
from benchmarks.store.json_files import read_object
from benchmarks.suite import load_suite
from benchmarks.tables.places import HELP, Place, place_of
from benchmarks.tables.text import json_text, write_if_changed


def history_main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    place = place_of(options.results, load_suite(options.suite).name)
    folder = place.reference
    path = Path(options.file) if options.file else folder / "history.jsonl"
    try:
        old = read_history(path)
        entries = merged(old, _new(options, place))
        if options.backfill:
            entries = merged(entries, committed(folder, [entry.commit for entry in entries]), replace=False)
        if not entries:
            print(f"nothing in {path} and nothing to record", file=sys.stderr)
            return MISSING
        if not options.no_record or options.backfill:
            write_history(path, entries)
            print(f"written: {path}", file=sys.stderr)
        entries = entries[-options.last :]
        series = select(entries, options.metric, options.system)
    except RecordError as error:
        raise UsageError(str(error)) from None
    output = Path(options.output) if options.output else path.with_suffix(".svg")
    write_if_changed(output, draw(entries, series))
    print(f"written: {output}", file=sys.stderr)
    if options.json:
        records = [asdict(entry) for entry in entries]
        print(json_text(records), end="")
    else:
        print(to_markdown(entries, series), end="")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench history",
        description="Record the results of a suite under the current commit, print and draw the trend.",
    )
    add = parser.add_argument
    add(
        "--suite", default="synthetic", metavar="NAME|FILE", help="a shipped suite or a TOML file (synthetic)"
    )
    add("--results", metavar="DIR", help=HELP)
    add("--file", metavar="FILE", help="the record, JSON lines (RESULTS/SUITE/history.jsonl)")
    add("-o", "--output", metavar="SVG", help="the drawing (beside the record)")
    add("--no-record", action="store_true", help="only show what is recorded")
    add("--backfill", action="store_true", help="also take in the results that earlier commits hold")
    add("--commit", metavar="NAME", help="record under this name (default: HEAD)")
    add("--date", metavar="TIME", help="with --commit: its date, ISO 8601")
    add("--metric", action="append", metavar="NAME", help="show only this metric (repeatable)")
    add("--system", action="append", metavar="NAME", help="show only this system (repeatable)")
    add("--last", type=_positive, default=60, metavar="N", help="show the last N commits (60)")
    add("--json", action="store_true", help="JSON on stdout instead of Markdown")
    return parser


def _new(options: argparse.Namespace, place: Place) -> list[Entry]:
    """The entry of the current results, unless none is wanted."""
    if bool(options.commit) != bool(options.date):
        raise UsageError("--commit and --date go together")
    if options.no_record:
        return []
    path = place.newest / f"{TABLE}.json"
    if not path.is_file():
        command = ["m2l-bench", "tables", "--suite", options.suite]
        command += ["--results", options.results] if options.results else []
        raise FileNotFoundError(f"no results {path}; run {shlex.join(command)} first")
    table = read_object(path, RecordError)
    if options.commit:
        return [entry_of(table, options.commit, options.date)]
    commit, date, dirty = head(place.reference)
    return [entry_of(table, commit, date, dirty=dirty)]


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of commits, at least 1")
    return int(text)
