"""Fetching a data set that comes in archives: plan first, then each archive from download to record.

Archives are independent: each is downloaded, verified, unpacked into a staging folder, moved, recorded and deleted,
several at a time. So an interrupted fetch loses only what is in flight, and the disk needs room for the data and
for the archives in flight only. The two corpora of half a terabyte are downloaded with their publishers' own
scripts, and adopted from there.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.datasets.locations import root_with
from benchmarks.datasets.records import HIDDEN, Published, read_record, read_records, write_record
from benchmarks.fetch.archives import ArchiveError, unpack
from benchmarks.fetch.corpora.adopt import adopt, adopt_items
from benchmarks.fetch.corpora.corpus import Archive, Corpus
from benchmarks.fetch.download import Progress
from benchmarks.fetch.options import Options
from benchmarks.fetch.transfer import (
    Item,
    Task,
    fetch_item,
    human,
    in_parallel,
    mirrored,
    missing_items,
    outcome,
    remote_size,
    say,
    transfer,
)
from benchmarks.harness.progress import duration
from m2l.io.atomic import write_atomic

#: Times are given for this rate, as nobody knows the server's beforehand.
BITS_PER_SECOND = 100e6
TRAINING_LIST = "training.csv"


def folder_of(corpus: Corpus, data: Path | None) -> Path:
    """Folder of a data set: below the given root, else where something of it has been fetched, else the cache."""
    return root_with(f"{corpus.folder}/{HIDDEN}/records", data) / corpus.folder


def is_complete(corpus: Corpus, folder: Path) -> bool:
    """Whether every archive has been unpacked and recorded.

    Raises:
        OSError, ValueError: The lists that name the archives are not here yet, or are damaged.
    """
    return all(read_record(folder, archive.name) is not None for archive in corpus.archives(folder))


def headline(corpus: Corpus) -> str:
    """Title, license, size and time of a data set, in one line."""
    start = f"{corpus.title}. License: {corpus.license}."
    if corpus.transfer_bytes is None:
        return f"{start} The server states the size"
    unpacked = f", {human(corpus.unpacked_bytes)} unpacked" if corpus.unpacked_bytes else ""
    time = duration(8 * corpus.transfer_bytes / BITS_PER_SECOND)
    return f"{start} About {human(corpus.transfer_bytes)}{unpacked}; {time} at 100 Mbit/s"


def fetch_corpus(corpus: Corpus, options: Options) -> dict[str, Any]:
    """Fetch what is missing of a data set.

    Returns:
        name, dest, summary, failed (messages), fetched and present (counts of archives).
    """
    folder = folder_of(corpus, options.data)
    say(f"{corpus.name}: {headline(corpus)}.")
    say(f"  from {corpus.origin} into {folder}")
    for note in corpus.notes:
        say(f"  note: {note}")
    if options.dry_run:
        return outcome(corpus.name, folder, _dry_summary(corpus, folder, options))
    # The plain files come first: they list what the archives contain.
    items = missing_items(corpus.items, [folder])
    if options.source is not None:
        adopt_items(items, options.source, folder)
        items = missing_items(items, [folder])
    if failed := transfer(corpus.name, items, folder, None, options.jobs):
        return _finish(corpus, folder, failed, 0, 0)
    # Then whatever exists already, here or in the copy.
    try:
        published = corpus.published(folder)
        archives = [a for a in corpus.archives(folder) if _chosen(a, options.only)]
        if not archives:
            reason = f"no archive matches {' '.join(options.only)}"
            return outcome(corpus.name, folder, "nothing chosen", [reason])
        damaged = corpus.damaged(folder)
        wanted = [a for a in archives if options.overwrite or read_record(folder, a.name) is None]
        offered = adopt(wanted, published, damaged, options.source, folder, options.overwrite)
    except (OSError, ValueError) as error:
        return _finish(corpus, folder, [f"{corpus.name}: {error}"], 0, 0)
    # Then the rest.
    todo = [a for a in wanted if options.overwrite or read_record(folder, a.name) is None]
    failed = _obtain_all(corpus, todo, offered, published, folder, options) if todo else []
    if not failed:
        failed = incomplete(corpus, archives, published, folder)
    _clean(folder, [] if options.keep_archives else archives)
    bad = {message.partition(": ")[0] for message in failed}
    done = sum(read_record(folder, a.name) is not None and a.name not in bad for a in todo)
    return _finish(corpus, folder, failed, done, len(archives) - len(todo))


def _chosen(archive: Archive, only: Sequence[str]) -> bool:
    return not only or any(fnmatch.fnmatch(archive.name, f"*{part}*") for part in only)


def _obtain_all(
    corpus: Corpus,
    todo: Sequence[Archive],
    offered: Mapping[str, Path],
    published: Published,
    folder: Path,
    options: Options,
) -> list[str]:
    """Download and unpack archives in parallel; returns what failed."""
    failed = []
    if corpus.official:
        here = [a for a in todo if all(part.path in offered for part in a.parts)]
        if absent := sum(a not in here and read_record(folder, a.name) is None for a in todo):
            failed = [f"{corpus.name}: {absent} archives are missing here and in the copy"]
            for line in official_commands(corpus, folder):
                say(f"  {line}")
        todo = here
    missing = missing_items([p for a in todo for p in a.parts if p.path not in offered], [folder / HIDDEN / "archives"])
    # Is there room for it?
    size = _size_of(missing)
    copied = sum(offered[p.path].stat().st_size for a in todo for p in a.parts if p.path in offered)
    need = (size or 0) + copied
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
        return lambda progress: obtain(archive, published, folder, offered, progress, options)

    return failed + in_parallel(corpus.name, {a.name: task(a) for a in todo}, size, options.jobs)


def official_commands(corpus: Corpus, folder: Path) -> list[str]:
    """How to get a corpus that its publisher's own script downloads: lines for people."""
    copy = f"{corpus.name}-download"
    return [
        f"To get {corpus.name}, run its publisher's own script, then adopt what it fetched:",
        *(f"    {line.format(folder=copy)}" for line in corpus.official),
        f"    m2l-bench fetch {corpus.name} --from {copy} --data {folder.parent}",
    ]


def _size_of(missing: Sequence[Item]) -> int | None:
    """Bytes to download, as the servers state them; None if one does not."""

    def size(item: Item) -> int | None:
        try:
            return remote_size(mirrored(item.urls[0]))
        except (OSError, ValueError):
            return None

    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(size, missing))
    return sum(size or 0 for size in sizes) if None not in sizes else None


def obtain(
    archive: Archive,
    published: Published,
    folder: Path,
    offered: Mapping[str, Path],
    progress: Progress,
    options: Options,
) -> None:
    """Take one archive from download to record.

    Args:
        archive: What to get.
        published: What has to come out of it.
        folder: Of the data set.
        offered: Part -> verified file of an existing copy.
        progress: Told of the bytes downloaded.
        options: Whether to download parts that exist (`overwrite`), and to keep them (`keep_archives`).

    Raises:
        FetchError: Download or archive are not what they should be. Parts that are known to be damaged are
            deleted, so that the next attempt gets them anew.
    """
    store = folder / HIDDEN / "archives"
    paths, received = [], 0
    # Download what is neither offered nor here.
    for part in archive.parts:
        path = offered.get(part.path, store / part.path)
        if part.path not in offered and (options.overwrite or missing_items([part], [store])):
            before = received

            def report(got: int, total: int | None, before: int = before) -> None:
                nonlocal received
                received = before + got
                progress(received, None)

            fetch_item(part, store, report)
        paths.append(path)
    # Unpack.
    staging = folder / HIDDEN / "unpacking" / archive.name
    try:
        members = unpack(paths, folder, keep=archive.keeper(published), staging=staging)
    except ArchiveError as error:
        again = [path for path in error.damaged if path.parent == store]
        for path in again:
            path.unlink(missing_ok=True)
        hint = f"; deleted {', '.join(p.name for p in again)}, run again to get it anew" if again else ""
        raise ArchiveError(f"{error}{hint}", damaged=error.damaged) from error
    # Record, so that it counts, and clean up.
    write_record(folder, archive.name, members)
    for path in paths:
        if path.parent == store and not options.keep_archives:
            path.unlink(missing_ok=True)


def incomplete(corpus: Corpus, archives: Sequence[Archive], published: Published, folder: Path) -> list[str]:
    """Published files that are missing after unpacking, as one message per archive."""
    messages = []
    damaged = corpus.damaged(folder)
    for archive in archives:
        wanted = archive.files(published, damaged)
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
    if corpus.official and options.source is None:
        for line in official_commands(corpus, folder):
            say(f"  {line}")
    verb = "would adopt" if corpus.official else "would fetch"
    try:
        archives = [a for a in corpus.archives(folder) if _chosen(a, options.only)]
    except (OSError, ValueError):  # the lists that name the archives are not here yet
        return f"{verb} {human(corpus.transfer_bytes)}"
    missing = [a for a in archives if read_record(folder, a.name) is None]
    size = corpus.transfer_bytes and corpus.transfer_bytes * len(missing) // len(corpus.archives(folder))
    return f"{verb} {len(missing)} archives ({human(size)})" if missing else "already present"


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


def _finish(corpus: Corpus, folder: Path, failed: Sequence[str], done: int, present: int) -> dict[str, Any]:
    summary = f"{done} archives fetched, {present} already present"
    if not done and not failed:
        summary = f"already present ({present} archives)"
    if failed:
        summary += f", {len(failed)} failed (run again to resume)"
    if corpus.train and (rows := write_training_list(corpus, folder)):
        say(f"  to train on these {rows} files: m2l train --data {folder / TRAINING_LIST}=1 …")
    return outcome(corpus.name, folder, summary, failed, fetched=done, present=present)


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
