"""What `m2l-bench fetch` offers of the paper's data: names, options, and where they lead."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.fetch.corpora.catalog import CORPORA
from benchmarks.fetch.corpora.fetcher import Options, fetch_corpus, root_for
from benchmarks.fetch.corpora.verify import verify_corpus

#: In the order of `all`: evaluation first, the two large training corpora last.
PAPER_DATA = ("musiccaps", "magnatagatune", "beatport", "tinysol", "mtg-jamendo", "dns4")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that concern the paper's data only."""
    group = parser.add_argument_group(f"the paper's data ({', '.join(PAPER_DATA)}, all)")
    group.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="adopt an existing copy: archives or files"
    )
    group.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help="only archives (or clips) whose name matches or contains PART; repeat for several",
    )
    group.add_argument("--keep-archives", action="store_true", help="leave archives there once unpacked")
    group.add_argument(
        "--again", action="store_true", help="MusicCaps: try gone, private and blocked clips again"
    )
    group.add_argument(
        "--yt-dlp", default="", metavar="OPTIONS", help="MusicCaps: further options of yt-dlp, in quotes"
    )


def expand(names: Sequence[str], *, everything: bool = False) -> list[str]:
    """Replace `all`, and with `everything` also no name, by the names of the paper's data."""
    if everything and not names:
        return list(PAPER_DATA)
    return [name for given in names for name in (PAPER_DATA if given == "all" else (given,))]


def options_of(arguments: argparse.Namespace) -> Options:
    """The fetcher's options."""
    return Options(
        dest=arguments.dest,
        source=arguments.source,
        only=tuple(arguments.only),
        jobs=arguments.jobs,
        force=arguments.force,
        dry_run=arguments.dry_run,
        keep_archives=arguments.keep_archives,
    )


def fetch_named(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fetch one of `PAPER_DATA`."""
    if name == "musiccaps":
        from benchmarks.fetch.corpora.musiccaps import ClipOptions, fetch_musiccaps

        how = ClipOptions(extra=shlex.split(arguments.yt_dlp), again=arguments.again)
        return fetch_musiccaps(options_of(arguments), how)
    return fetch_corpus(CORPORA[name], options_of(arguments))


def verify_named(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Read one of `PAPER_DATA` again."""
    if name == "musiccaps":
        from benchmarks.fetch.corpora.musiccaps import verify_musiccaps

        return verify_musiccaps(options_of(arguments))
    corpus = CORPORA[name]
    folder = root_for(corpus, arguments.dest) / corpus.folder
    return verify_corpus(corpus, folder, jobs=arguments.jobs)


def listing() -> list[dict[str, Any]]:
    """Rows for the list of what can be fetched."""
    from benchmarks.fetch.corpora.musiccaps import KEPT_BYTES

    rows = {
        corpus.name: {
            "name": corpus.name,
            "kind": "data",
            "what": corpus.title,
            "license": corpus.license,
            "bytes": corpus.transfer_bytes,
        }
        for corpus in CORPORA.values()
    }
    rows["musiccaps"] = {
        "name": "musiccaps",
        "kind": "data",
        "what": "MusicCaps: 5,521 clips of 10 s, cut out of their videos by yt-dlp (size: kept at most)",
        "license": "captions CC BY-SA 4.0; audio: its uploaders'",
        "bytes": KEPT_BYTES,
    }
    return [rows[name] for name in PAPER_DATA]
