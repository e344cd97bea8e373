"""Where data sets are: below `M2L_DATA`, then where `m2l-bench fetch` puts them, in the cache."""

from __future__ import annotations

import csv
import os
from importlib import resources
from pathlib import Path

from benchmarks.datasets.base import DataNotFoundError
from m2l.io.cache import cache_dir
from m2l.io.digest import known_sha256


def fetched_root() -> Path:
    """Folder that `m2l-bench fetch` fills by default."""
    return cache_dir() / "data"


def data_roots(explicit: str | os.PathLike[str] | None = None) -> list[Path]:
    """Folders to search, in order: only the explicit one, or `M2L_DATA` and then the cache."""
    if explicit is not None:
        return [Path(explicit).expanduser()]
    named = os.environ.get("M2L_DATA")
    return ([Path(named).expanduser()] if named else []) + [fetched_root()]


def root_with(relative: str, explicit: Path | None = None) -> Path:
    """The explicit root, else the first that contains `relative`, else the cache."""
    roots = data_roots(explicit)
    return next((root for root in roots if (root / relative).exists()), roots[-1])


def find_roots(folder: str, what: str, explicit: str | os.PathLike[str] | None = None) -> list[Path]:
    """The roots that contain `folder`, in order.

    Args:
        folder: Path relative to a root, as in "music".
        what: Name of the data set and of its fetch target, as in "open".
        explicit: Search here only.

    Raises:
        DataNotFoundError: None of them has it; the message names the folders and the command that gets it.
    """
    roots = data_roots(explicit)
    if found := [root for root in roots if (root / folder).is_dir()]:
        return found
    looked = ", ".join(str(root / folder) for root in roots)
    raise DataNotFoundError(
        f"data set {what!r} is not on this machine (looked for {looked}). "
        f"Set M2L_DATA to a folder that has it, or run: m2l-bench fetch {what}"
    )


def find_file(roots: list[Path], relative: str, expected: str | None = None) -> Path:
    """Pick one of the places where a file may be.

    Args:
        roots: Folders to search, in order; at least one.
        relative: Path below a root.
        expected: sha256 or its beginning: a copy that matches it is preferred to an earlier one that does not.

    Returns:
        The file; if it does not exist, its place below the first root.
    """
    there = [root / relative for root in roots if (root / relative).is_file()]
    if expected is not None and len(there) > 1:
        there.sort(key=lambda path: not (content_digest(path) or "").startswith(expected))  # stable
    return there[0] if there else roots[0] / relative


def manifest(name: str) -> list[dict[str, str]]:
    """Rows of a manifest of this package, as strings."""
    text = (resources.files("benchmarks.datasets") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def content_digest(path: Path) -> str | None:
    """sha256 of a file, or None if it does not exist; cached while its size and time stay the same."""
    try:
        return known_sha256(path)
    except OSError:
        return None
