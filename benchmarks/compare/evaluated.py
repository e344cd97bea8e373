"""What `benchmarks.evaluate` and `probes.evaluate` return: tables as data frames, shown by a notebook."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation.cells import Cell, Column
from benchmarks.harness.run import RunReport
from benchmarks.tables.best import best_columns
from benchmarks.tables.scores import score_rows
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import interval_text, number_text

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Evaluated:
    """A finished evaluation.

    Attributes:
        result: the table with everything behind it.
        new: rows of what was evaluated; the others are the baselines.
        run: how the run went: units computed, found and failed.
        warnings: what a reader of the numbers should know.
        kept: objects that were evaluated, so that a report can call them again.
    """

    result: TableResult
    new: list[str]
    run: RunReport
    warnings: list[str] = field(default_factory=list)
    kept: tuple[Any, ...] = ()

    @property
    def table(self) -> pandas.DataFrame:
        """One row per system, one column per metric or cost; NaN where there is no value (see `cells`)."""
        import pandas

        rows = self.result.rows
        names = pandas.Index([row.name for row in rows], name="system")
        columns = [column.key for column in self._columns]
        values = [[row.cells[key].value if key in row.cells else None for key in columns] for row in rows]
        return pandas.DataFrame(values, index=names, columns=columns).astype(float)

    @property
    def cells(self) -> pandas.DataFrame:
        """One row per system and column: value, n, median, interval, and the reason where there is no value."""
        frame = self.result.frame()
        frame = frame[frame["origin"] == "measured"].reset_index(drop=True)
        numbers = dict.fromkeys(("value", "median", "low", "high"), float)
        return (
            frame.drop(columns=["table", "suite", "origin", "source"]).rename(columns={"row": "system"}).astype(numbers)
        )

    @property
    def scores(self) -> pandas.DataFrame:
        """The scores of single clips: clip, group, system, metric, value, and a reason where there is none."""
        import pandas

        rows = score_rows(self.result.name, json.loads(self.result.to_json()))
        frame = pandas.DataFrame(rows, columns=["clip", "group", "system", "metric", "value", "reason"])
        return frame.astype({"value": float}).fillna({"reason": ""})

    @property
    def comparisons(self) -> pandas.DataFrame:
        """Differences of every two systems on the same clips, with intervals and adjusted p-values."""
        import pandas

        return pandas.DataFrame(list(self.result.comparisons))

    @property
    def _columns(self) -> list[Column]:
        cells = {column.key: self.result.column_cells(column.key).values() for column in self.result.columns}
        costs = [c for c in self.result.columns if c.higher_is_better is None]
        empty = {column.key for column in costs if all(cell.value is None for cell in cells[column.key])}
        return [column for column in self.result.columns if column.key not in empty]

    def to_markdown(self) -> str:
        """The table for people."""
        return self.result.to_markdown()

    def __repr__(self) -> str:
        return "\n".join([self.to_markdown().rstrip(), *(f"warning: {line}" for line in self.warnings)])

    def _repr_html_(self) -> str:
        """The table as a notebook shows it: the new rows and the best of each column are bold, notes are below."""
        best = {(name, key) for key, item in best_columns(self.result).items() for name in item.names}
        reasons: dict[str, int] = {}
        head = "".join(f"<th>{html.escape(column.heading)}</th>" for column in self._columns)
        body = []
        for row in self.result.rows:
            shown = [_strong(html.escape((row.title or row.name).strip("*")), row.name in self.new)]
            for column in self._columns:
                cell = row.cells.get(column.key, Cell(reason="not measured"))
                shown.append(_strong(_shown(cell, column, reasons), (row.name, column.key) in best))
            body.append("<tr>" + "".join(f"<td>{text}</td>" for text in shown) + "</tr>")
        notes = [f"[{number}] {why}" for why, number in reasons.items()]
        below = "<br>".join(html.escape(note) for note in [*notes, *self.result.notes, *self.warnings])
        return (
            f"<table><caption>{html.escape(self.result.title)}</caption><thead><tr><th></th>{head}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table><small>{below}</small>"
        )


def _shown(cell: Cell, column: Column, reasons: dict[str, int]) -> str:
    """Value and interval, or the number of the reason why there is none."""
    if cell.value is None:
        why = cell.reason or "not measured"
        return "–" if why == "-" else f"– [{reasons.setdefault(why, len(reasons) + 1)}]"
    return html.escape(number_text(cell.value, column.digits) + interval_text(cell.low, cell.high, column.digits))


def _strong(text: str, strong: bool) -> str:
    return f"<b>{text}</b>" if strong else text
