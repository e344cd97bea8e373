"""`m2l-bench report`: the results of a suite as one folder of HTML."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cli.options import open_store
from benchmarks.errors import OK, UsageError
from benchmarks.tables.places import HELP, place_of

if TYPE_CHECKING:
    from benchmarks.suite import Suite

#: What a report should stay below to be passed on easily, in bytes.
LARGE = 60_000_000


def main(argv: Sequence[str]) -> int:
    """Build the report of a suite and say where it is; returns the exit code."""
    options = _parser().parse_args(argv)
    # Only now: `--help` loads no template engine and no numerical library.
    from benchmarks.harness.executors import make_executor
    from benchmarks.harness.run import RunOptions
    from benchmarks.report.aggregates import AggregateError, read_aggregates
    from benchmarks.report.folder import check_target, write
    from benchmarks.report.listening import ListeningOptions, build_listening
    from benchmarks.report.site import render

    start = time.monotonic()
    suite, results = _suite_and_results(options.suite, options.results)
    commands = _commands(options)
    target = Path(options.output) if options.output else Path("report") / results.name
    try:
        check_target(target)
        found = read_aggregates(results, commands[0])
        executor = make_executor(options.executor, workers=options.workers)
        run = RunOptions(device=options.device, quiet=options.quiet)
    except (AggregateError, FileExistsError, NotADirectoryError, ValueError) as error:
        raise UsageError(str(error)) from None
    with executor:
        choice = ListeningOptions(options.clips, options.audio)
        listening = build_listening(found, suite, open_store(options.store), executor, run, choice)
    try:
        site = render(found, listening, commands, None if suite is None else suite.tables)
        write(site.files, target)
    except (AggregateError, FileExistsError, NotADirectoryError) as error:
        raise UsageError(str(error)) from None
    first = target / "index.html"
    seconds = time.monotonic() - start
    if options.json:
        record = {
            "index": str(first),
            "files": len(site.files),
            "bytes": site.n_bytes,
            "seconds": round(seconds, 2),
            "clips": len(listening.clips),
            "tracks_checked": listening.checked,
            "tracks_unequal": listening.unequal,
            "no_audio": listening.reason,
        }
        print(json.dumps(record, indent=2, sort_keys=True))
    else:
        _say(first, site.n_bytes, len(site.pages), listening, seconds)
    return OK


def _say(first: Path, n_bytes: int, n_pages: int, listening: object, seconds: float) -> None:
    from benchmarks.report.listening import Listening
    from benchmarks.report.wording import count, size

    assert isinstance(listening, Listening)
    heard = f"{count(len(listening.clips), 'clip')} to listen to" if listening.clips else "no audio"
    print(f"report: {first}")
    print(f"  {count(n_pages, 'page')}, {heard}, {size(n_bytes)}, made in {seconds:.1f} s")
    if listening.reason:
        print(f"  {listening.reason}")
    if listening.unequal:
        print(
            f"  {listening.unequal} of {listening.checked} tracks do not have the table's SI-SDR; "
            "run m2l-bench tables again",
            file=sys.stderr,
        )
    if n_bytes > LARGE:
        print(
            f"  above {size(LARGE)}: fewer clips (--clips N) or --audio mp3-small make it smaller",
            file=sys.stderr,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2l-bench report",
        description="Make one folder of HTML from a suite's results: tables, curves, and a page to listen. "
        "It opens from disk and needs no server and no network.",
    )
    add = parser.add_argument
    add("--suite", default="synthetic", metavar="NAME|FILE", help="suite, or its TOML file (synthetic)")
    add("-o", "--output", metavar="DIR", help="folder to write (report/SUITE); an older report is replaced")
    add("--results", metavar="DIR", help=HELP)
    add("--clips", type=_clips, default=12, metavar="N|all", help="clips to listen to (12)")
    add("--audio", default="mp3", choices=("mp3", "mp3-small", "ogg", "flac", "none"),
        help="audio format (mp3); mp3-small for dozens of clips")  # fmt: skip
    add("--store", metavar="DIR", help="where results of work units are kept (default: in the cache folder)")
    add("--executor", default="loky", choices=("serial", "loky", "dask", "ray"), help="who computes (loky)")
    add("--workers", type=int, metavar="N", help="local workers (default: the CPUs this process may use)")
    add("--device", default="cpu", help="device the results were measured on (cpu)")
    add("--quiet", action="store_true", help="no progress on stderr")
    add("--json", action="store_true", help="JSON on stdout")
    return parser


def _clips(text: str) -> int:
    """A number of clips; 0 stands for all.

    Raises:
        argparse.ArgumentTypeError: neither "all" nor a whole number of at least 1.
    """
    if text == "all":
        return 0
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of clips nor 'all'")
    return int(text)


def _suite_and_results(name: str, root: str | None) -> tuple[Suite | None, Path]:
    """The suite as it was named, and the folder of its results; no suite where only results have the name.

    What results say about their suite is not used: they may be somebody else's.
    """
    from benchmarks.suite import list_suites, load_suite

    folder = place_of(root, name).newest
    if "/" not in name and name not in list_suites() and folder.is_dir():
        return None, folder
    suite = load_suite(name)
    return suite, place_of(root, suite.name).newest


def _commands(options: argparse.Namespace) -> list[str]:
    same = ["--suite", options.suite]
    for name in ("results", "store"):
        same += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    report = ["m2l-bench", "report", *same]
    if options.clips != 12:
        report += ["--clips", str(options.clips or "all")]
    if options.audio != "mp3":
        report += ["--audio", options.audio]
    return [shlex.join(["m2l-bench", "tables", *same]), shlex.join(report)]
