"""`m2l-bench report`: the results of a suite as one folder of HTML."""

from __future__ import annotations

import json as jsons
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.cli.options import MACHINE, Device, Json, Machine, Output, Results, SuiteName, command_line
from benchmarks.errors import OK, UsageError
from benchmarks.tables.places import place_of

if TYPE_CHECKING:
    from benchmarks.harness.base import Executor
    from benchmarks.harness.run import RunOptions
    from benchmarks.report.listening import Listening
    from benchmarks.store.store import Store
    from benchmarks.suite import Suite

#: What a report should stay below to be passed on easily, in bytes.
LARGE = 60_000_000


def _clips(kind: type, tokens: Sequence[Any]) -> int:
    text = tokens[0].value
    if text == "all":
        return 0
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is neither a number of clips nor 'all'")
    return int(text)


def report(
    *,
    suite: SuiteName = "synthetic",
    results: Results = None,
    output: Output = None,
    clips: Annotated[int, Parameter(converter=_clips, metavar="N|all")] = 12,
    audio: Literal["mp3", "mp3-small", "ogg", "flac", "none"] = "mp3",
    device: Device = "cpu",
    machine: Machine = MACHINE,
    json: Json = False,
) -> int:
    """Make one folder of HTML from a suite's results: tables, curves, and a page to listen.

    It opens from disk and needs no server and no network. `--device` is the device the results were measured on.

    Args:
        output: folder to write (default: report/SUITE); an older report is replaced
        clips: number of clips to listen to
        audio: audio format; mp3-small for dozens of clips
    """
    chosen, folder = _suite_and_results(suite, results)
    places = {"suite": suite, "results": results, "store": machine.store}
    more = {"clips": clips or "all" if clips != 12 else None, "audio": audio if audio != "mp3" else None}
    commands = [command_line("tables", **places), command_line("report", **places, **more)]
    opened = machine.open(device=device)
    return make_report(
        chosen, folder, commands, output or Path("report") / folder.name, clips, audio, opened, json=json
    )


def make_report(
    chosen: Suite | None,
    folder: Path,
    commands: Sequence[str],
    target: Path,
    clips: int,
    audio: str,
    opened: tuple[RunOptions, Executor, Store],
    *,
    json: bool = False,
) -> int:
    """Make and announce a report.

    Args:
        chosen: the suite that was measured; None where only results have its name.
        folder: of the results.
        commands: what makes the results and the report, for its pages.
        target: folder to write; an older report is replaced.
        clips, audio, json: as the options of `report`.
        opened: options of the run that made the results, what computes, and the store.
    """
    # Only now: `--help` loads no template engine and no numerical library.
    from benchmarks.report.aggregates import AggregateError, read_aggregates
    from benchmarks.report.folder import check_target, write
    from benchmarks.report.listening import ListeningOptions, build_listening
    from benchmarks.report.site import render

    start = time.monotonic()
    run, executor, store = opened
    try:
        check_target(target)
        found = read_aggregates(folder, commands[0])
        with executor:
            choice = ListeningOptions(clips, audio)
            listening = build_listening(found, chosen, store, executor, run, choice)
        site = render(found, listening, list(commands), chosen)
        write(site.files, target)
    except (AggregateError, FileExistsError, NotADirectoryError) as error:
        raise UsageError(str(error)) from None
    first = target / "index.html"
    seconds = time.monotonic() - start
    if json:
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
        print(jsons.dumps(record, indent=2, sort_keys=True))
    else:
        _say(first, site.n_bytes, len(site.pages), listening, seconds)
    return OK


def _say(first: Path, n_bytes: int, n_pages: int, listening: Listening, seconds: float) -> None:
    from benchmarks.fetch.transfer import human
    from benchmarks.report.wording import count

    heard = f"{count(len(listening.clips), 'clip')} to listen to" if listening.clips else "no audio"
    print(f"report: {first}")
    print(f"  {count(n_pages, 'page')}, {heard}, {human(n_bytes)}, made in {seconds:.1f} s")
    if listening.reason:
        print(f"  {listening.reason}")
    if listening.unequal:
        print(
            f"  {listening.unequal} of {listening.checked} tracks do not have the table's SI-SDR; "
            "run m2l-bench tables again",
            file=sys.stderr,
        )
    if n_bytes > LARGE:
        print(f"  above {human(LARGE)}: fewer clips (--clips N) or --audio mp3-small make it smaller", file=sys.stderr)


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
