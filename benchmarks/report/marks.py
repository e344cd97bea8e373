"""Which differences count: the best of a column, what cannot be told from it, and every row against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.evaluation.cells import Column, Row
from benchmarks.tables.best import best_columns, column_of
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import number_text

#: `mark` of a cell.
BEST, TIED = "best", "tied"


@dataclass(frozen=True)
class Difference:
    """a - b on the items both have, with its interval; in the unit of the column."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    significant: bool

    @property
    def reversed(self) -> Difference:
        """b - a."""
        low, high = self.low, self.high
        return Difference(
            None if self.value is None else -self.value,
            None if high is None else -high,
            None if low is None else -low,
            self.n,
            self.significant,
        )


class Comparisons:
    """The paired comparisons of a table, by column key and two row names.

    Table 1 compares on a task's first metric only and in fractions; its cells are percent.
    """

    def __init__(self, table: TableResult) -> None:
        self._found: dict[tuple[str, str, str], Difference] = {}
        partial = table.partial()
        for record in table.comparisons:
            if "significant" not in record:
                continue  # measured on different clips: no comparison
            key, scale = column_of(record), 100.0 if "task" in record else 1.0
            if (record["a"], key) in partial or (record["b"], key) in partial:
                continue
            value, low, high = (_scaled(record.get(name), scale) for name in ("difference", "low", "high"))
            found = Difference(value, low, high, int(record["n"]), bool(record["significant"]))
            self._found[key, record["a"], record["b"]] = found
            self._found[key, record["b"], record["a"]] = found.reversed

    def get(self, key: str, a: str, b: str) -> Difference | None:
        """a against b in a column; None when they were not compared."""
        return self._found.get((key, a, b))

    @property
    def columns(self) -> set[str]:
        """Keys of the columns with any comparison."""
        return {key for key, _, _ in self._found}

    def __len__(self) -> int:
        return len(self._found) // 2

    def against_all(self, columns: Sequence[Column], rows: Sequence[Row]) -> dict[str, Any]:
        """`{reference row: {row: {column key: [verdict, text parts]}}}` for the page's own script.

        A verdict is +1 (better than the reference), -1 (worse) or 0 (no clear difference).
        """
        made: dict[str, Any] = {}
        for column in columns:
            if column.higher_is_better is None:
                continue
            for a in rows:
                for b in rows:
                    found = self.get(column.key, a.name, b.name)
                    if found is None:
                        continue
                    made.setdefault(b.name, {}).setdefault(a.name, {})[column.key] = verdict(found, column)
        return made


def verdict(found: Difference, column: Column) -> int:
    """+1 if a is better than b, -1 if worse, 0 if their interval holds 0."""
    if not found.significant or found.value is None:
        return 0
    return 1 if (found.value > 0) == bool(column.higher_is_better) else -1


def marks(table: TableResult) -> dict[tuple[str, str], str]:
    """(row, column key) -> BEST, or TIED for what is not distinguishable from the best."""
    found: dict[tuple[str, str], str] = {}
    for key, best in best_columns(table).items():
        found |= {(name, key): TIED for name in best.level_with} | {(name, key): BEST for name in best.names}
    return found


@dataclass(frozen=True)
class Answer:
    """Who is best in a column, and whether that is significant.

    Attributes:
        key: of the column.
        names: titles of the best rows; several only when exactly equal.
        value: as the table shows it.
        level_with: titles of the rows that are not distinguishable from the best.
        tested: whether the rows of the column were compared.
    """

    key: str
    names: list[str]
    value: str
    level_with: list[str]
    tested: bool


def answers(table: TableResult) -> list[Answer]:
    """An answer for each column that has a best, in the order of the columns."""
    titles = {row.name: row.title or row.name for row in table.rows}
    compared, best = Comparisons(table).columns, best_columns(table)
    return [
        Answer(
            column.key,
            [titles[name] for name in best[column.key].names],
            number_text(best[column.key].value, column.digits, figures=5).replace("-", "−"),
            [titles[name] for name in best[column.key].level_with],
            column.key in compared,
        )
        for column in table.columns
        if column.key in best
    ]


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
