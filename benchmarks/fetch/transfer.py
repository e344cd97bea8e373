"""Fetching several files at once, each from the first of its mirrors that has the right one."""

from __future__ import annotations

import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from benchmarks.fetch.download import (
    AGENT,
    FetchError,
    LocalError,
    NoConnectionError,
    Progress,
    begun_from,
    download,
    offline,
)
from benchmarks.fetch.expected import Expected, is_right

#: End of the message of a task that was not started.
NOT_STARTED = ": not started"
#: Transfers something and reports its progress.
Task = Callable[[Progress], Any]
#: Host of the model hub, whose mirrors have a variable of their own.
HUB_HOST = "huggingface.co"
_SHOWN = 20


@dataclass(frozen=True)
class Item:
    """One file.

    Attributes:
        path: Destination, relative to the root of the data.
        urls: Addresses, in the order in which they are tried.
        expected: Size and digest.
    """

    path: str
    urls: tuple[str, ...]
    expected: Expected


def say(message: str) -> None:
    """Print a line for people to stderr."""
    print(message, file=sys.stderr, flush=True)


def human(size: int | None) -> str:
    """Bytes in words: "75.3 MB"."""
    if size is None:
        return "size not known beforehand"
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def outcome(name: str, dest: Path | None, summary: str, failed: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """What became of one name, for people (failures, to stderr) and for machines (the returned row)."""
    shown = [message for message in failed if not message.endswith(NOT_STARTED)]
    for message in shown[:_SHOWN]:
        say(f"  failed: {message}")
    if len(shown) > _SHOWN:
        say(f"  … and {len(shown) - _SHOWN} more (--json lists all)")
    if len(failed) > len(shown):
        say(f"  {len(failed) - len(shown)} more were not started")
    row = {"name": name, "dest": str(dest) if dest else None, "summary": summary, "failed": list(failed)}
    return row | {"fetched": 0, "present": 0} | more


def mirrored(url: str) -> str:
    """Where an address is fetched from: at its mirror, if one is set for its host, else as it is.

    `M2L_FETCH_MIRROR` holds words divided by spaces. `HOST=BASE` gives one host's files as BASE/PATH; a word without
    `=` takes all other hosts, as BASE/HOST/PATH. `HF_ENDPOINT` is the model hub's, as for its own library.

    Raises:
        FetchError: A word is no http(s) address.
    """
    parts = urlsplit(url)
    mirrors = {HUB_HOST: endpoint} if (endpoint := os.environ.get("HF_ENDPOINT")) else {}
    for word in os.environ.get("M2L_FETCH_MIRROR", "").split():
        found = re.fullmatch(r"(?:([\w.:-]+)=)?(https?://.+)", word)
        if found is None:
            raise FetchError(f"M2L_FETCH_MIRROR: {word!r} is neither an http(s) address nor HOST=ADDRESS")
        mirrors[found[1] or ""] = found[2]
    base = mirrors.get(parts.netloc) or (f"{mirrors[''].rstrip('/')}/{parts.netloc}" if "" in mirrors else "")
    if not base:
        return url
    query = f"?{parts.query}" if parts.query else ""
    return f"{base.rstrip('/')}{parts.path}{query}"


def remote_size(url: str, timeout: float = 10.0) -> int | None:
    """Size in bytes that the server states; None if it states none, or offline.

    Raises:
        NoConnectionError: The host cannot be reached.
        OSError: The server refuses.
    """
    if offline():
        return None
    request = urllib.request.Request(url, method="HEAD", headers=AGENT)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            length = response.headers.get("Content-Length")
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise NoConnectionError(f"{url}: {error.reason}; is there a network?") from error
    return int(length) if length and length.isdigit() else None


def missing_items(items: Sequence[Item], roots: Sequence[Path]) -> list[Item]:
    """The files that are in none of the roots, or not as expected."""
    return [item for item in items if not any(is_right(root / item.path, item.expected) for root in roots)]


class Hopeless(LocalError):
    """An error that also ends the tasks in flight."""


class NotStarted(Exception):
    """A task whose turn did not come, or that was broken off."""


def transfer(name: str, items: Sequence[Item], root: Path, size: int | None, jobs: int) -> list[str]:
    """Fetch files in parallel, with one progress bar.

    Args:
        name: Label of the bar.
        items: The files.
        root: Folder that their paths are relative to.
        size: Of all of them, in bytes; None if unknown.
        jobs: Files at the same time.

    Returns:
        The messages of those that failed, sorted.
    """

    def task(item: Item) -> Task:
        return lambda progress: fetch_item(item, root, progress)

    return in_parallel(name, {item.path: task(item) for item in items}, size, jobs)


def in_parallel(name: str, tasks: Mapping[str, Task], size: int | None, jobs: int, unit: str = "B") -> list[str]:
    """Run tasks that transfer something, several at a time; returns the messages of those that failed.

    Without a network, or on a full disk, the remaining tasks are not started: they would fail alike.
    """
    failed: list[str] = []
    stop, interrupted, lock = threading.Event(), threading.Event(), threading.Lock()
    scale = unit == "B"
    with tqdm(total=size, unit=unit, unit_scale=scale, desc=name, file=sys.stderr, disable=not tasks) as bar:
        # One task, which adds its bytes to the bar and stops the others where they would fail alike.
        def one(task: Task) -> None:
            seen = 0

            def progress(received: int, total: int | None) -> None:
                nonlocal seen
                if interrupted.is_set():
                    raise NotStarted
                with lock:
                    bar.update(received - seen)
                seen = received

            if stop.is_set():
                raise NotStarted
            try:
                task(progress)
            except (NoConnectionError, LocalError) as error:
                stop.set()
                if isinstance(error, Hopeless):
                    interrupted.set()
                raise

        # Collect what became of them; an unexpected error breaks all others off.
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            futures = {pool.submit(one, task): label for label, task in tasks.items()}
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if isinstance(error, NotStarted):
                        failed.append(f"{futures[future]}{NOT_STARTED}")
                    elif isinstance(error, OSError | ValueError):
                        failed.append(f"{futures[future]}: {error}")
                    elif error is not None:
                        raise error
            except BaseException:
                stop.set()
                interrupted.set()
                raise
    return sorted(failed)


def fetch_item(item: Item, root: Path, progress: Progress | None = None) -> Path:
    """Fetch one file from the first of its addresses that has the right one.

    Args:
        item: The file.
        root: Folder that its path is relative to.
        progress: Told of what arrives.

    Raises:
        FetchError: None has it; the message has what each said. A local problem is raised at once.
        NoConnectionError: None answered.
    """
    failed: list[FetchError] = []
    dest = root / item.path
    begun = begun_from(dest)
    # An unfinished download resumes at its own mirror: without a checksum, another's copy may be another file.
    for url in sorted((mirrored(url) for url in item.urls), key=lambda url: url != begun):
        try:
            return download(url, dest, item.expected, progress=progress)
        except LocalError:
            raise
        except FetchError as error:
            failed.append(error)
    # One host that is away does not mean that there is no network: its message stands beside those of the others.
    answered = [error for error in failed if not isinstance(error, NoConnectionError)]
    kind = type((answered or failed or [FetchError()])[0])
    raise kind("; ".join(map(str, failed if answered else failed[:1])) or f"{item.path}: no address is known")
