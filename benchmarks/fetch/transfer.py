"""Fetching several files at once, each from the first of its mirrors that has the right one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.fetch.download import (
    Expected,
    FetchError,
    LocalError,
    NoConnectionError,
    begun_from,
    download,
    mismatch,
)
from benchmarks.fetch.sources import Item, mirrored

#: Does its part and reports (bytes so far, bytes in all or None).
Progress = Callable[[int, "int | None"], None]
Task = Callable[[Progress], Any]


def say(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr, flush=True)


def human(size: int | None) -> str:
    """Bytes in words: "75.3 MB"."""
    if size is None:
        return "size not known beforehand"
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def missing_items(items: Sequence[Item], roots: Sequence[Path]) -> list[Item]:
    """The files that are in none of the roots, or are there but not as they should be."""
    return [item for item in items if not any(is_right(root / item.path, item.expected) for root in roots)]


def is_right(path: Path, expected: Expected) -> bool:
    """Whether a file is there and is the expected one."""
    return path.is_file() and mismatch(path, expected) is None


class NotStarted(Exception):
    """A file whose turn did not come, or that was broken off because the command was interrupted."""


def transfer(name: str, items: Sequence[Item], root: Path, size: int | None, jobs: int) -> list[str]:
    """Fetch files in parallel, with one bar of progress.

    Args:
        name: Label of the bar.
        items: The files.
        root: Folder that their paths are relative to.
        size: Of all of them, in bytes; None where it is not known.
        jobs: Files at the same time.

    Returns:
        The messages of those that failed, sorted.
    """

    def task(item: Item) -> Task:
        return lambda progress: fetch_item(item, root, progress)

    return in_parallel(name, {item.path: task(item) for item in items}, size, jobs)


def in_parallel(name: str, tasks: Mapping[str, Task], size: int | None, jobs: int) -> list[str]:
    """Run tasks that transfer something, several at a time; returns the messages of those that failed.

    Without a network, or on a full disk, the tasks that have not begun are not started: they would only
    fail in the same way.
    """
    failed: list[str] = []
    stop, interrupted = threading.Event(), threading.Event()
    with tqdm(total=size, unit="B", unit_scale=True, desc=name, file=sys.stderr, disable=not tasks) as bar:

        def one(task: Task) -> None:
            if stop.is_set():
                raise NotStarted
            try:
                task(progress_of(bar, interrupted))
            except (NoConnectionError, LocalError):
                stop.set()
                raise

        with ThreadPoolExecutor(max_workers=jobs) as pool:
            futures = {pool.submit(one, task): label for label, task in tasks.items()}
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if isinstance(error, NotStarted):
                        failed.append(f"{futures[future]}: not started")
                    elif isinstance(error, OSError | ValueError):
                        failed.append(f"{futures[future]}: {error}")
                    elif error is not None:
                        raise error
            except BaseException:
                stop.set()
                interrupted.set()
                raise
    return sorted(failed)


def progress_of(bar: Any, interrupted: threading.Event) -> Progress:
    """A progress callback of one file that adds to a bar of all files, and breaks off once interrupted."""
    seen = 0
    lock = bar.get_lock()

    def update(received: int, total: int | None) -> None:
        nonlocal seen
        if interrupted.is_set():
            raise NotStarted
        with lock:
            bar.update(received - seen)
        seen = received

    return update


def fetch_item(item: Item, root: Path, progress: Progress | None = None, **options: Any) -> Path:
    """Fetch one file from the first of its addresses that has the right one.

    Args:
        item: The file.
        root: Folder that its path is relative to.
        progress, **options: As for `download`.

    Raises:
        FetchError: None has; the message is the first address's. A full disk is not tried twice.
    """
    first: FetchError | None = None
    dest = root / item.path
    begun = begun_from(dest)
    # What was begun at one mirror goes on there: without a checksum, another's copy may be another file.
    for url in sorted((mirrored(url) for url in item.urls), key=lambda url: url != begun):
        try:
            return download(url, dest, item.expected, progress=progress, **options)
        except FetchError as error:
            first = first or error
            if isinstance(error, LocalError):
                raise
    raise first if first else FetchError(f"{item.path}: no address is known")
