"""What a table leaves out: clips without a value by reason, and rows that were measured on fewer clips than others.

A row that fails on the hard clips has the better mean, so such a row is neither marked nor called the best.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TextIO

from benchmarks.evaluation.cells import Cell
from benchmarks.harness.run import RunReport

#: Reasons that one cell or line lists, at most: some messages differ from clip to clip.
_REASONS = 8
#: Beginning of the note of a clip whose output equals the original; see `benchmarks.metrics.clip_score`.
EXACT = "exact"


# What a file that cannot be read says of itself in brackets differs from file to file.
_UNREADABLE_DETAIL = re.compile(r"^(unreadable: .*) \(.*\)$")


def count_reasons(failures: Mapping[str, str]) -> dict[str, int]:
    """Reason -> number of clips, sorted by reason."""
    return dict(sorted(Counter(_UNREADABLE_DETAIL.sub(r"\1", why) for why in failures.values()).items()))


def lost(cell: Cell) -> dict[str, int]:
    """Reason -> clips that the row was given, and that have no value because of the row."""
    return dict(cell.details.get("lost", {}))


def counted(cell: Cell) -> dict[str, int]:
    """What is special about clips that do have a value -> their number (silent outputs, exact ones)."""
    return dict(cell.details.get("counted", {}))


def all_exact(cell: Cell) -> bool:
    """Whether every clip equals its original, so that the value is the ceiling and no interval says anything."""
    return cell.n > 0 and sum(n for why, n in counted(cell).items() if why.startswith(EXACT)) == cell.n


def items_of(cells: Iterable[Cell]) -> int:
    """Items that the rows of a column were given: what `n` is where nothing was left out."""
    return max((int(cell.details.get("given", cell.n)) for cell in cells), default=0)


def partial_rows(cells: Mapping[str, Cell]) -> dict[str, str]:
    """Rows of a column that were measured on fewer items than others, or than they were given, with the count.

    Args:
        cells: the column, by row.

    Returns:
        Row -> "8 of 20 clips".
    """
    measured = {name: cell for name, cell in cells.items() if cell.value is not None}
    whole = max((cell.n + sum(lost(cell).values()) for cell in measured.values()), default=0)
    return {name: f"{cell.n} of {whole} clips" for name, cell in measured.items() if cell.n < whole}


def listed(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons with counts, by name; where there are many, the most frequent ones, and the rest in one line."""
    if len(reasons) <= _REASONS:
        return sorted(reasons.items())
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = ordered[_REASONS - 1 :]
    return [*ordered[: _REASONS - 1], (f"{len(rest)} other reasons", sum(count for _, count in rest))]


def count_clips(n: int) -> str:
    """ "1 clip", "12 clips"."""
    return f"{n} clip{'' if n == 1 else 's'}"


def say_left_out(report: RunReport, stream: TextIO | None = None) -> bool:
    """Print what a run left out, with reasons (default: to stderr).

    Returns:
        Whether a row lost clips that it was given.
    """
    lines = [f"left out of every row: {count_clips(n)}: {why}" for why, n in listed(report.unusable)]
    for row, reasons in report.lost.items():
        lines += [f"left out of {row}: {count_clips(n)}: {why}" for why, n in listed(reasons)]
    if lines:
        print(*lines, sep="\n", file=stream or sys.stderr)
    return bool(report.lost)
