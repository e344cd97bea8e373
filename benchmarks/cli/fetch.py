"""`m2l-bench fetch NAME …`: the only place where this package downloads anything.

Names are data sets (`benchmarks.fetch.sources`; those of the paper: `benchmarks.fetch.corpora`, all of them with
`all`), `open-notes`, which is rendered here, and the weights of `benchmarks.weights.table`. License, size and
time are shown before anything is transferred; what is already there and right is left alone; an interrupted
fetch goes on where it stopped when it is run again. `verify NAME …` reads the paper's data again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import DataNotFoundError
from benchmarks.datasets.locations import data_roots, fetched_root
from benchmarks.fetch.corpora.command import (
    PAPER_DATA,
    add_arguments,
    expand,
    fetch_named,
    listing,
    verify_named,
)
from benchmarks.fetch.download import offline
from benchmarks.fetch.sources import SOURCES, Source
from benchmarks.fetch.suite import names_for, overview
from benchmarks.fetch.transfer import human, missing_items, say, transfer
from benchmarks.fetch.weights import fetch_weights
from benchmarks.registry import UnknownNameError
from benchmarks.suite import load_suite
from benchmarks.weights.table import WEIGHTS

OK, USAGE, MISSING, INTERRUPTED = 0, 2, 3, 130
NOTES = "open-notes"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 fine, 2 usage, 3 something could not be fetched)."""
    parser = argparse.ArgumentParser(prog="m2l-bench fetch", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="what to fetch; without names, list what there is"
    )
    parser.add_argument(
        "--data",
        "--dest",
        dest="dest",
        type=Path,
        help="root of the data (default: the cache; data sets only)",
    )
    parser.add_argument(
        "--suite",
        metavar="NAME|FILE",
        help="fetch everything that a suite needs, after one list of sizes and licenses",
    )
    add_arguments(parser)
    parser.add_argument(
        "--accept-license", action="store_true", help="accept licenses of weights that restrict their use"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be transferred")
    parser.add_argument("--force", action="store_true", help="fetch even what is already there")
    parser.add_argument("--jobs", type=int, default=4, help="files at the same time (default 4)")
    parser.add_argument("--soundfont", help=f"SoundFont that {NOTES} is rendered from")
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    options = parser.parse_args(argv)
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}, expected at least 1")
    verifying = options.names[:1] == ["verify"]
    if options.suite is not None:
        if options.names:
            parser.error(f"give --suite or names ({', '.join(options.names)}), not both")
        suite = load_suite(options.suite)
        options.names = names_for(suite, {*SOURCES, *PAPER_DATA, NOTES, *WEIGHTS})
        for line in overview(suite, options.names, available()):
            say(line)
        if not options.names:
            return OK
    options.names = expand(options.names[1:] if verifying else options.names, everything=verifying)
    known = set(PAPER_DATA) if verifying else {*SOURCES, *PAPER_DATA, NOTES, *WEIGHTS}
    try:
        if not options.names:
            return _print_list(options.json)
        for name in options.names:
            if name not in known:
                raise UnknownNameError("name to fetch", name, known)
        work = verify_named if verifying else _fetch
        results = [work(name, options) for name in dict.fromkeys(options.names)]
    except UnknownNameError as error:
        print(f"m2l-bench fetch: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("m2l-bench fetch: interrupted; run it again to go on", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(results, indent=2, sort_keys=True))
    else:
        for result in results:
            print(f"{result['name']}: {result['summary']}")
    return MISSING if any(result["failed"] for result in results) else OK


def available() -> list[dict[str, Any]]:
    """Everything that can be fetched: name, kind, what it is, license, size in bytes or None."""
    rows: list[dict[str, Any]] = [
        {"name": s.name, "kind": "data", "what": s.title, "license": s.license, "bytes": s.size}
        for s in SOURCES.values()
    ]
    rows += listing()
    rows.append(
        {
            "name": NOTES,
            "kind": "rendered",
            "what": "1,743 notes, rendered from FluidR3",
            "license": "MIT",
            "bytes": 0,
        }
    )
    for weight in WEIGHTS.values():
        rows.append(
            {
                "name": weight.name,
                "kind": "weights",
                "what": weight.used_for,
                "license": weight.license,
                "bytes": sum(file.planned_size for file in weight.files),
            }
        )
    return rows


def _print_list(as_json: bool) -> int:
    rows = available()
    if as_json:
        print(json.dumps(rows, indent=2, sort_keys=True))
        return OK
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        size = "rendered here" if row["kind"] == "rendered" else human(row["bytes"])
        print(f"{row['name']:{width}}  {row['kind']:8}  {row['what']} · {row['license']} · {size}")
    return OK


def _fetch(name: str, options: argparse.Namespace) -> dict[str, Any]:
    if name in PAPER_DATA:
        return fetch_named(name, options)
    if name == NOTES:
        return _render(options)
    if name in SOURCES:
        return fetch_source(
            SOURCES[name],
            options.dest,
            force=options.force,
            jobs=options.jobs,
            dry_run=options.dry_run,
        )
    return fetch_weights(
        name, force=options.force, dry_run=options.dry_run, accept_license=options.accept_license
    )


def _result(
    name: str, dest: Path | None, summary: str, failed: Sequence[str] = (), **counts: int
) -> dict[str, Any]:
    return {
        "name": name,
        "dest": str(dest) if dest else None,
        "summary": summary,
        "failed": list(failed),
        **counts,
    }


def fetch_source(
    source: Source,
    dest: Path | None = None,
    *,
    force: bool = False,
    jobs: int = 4,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Fetch a data set: its missing files, several at a time, then whatever it needs to be unpacked.

    Args:
        source: What to fetch.
        dest: Root of the data; by default the cache. Without it, files below `M2L_DATA` count as there.
        force: Whether to fetch what is there, too.
        jobs: Files at the same time.
        dry_run: Whether to stop before the first transfer.

    Returns:
        name, dest, summary, failed (messages), fetched and present (counts).
    """
    root = dest or fetched_root()
    roots = [root] if dest else data_roots()
    items = source.items()
    if not force and source.ready is not None and any(source.ready(r) for r in roots):
        return _result(source.name, root, "already there", fetched=0, present=len(items))
    todo = list(items) if force else missing_items(items, roots)
    sizes = [item.expected.size for item in todo]
    size = sum(s for s in sizes if s) if all(s is not None for s in sizes) else None
    say(f"{source.name}: {source.title}. License: {source.license}.")
    say(f"  {len(todo)} of {len(items)} files to fetch ({human(size)}) into {root}")
    if dry_run:
        return _result(source.name, root, f"would fetch {len(todo)} files ({human(size)})", fetched=0)
    if todo and (variable := offline()):
        return _result(
            source.name, root, "not fetched", [f"downloads are switched off ({variable} is set)"], fetched=0
        )
    failed = transfer(source.name, todo, root, size, jobs)
    if not failed and source.finish is not None:
        say("  unpacking …")
        try:
            source.finish(root)
        except OSError as error:
            failed.append(str(error))
    waiting = [message for message in failed if message.endswith(": not started")]
    for message in failed:
        if message not in waiting:
            say(f"  failed: {message}")
    if waiting:
        say(f"  {len(waiting)} more files were not started")
    done = len(todo) - len(failed)
    summary = f"{done} files fetched, {len(items) - len(todo)} already there"
    if failed:
        summary += f", {len(failed)} failed (run again to go on)"
    return _result(source.name, root, summary, failed, fetched=done, present=len(items) - len(todo))


def _render(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.fetch.render_notes import render_notes

    root = options.dest or fetched_root()
    say(
        f"{NOTES}: 1,743 notes, rendered by fluidsynth from FluidR3 (not recorded). License: MIT. Into {root}"
    )
    if options.dry_run:
        return _result(NOTES, root, "would render what is missing", fetched=0)
    try:
        done, complaints = render_notes(root, options.soundfont, progress=lambda text: say(f"  {text}"))
    except (DataNotFoundError, RuntimeError, OSError) as error:
        say(f"  failed: {error}")
        return _result(NOTES, root, "not rendered", [str(error)], fetched=0)
    for text in complaints:
        say(f"  {text}")
    return _result(NOTES, root, f"{done} notes rendered, {len(complaints)} silent", complaints, fetched=done)
