"""`m2l-bench fetch`: downloads data sets and weights, verified by checksum."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.cli.options import DryRun, Json, SuiteName
from benchmarks.errors import MISSING, OK, UsageError
from m2l.cli.plain import Whole

Folder = Annotated[Path | None, Parameter(metavar="DIR")]


def fetch(
    *names: str,
    suite: SuiteName | None = None,
    data: Folder = None,
    source: Annotated[Path | None, Parameter(name="--from", metavar="DIR")] = None,
    only: Annotated[tuple[str, ...], Parameter(metavar="PART")] = (),
    jobs: Whole = 4,
    overwrite: bool = False,
    dry_run: DryRun = False,
    keep_archives: bool = False,
    accept_license: bool = False,
    again: bool = False,
    yt_dlp: Annotated[str, Parameter(metavar="OPTIONS")] = "",
    soundfont: Annotated[str | None, Parameter(metavar="FILE")] = None,
    json: Json = False,
) -> int:
    """Download data sets and weights, verified by checksum; without names, list what is available.

    License, size and time are shown before anything is transferred; files that are present and correct are skipped;
    an interrupted fetch resumes when it is run again.

      m2l-bench fetch musiccaps            # a data set
      m2l-bench fetch --suite paper        # everything that a suite needs
      m2l-bench fetch all --dry-run        # the paper's data: licenses, sizes, times
      m2l-bench fetch verify tinysol       # read fetched data again

    Args:
        names: data sets and weights; all stands for the paper's data
        data: root of the data (default: the cache; data sets only)
        source: existing copy to adopt: archives or files; of weights only what has the published digest
        only: archives or clips to take, by part of their names; may be repeated
        jobs: files transferred at the same time
        overwrite: fetch even what is present
        keep_archives: keep archives after unpacking them
        accept_license: accept licenses of weights that restrict their use
        again: MusicCaps: retry clips that were gone, private or blocked
        yt_dlp: MusicCaps: further options for yt-dlp, quoted
        soundfont: SoundFont that open-notes is rendered from
    """
    from benchmarks.fetch import command
    from benchmarks.fetch.options import Options
    from benchmarks.suite import load_suite

    if suite is not None and names:
        raise UsageError(f"give --suite or names ({', '.join(names)}), not both")
    options = Options(
        data=data,
        source=source,
        only=only,
        jobs=jobs,
        overwrite=overwrite,
        dry_run=dry_run,
        keep_archives=keep_archives,
        accept_license=accept_license,
        again=again,
        yt_dlp=yt_dlp,
        soundfont=soundfont,
    )
    if suite is not None:
        results = command.fetch_suite(load_suite(suite), options)
    elif names:
        verifying = names[0] == "verify"
        results = command.verify(names[1:], options) if verifying else command.fetch(names, options)
    else:
        lines = command.listing
        print(jsons.dumps(command.available(), indent=2, sort_keys=True) if json else "\n".join(lines()))
        return OK
    if json:
        print(jsons.dumps(results, indent=2, sort_keys=True))
    else:
        print("\n".join(f"{result['name']}: {result['summary']}" for result in results))
    return MISSING if any(result["failed"] for result in results) else OK
