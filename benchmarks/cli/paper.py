"""`m2l-bench paper`: the paper's Tables 1-3 and Figure 2 from nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from benchmarks.cli.options import WORK, DryRun, Json, Names, Output, Results, Work, command_line, finish
from benchmarks.errors import MISSING, OK, UsageError, check_folder
from benchmarks.harness.run import RunOptions
from benchmarks.store.store import Store
from benchmarks.suite import Suite
from benchmarks.tables.build import build_parts, wanted_parts
from benchmarks.tables.places import ROOT, place_of
from benchmarks.tables.text import json_text
from benchmarks.tables.write import shown_text, write_parts
from m2l.cli.plain import Whole

if TYPE_CHECKING:
    from benchmarks.fetch.options import Options
    from benchmarks.paper.run import Part

Folder = Annotated[Path | None, Parameter(metavar="DIR")]


def paper(
    *,
    data: Folder = None,
    accept_licenses: bool = False,
    ablation_runs: Folder = None,
    only: Names = None,
    steps: Whole = 0,
    seeds: Whole = 0,
    clips: Whole = 12,
    jobs: Whole = 4,
    yt_dlp: Annotated[str, Parameter(metavar="OPTIONS")] = "",
    no_fetch: bool = False,
    results: Results = None,
    output: Output = None,
    work: Work = WORK,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Fill the paper's Tables 1-3 and Figure 2: fetch what is missing, measure, write tables and a report.

    Names, sizes and licenses of what will be fetched come first. It can be stopped and run again at any moment: only
    what is missing is fetched and measured. What cannot be had leaves its reason in its cells.

      m2l-bench paper --dry-run                                    # what it takes: gigabytes, licenses, hours
      m2l-bench paper --data DIR --accept-licenses --device cuda
      m2l-bench paper --data DIR --limit 3 --steps 2 --seeds 1     # a rehearsal: few clips, few steps

    Args:
        data: root of the data, fetched and read (default: M2L_DATA, then the cache)
        accept_licenses: accept licenses of weights that restrict their use
        ablation_runs: checkpoints of Table 3, as m2l-bench ablation --full --runs DIR leaves them
        only: only table 1, 2 (with Figure 2) or 3, or figure2; may be repeated
        steps: at most N denoising steps in Table 2 (0: each system's own)
        seeds: trainings of each probe of Table 1 (0: the suite's five)
        clips: clips to listen to in the report
        jobs: files transferred at the same time
        yt_dlp: further options for yt-dlp, quoted
        no_fetch: measure with what is here
        output: folder of the report (default: report/paper, of a rehearsal report/paper-rehearsal)
    """
    from benchmarks.fetch.options import Options
    from benchmarks.paper.request import PaperOptions, paper_suite
    from benchmarks.paper.run import announce, beside_text, explained, fetch_missing, write_beside

    for option, value in (("--steps", steps), ("--seeds", seeds)):
        if value < 0:
            raise UsageError(f"{option} must be at least 0, not {value}")
    if clips < 1 or jobs < 1:
        raise UsageError(f"--clips and --jobs must be at least 1, not {clips} and {jobs}")
    asked = PaperOptions(ablation_runs, work.limit, work.seconds, steps, seeds)
    suite = paper_suite(asked)
    wanted = wanted_parts(suite, only)
    place = place_of(results, suite.name)
    check_folder("--results", results or place.measured)
    fetching = Options(
        data=data, jobs=jobs, accept_license=accept_licenses, limit=work.limit, yt_dlp=yt_dlp, dry_run=dry_run
    )
    with _data_root(data):
        run, executor, store = work.open(dry_run=dry_run)
        if dry_run:
            return _plan(suite, wanted, run, store, fetching, results, json=json)
        # Fetch.
        failures: dict[str, str] = {}
        if not no_fetch:
            announce(suite, fetching)
            failures = fetch_missing(suite, fetching)
        # Measure and write.
        made, report = build_parts(wanted, suite, store, executor, run, work.executor)
        parts: list[Part] = [explained(part, failures) for part in made]
        change = work.overwrite != "never"
        written = write_parts(parts, place, store, refresh=False, change=change, failed=bool(report.failed))
        if written.names:
            print("written:", *write_beside(parts, place.measured), file=sys.stderr)
        status = finish(report, verbose=work.verbose, measured=any(part.measured for part in parts))
        # Say it, and make the report.
        if "table3" in wanted and ablation_runs is None:
            print(*_table3_lines(data), sep="\n", file=sys.stderr)
        if json:
            print(shown_text(parts, written.costs, "json"), flush=True)
        else:
            print(shown_text(parts, written.costs, "md"), beside_text(parts), sep="\n", flush=True)
        if written.names:
            target = output or Path("report") / suite.name
            device = work.device if work.device != "cpu" else None
            given = {"data": data, "ablation-runs": ablation_runs, **asked.limits, "device": device, "results": results}
            _report(suite, place.measured, target, clips, work, given, json=json)
    for name, why in failures.items():
        print(f"not fetched: {name}: {why}", file=sys.stderr)
    return status or (MISSING if failures else OK)


@contextmanager
def _data_root(data: Path | None) -> Iterator[None]:
    """The root of the data for everything that runs, worker processes included."""
    before = os.environ.get("M2L_DATA")
    if data is not None:
        check_folder("--data", data)
        os.environ["M2L_DATA"] = str(data.expanduser().resolve())
    try:
        yield
    finally:
        if data is not None:
            os.environ.pop("M2L_DATA")
            os.environ.update({} if before is None else {"M2L_DATA": before})


def _plan(
    suite: Suite,
    wanted: list[str],
    run: RunOptions,
    store: Store,
    fetching: Options,
    results: str | None,
    *,
    json: bool,
) -> int:
    """Show what would be fetched, and what it takes."""
    from benchmarks.paper.estimate import hours_markdown, training_hours
    from benchmarks.paper.run import announce, estimate, listing, things_for

    stages, rates = estimate(suite, wanted, run, store, fetching, results or ROOT)
    if json:
        record = {
            "fetch": listing(things_for(suite, fetching)),
            "stages": {name: stage.record() for name, stage in stages.items()},
            "rates": rates.sources,
            "table3_training_hours": training_hours(),
        }
        print(json_text(record), end="")
        return OK
    announce(suite, fetching)
    print(hours_markdown(stages, rates))
    if "table3" in wanted:
        print(*_table3_lines(fetching.data), sep="\n")
    print(f"To fetch and measure all of it: m2l-bench paper --data {fetching.data or 'DIR'} --accept-licenses")
    return OK


def _table3_lines(data: Path | None) -> list[str]:
    """What the checkpoints of Table 3 take, and how to make them."""
    from benchmarks.paper.estimate import training_hours

    hours = " or ".join(f"{hours:.0f} hours on {name}" for name, hours in training_hours().items())
    training = f"{data or 'DIR'}/mtg-jamendo/training.csv --data {data or 'DIR'}/dns4/training.csv"
    return [
        "Table 3: nobody published its three checkpoints; m2l-bench paper --ablation-runs RUNS uses yours. The paper's",
        f"recipe, 200,000 steps each, takes about {hours} (scaled as above; --dry-run of the command measures it), on",
        "the 1.3 TB of MTG-Jamendo and DNS-4:",
        f"  m2l-bench ablation --full --runs RUNS --device cuda --data {training}",
    ]


def _report(
    suite: Suite, folder: Path, target: Path, clips: int, work: Work, given: Mapping[str, object], *, json: bool
) -> None:
    """Make the report; `given` are the options that the tables were made with, for its pages."""
    from benchmarks.cli.report import make_report

    commands = [
        command_line("paper", **given, store=work.store),
        command_line("report", suite=suite.name, results=given["results"], store=work.store),
    ]
    stdout = sys.stdout
    if json:  # its record would follow the tables'
        sys.stdout = sys.stderr
    try:
        make_report(suite, folder, commands, target, clips, "mp3", work.open())
    finally:
        sys.stdout = stdout
