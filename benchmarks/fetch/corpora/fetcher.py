"""Fetching a data set that comes in archives: plan first, then each archive from download to record.

Archives are independent: each is downloaded, checked, unpacked beside its place, moved there, recorded and
deleted, several at a time. So an interrupted fetch loses nothing but what is in flight, and the disk needs
room for the data and for the archives in flight only.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import shutil
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets.locations import data_roots, fetched_root
from benchmarks.datasets.records import HIDDEN, Published, read_record, read_records, write_record
from benchmarks.fetch.archives import ArchiveError, unpack
from benchmarks.fetch.corpora.adopt import adopt
from benchmarks.fetch.corpora.corpus import Archive, Corpus
from benchmarks.fetch.download import offline
from benchmarks.fetch.sources import Item, mirrored
from benchmarks.fetch.transfer import (
    Progress,
    Task,
    fetch_item,
    human,
    in_parallel,
    missing_items,
    say,
    transfer,
)
from benchmarks.store.store import write_atomic

#: Times are given for this, as nobody knows the server's rate beforehand.
BITS_PER_SECOND = 100e6
TRAINING_LIST = "training.csv"


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        dest: Root of the data; None: where it is already, else the cache.
        source: Existing copy to adopt.
        only: Archives to take, by pattern or part of their name; empty takes all.
        jobs: Archives at the same time.
        force: Fetch archives again that are there.
        dry_run: Say what would be done.
        keep_archives: Do not delete archives after unpacking.
    """

    dest: Path | None = None
    source: Path | None = None
    only: tuple[str, ...] = ()
    jobs: int = 4
    force: bool = False
    dry_run: bool = False
    keep_archives: bool = False


def root_for(corpus: Corpus, dest: Path | None) -> Path:
    """Root of the data: the one given, else the first that has something of the data set, else the cache."""
    if dest is not None:
        return dest
    there = [root for root in data_roots() if (root / corpus.folder / HIDDEN / "records").is_dir()]
    return there[0] if there else fetched_root()


def duration(seconds: float) -> str:
    """Seconds in words: "3.4 h"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(1, round(seconds))} s"


def headline(corpus: Corpus) -> str:
    """Title, license, size and time of a data set, in one line."""
    if corpus.transfer_bytes is None:
        return f"{corpus.title}. License: {corpus.license}. Size: asked of the server"
    unpacked = f", {human(corpus.unpacked_bytes)} unpacked" if corpus.unpacked_bytes else ""
    hours = duration(8 * corpus.transfer_bytes / BITS_PER_SECOND)
    return (
        f"{corpus.title}. License: {corpus.license}. About {human(corpus.transfer_bytes)}{unpacked}; "
        f"{hours} at 100 Mbit/s"
    )


def fetch_corpus(corpus: Corpus, options: Options) -> dict[str, Any]:
    """Fetch what is missing of a data set.

    Returns:
        name, dest, summary, failed (messages), fetched and present (counts of archives).
    """
    root = root_for(corpus, options.dest)
    folder = root / corpus.folder
    say(f"{corpus.name}: {headline(corpus)}.")
    say(f"  from {corpus.origin} into {folder}")
    for note in corpus.notes:
        say(f"  note: {note}")
    if options.dry_run:
        return _result(corpus, folder, _dry_summary(corpus, folder, options))
    items = missing_items(corpus.items, [folder])
    if options.source is not None:
        adopt_items(items, options.source, folder)
        items = missing_items(items, [folder])
    if items and (variable := offline()):
        return _result(corpus, folder, "not fetched", [f"downloads are switched off ({variable} is set)"])
    if failed := transfer(corpus.name, items, folder, None, options.jobs):
        return _finish(corpus, folder, failed, 0, 0)
    try:
        published = corpus.published(folder)
        archives = [a for a in corpus.archives(folder, published) if _chosen(a, options.only)]
        if not archives:
            return _result(corpus, folder, "nothing chosen", [f"no archive matches {' '.join(options.only)}"])
        offered = {} if options.force else adopt(corpus, archives, published, options.source, folder, say)
    except (OSError, ValueError) as error:
        return _finish(corpus, folder, [f"{corpus.name}: {error}"], 0, 0)
    todo = [a for a in archives if options.force or read_record(folder, a.name) is None]
    failed = _obtain_all(corpus, todo, offered, folder, options) if todo else []
    if not failed:
        failed = incomplete(corpus, archives, published, folder)
    _clean(folder, [] if options.keep_archives else archives)
    return _finish(corpus, folder, failed, len(todo), len(archives) - len(todo))


def _chosen(archive: Archive, only: Sequence[str]) -> bool:
    return not only or any(fnmatch.fnmatch(archive.name, f"*{part}*") for part in only)


def _obtain_all(
    corpus: Corpus, todo: Sequence[Archive], offered: dict[str, Path], folder: Path, options: Options
) -> list[str]:
    """Download and unpack archives in parallel; returns what failed."""
    parts = [p for a in todo for p in a.parts if p.path not in offered]
    missing = missing_items(parts, [folder / HIDDEN / "archives"])
    if missing and (variable := offline()):
        return [f"{corpus.name}: downloads are switched off ({variable} is set)"]
    size = _size_of(todo, missing)
    unpacked = sum(a.unpacked_bytes or 0 for a in todo) or None
    need = max(size or 0, unpacked or 0)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    time = f", {duration(8 * size / BITS_PER_SECOND)} at 100 Mbit/s" if size else ""
    say(f"  {len(todo)} archives to get ({human(size)}{time}), {human(free)} free")
    if need > free:
        return [
            f"{corpus.name}: needs about {human(need)}, {human(free)} are free at {folder} "
            "(--data takes it elsewhere, --only a part of it)"
        ]

    def task(archive: Archive) -> Task:
        return lambda progress: obtain(
            archive, folder, offered, progress, fresh=options.force, keep=options.keep_archives
        )

    return in_parallel(corpus.name, {a.name: task(a) for a in todo}, size, options.jobs)


def _size_of(todo: Sequence[Archive], missing: Sequence[Item]) -> int | None:
    """Bytes to download: as published, else as the server says; None where neither does."""
    if all(archive.transfer_bytes is not None for archive in todo):
        whole = sum(archive.transfer_bytes or 0 for archive in todo)
        parts = sum(len(archive.parts) for archive in todo)
        return whole * len(missing) // max(parts, 1)
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(remote_size, missing))
    return sum(size or 0 for size in sizes) if None not in sizes else None


def remote_size(item: Item, timeout: float = 10.0) -> int | None:
    """Size of a file as its first mirror states it, or None."""
    request = urllib.request.Request(
        mirrored(item.urls[0]), method="HEAD", headers={"User-Agent": "m2l-bench"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            length = response.headers.get("Content-Length")
    except (OSError, ValueError):
        return None
    return int(length) if length and length.isdigit() else None


def obtain(
    archive: Archive,
    folder: Path,
    offered: dict[str, Path],
    progress: Progress,
    *,
    fresh: bool = False,
    keep: bool = False,
) -> None:
    """One archive, from download to record.

    Args:
        archive: What to get.
        folder: Of the data set.
        offered: File name -> existing copies of parts that have been checked.
        progress: Told of the bytes downloaded.
        fresh: Whether to download parts that are there.
        keep: Whether to leave the parts there.

    Raises:
        FetchError: Download or archive are not what they should be. Parts that are known to be damaged are
            deleted, so that the next attempt gets them anew.
    """
    store = folder / HIDDEN / "archives"
    paths, received = [], 0
    for part in archive.parts:
        path = offered.get(part.path, store / part.path)
        if part.path not in offered and (fresh or missing_items([part], [store])):
            before = received

            def report(got: int, total: int | None, before: int = before) -> None:
                nonlocal received
                received = before + got
                progress(received, None)

            fetch_item(part, store, report)
        paths.append(path)
    try:
        members = unpack(
            paths, folder, keep=archive.keep, staging=folder / HIDDEN / "unpacking" / archive.name
        )
    except ArchiveError as error:
        again = [path for path in error.damaged if path.parent == store]
        for path in again:
            path.unlink(missing_ok=True)
        hint = f"; deleted {', '.join(p.name for p in again)}, run again to get it anew" if again else ""
        raise ArchiveError(f"{error}{hint}", damaged=error.damaged) from error
    write_record(folder, archive.name, members)
    if not keep:
        for path in paths:
            if path.parent == store:
                path.unlink(missing_ok=True)


def incomplete(corpus: Corpus, archives: Sequence[Archive], published: Published, folder: Path) -> list[str]:
    """What is published and not there after unpacking, one message per archive."""
    messages = []
    damaged = corpus.damaged(folder)
    for archive in archives:
        wanted = [path for path in published if archive.holds(path) and path not in damaged]
        absent = [path for path in wanted if not (folder / path).is_file()]
        if absent:
            messages.append(
                f"{archive.name}: {len(absent)} of {len(wanted)} published files were not in it, "
                f"the first is {absent[0]}"
            )
    if published and corpus.count not in (None, len(published)):
        messages.append(f"{corpus.name}: {len(published)} files are listed, published are {corpus.count}")
    return messages


def _dry_summary(corpus: Corpus, folder: Path, options: Options) -> str:
    try:
        archives = [
            a
            for a in corpus.archives(folder, corpus.published(folder))
            if _chosen(a, options.only) and read_record(folder, a.name) is None
        ]
    except (OSError, ValueError):  # the lists that name the archives are not there yet
        return f"would fetch {human(corpus.transfer_bytes)}"
    sizes = [a.transfer_bytes for a in archives]
    size = sum(s or 0 for s in sizes) if None not in sizes else corpus.transfer_bytes
    return f"would fetch {len(archives)} archives ({human(size)})" if archives else "already there"


def _clean(folder: Path, archives: Sequence[Archive]) -> None:
    """Remove what is left of finished archives (of a run that was killed, too), and empty working folders."""
    for archive in archives:
        if read_record(folder, archive.name) is not None:
            for part in archive.parts:
                (folder / HIDDEN / "archives" / part.path).unlink(missing_ok=True)
    for name in ("archives", "unpacking"):
        path = folder / HIDDEN / name
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _finish(corpus: Corpus, folder: Path, failed: Sequence[str], tried: int, present: int) -> dict[str, Any]:
    waiting = [message for message in failed if message.endswith(": not started")]
    for message in failed:
        if message not in waiting:
            say(f"  failed: {message}")
    if waiting:
        say(f"  {len(waiting)} more were not started")
    if not tried and not failed:
        summary = f"already there ({present} archives)"
    else:
        done = max(0, tried - len(failed))
        summary = f"{done} archives fetched, {present} already there"
        if failed:
            summary += f", {len(failed)} failed (run again to go on)"
    result = _result(corpus, folder, summary, failed)
    if corpus.train and (rows := write_training_list(corpus, folder)):
        say(f"  to train on these {rows} files: m2l train --data {folder / TRAINING_LIST}=1 …")
    return result | {"fetched": max(0, tried - len(failed)), "present": present}


def write_training_list(corpus: Corpus, folder: Path) -> int:
    """Write the manifest that `m2l train --data` reads: the audio of complete archives, and nothing else.

    Returns:
        The number of files.
    """
    below = f"{corpus.train}/"
    paths = sorted(path for path in read_records(folder) if path.startswith(below))
    if paths:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([["path"], *([path] for path in paths)])
        write_atomic(folder / TRAINING_LIST, text.getvalue())
    return len(paths)


def _result(corpus: Corpus, folder: Path, summary: str, failed: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "dest": str(folder),
        "summary": summary,
        "failed": list(failed),
        "fetched": 0,
        "present": 0,
    }


def adopt_items(items: Sequence[Item], source: Path, folder: Path) -> None:
    """Take plain files from an existing copy, wherever in it they are, if they are the expected ones."""
    from benchmarks.fetch.corpora.adopt import link_or_copy, walk

    by_name: dict[str, list[Path]] = {}
    for path in walk(source):
        by_name.setdefault(path.name, []).append(path)
    for item in items:
        target = folder / item.path
        for path in by_name.get(target.name, ()):
            if not missing_items([Item(path.name, (), item.expected)], [path.parent]):
                link_or_copy(path, target)
                break
