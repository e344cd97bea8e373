"""Download data sets and weights, with checksums; without names, list what is available.

`all` stands for the paper's data, `verify NAME …` reads it again. License, size and time are shown before
anything is transferred; files that are present and correct are skipped; an interrupted fetch resumes when it is
run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import INTERRUPTED, MISSING, OK, USAGE, UsageError
from benchmarks.fetch.command import available, fetch, fetch_suite, listing, verify
from benchmarks.fetch.options import Options
from benchmarks.registry import UnknownNameError
from benchmarks.suite import load_suite


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 fine, 2 usage, 3 something could not be fetched)."""
    parser = argparse.ArgumentParser(prog="m2l-bench fetch", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="what to fetch; without names, list what is available")
    add("--suite", metavar="NAME", help="fetch everything that a suite needs")
    add("--data", type=Path, help="root of the data (default: the cache; data sets only)")
    add("--from", dest="source", type=Path, metavar="DIR", help="existing copy to adopt: archives or files")
    add("--only", action="append", default=[], metavar="PART", help="archives or clips to take, by name")
    add("--jobs", type=int, default=4, help="files transferred at the same time (default 4)")
    add("--overwrite", action="store_true", help="fetch even what is present")
    add("--dry-run", action="store_true", help="only report what would be transferred")
    add("--keep-archives", action="store_true", help="keep archives after unpacking them")
    add("--accept-license", action="store_true", help="accept licenses of weights that restrict their use")
    add("--again", action="store_true", help="MusicCaps: retry clips that were gone, private or blocked")
    add("--yt-dlp", default="", metavar="OPTIONS", help="MusicCaps: further options for yt-dlp, quoted")
    add("--soundfont", help="SoundFont that open-notes is rendered from")
    add("--json", action="store_true", help="JSON on stdout")
    given = vars(parser.parse_args(argv))
    names, suite, as_json = (given.pop(key) for key in ("names", "suite", "json"))
    options = Options(**{**given, "only": tuple(given["only"])})
    if suite is not None and names:
        parser.error(f"give --suite or names ({', '.join(names)}), not both")
    try:
        if suite is not None:
            results = fetch_suite(load_suite(suite), options)
        elif not names:
            print(json.dumps(available(), indent=2, sort_keys=True) if as_json else "\n".join(listing()))
            return OK
        else:
            results = verify(names[1:], options) if names[0] == "verify" else fetch(names, options)
    except (UnknownNameError, UsageError) as error:
        print(f"m2l-bench fetch: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("m2l-bench fetch: interrupted; run it again to resume", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print(json.dumps(results, indent=2, sort_keys=True))
    else:
        print("\n".join(f"{result['name']}: {result['summary']}" for result in results))
    return MISSING if any(result["failed"] for result in results) else OK
