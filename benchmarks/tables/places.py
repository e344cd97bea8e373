"""Where a suite's results lie.

In a checkout of this project the committed `results/<suite>/` is the reference. A run writes to
`results/local/<suite>/`, which git ignores, and reports how much of the reference it reproduces. Anywhere else,
and with `--results`, one folder serves as both.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite import tomllib

#: The default of `--results`.
ROOT = "results"
LOCAL = "local"
#: Between name and suffix of what a failed run writes beside a file that it does not replace.
INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class Place:
    """Folders of a suite's results.

    Attributes:
        measured: what a run writes.
        reference: what it is compared with: the pinned baseline and, in the checkout, the committed tables.
    """

    measured: Path
    reference: Path

    @property
    def in_checkout(self) -> bool:
        """Whether a run leaves the reference alone."""
        return self.measured != self.reference

    @property
    def newest(self) -> Path:
        """The folder of the last measurement; the reference if nothing has been measured beside it."""
        return self.measured if any(self.measured.glob("*.json")) else self.reference


def place_of(results: str | Path | None, suite: str) -> Place:
    """The folders of a suite.

    Args:
        results: `--results`; None if the option was not given.
        suite: the suite's name.
    """
    reference = Path(ROOT if results is None else results) / suite
    if results is None and (reference / "baseline.json").is_file() and _is_checkout(Path()):
        return Place(Path(ROOT) / LOCAL / suite, reference)
    return Place(reference, reference)


def stem_for(folder: Path, name: str, *, failed: bool) -> str:
    """The stem of the files to write; a failed run keeps the files of an earlier one, and prints that it does."""
    if failed and (folder / f"{name}.json").is_file():
        print(f"{folder / name}.json is kept: this run failed; what it has is written beside it", file=sys.stderr)
        return name + INCOMPLETE
    remove_incomplete(folder, name)
    return name


def remove_incomplete(folder: Path, name: str) -> None:
    """Remove what a failed run left, once a run has succeeded."""
    for left in folder.glob(f"{name}{INCOMPLETE}.*"):
        left.unlink()


def _is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of this project, by its pyproject.toml."""
    try:
        record = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        return bool(record["project"]["name"] == "m2l")
    except (OSError, ValueError, KeyError, TypeError):
        return False
