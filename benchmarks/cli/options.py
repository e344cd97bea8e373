"""Options that several commands share, and what they open."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UsageError, check_folder

if TYPE_CHECKING:
    from benchmarks.store.store import Store


def positive_shard(text: str) -> tuple[int, int]:
    """Parse `i/n`.

    Raises:
        argparse.ArgumentTypeError: not of that form, or i outside 0 ... n - 1.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N")
    return int(index), int(count)


def open_store(given: str | None) -> Store:
    """The store of `--store`, or the one in the cache.

    Raises:
        UsageError: a path that leads through a file, or a URL that nothing opens.
    """
    from benchmarks.store.store import Store

    if given and "://" not in given:
        check_folder("--store", Path(given).expanduser())
    try:
        return Store(given)
    except ValueError as error:
        raise UsageError(f"--store {given}: {error}") from None
