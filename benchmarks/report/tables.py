"""What the templates show of a table: every cell as text with its interval, marks, footnotes or absence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.evaluation.cells import Cell, Column, Row
from benchmarks.evaluation.left_out import all_exact, items_of
from benchmarks.report.marks import Answer, Comparisons, answers, marks
from benchmarks.report.wording import NOT_APPLICABLE, count, interval, show
from benchmarks.tables.table import FEW_WINDOWS, FEW_WINDOWS_LINE, TableResult, few_windows, footnotes_of

UNKNOWN = "not known"


@dataclass
class CellView:
    """A cell as shown.

    Attributes:
        kind: "value", "missing" (not measured, with the reason as a footnote) or "none" (does not apply).
        text, interval: number and interval.
        n: "n = 40" where it differs from the column's, else empty.
        sort: what the column is sorted by; None sorts last.
        notes: numbers of footnotes.
        mark: "best", "tied" or "".
        title: everything in one line, for a tooltip.
        key: the column's key.
        contest: whether the column is a metric and not a cost.
    """

    kind: str
    key: str
    text: str = ""
    interval: str = ""
    n: str = ""
    sort: float | None = None
    notes: list[int] = field(default_factory=list)
    mark: str = ""
    title: str = ""
    contest: bool = True


@dataclass
class ColumnView:
    """A column's heading: title, unit, direction in words, and the number of items behind most cells."""

    key: str
    title: str
    sub: str
    unit: str
    arrow: str
    better: str
    note: str
    n: str


@dataclass
class RowView:
    """A row: what it is called, where its page is, and a tag ("control", "untrained")."""

    name: str
    label: str
    tag: str
    note: str
    href: str
    cells: list[CellView]


@dataclass
class PublishedView:
    """Figures of one source elsewhere: headings, rows of (name, [(text, sort)])."""

    source: str
    columns: list[ColumnView]
    rows: list[tuple[str, list[tuple[str, float | None]]]]


@dataclass
class TableView:
    """A table, ready for the template."""

    id: str
    title: str
    columns: list[ColumnView]
    rows: list[RowView]
    footnotes: list[tuple[int, str]]
    everywhere: list[str]
    notes: list[str]
    published: list[PublishedView]
    answers: list[tuple[ColumnView, Answer]]
    comparisons: dict[str, Any]
    n_compared: int
    has_marks: bool
    item: str

    @property
    def unknown(self) -> bool:
        """Whether some cost is not known because its system has not run."""
        return any(cell.text == UNKNOWN for row in self.rows for cell in row.cells)

    @property
    def measured(self) -> int:
        """Rows with at least one value in a column that is a contest."""
        keys = {column.key for column in self.columns if column.better}
        return sum(any(c.kind == "value" and c.key in keys for c in row.cells) for row in self.rows)


def slug(name: str) -> str:
    """A file name for a system's page: letters, digits, dots and dashes.

    >>> slug("music2latent:table3-mini@2")
    'music2latent-table3-mini-2'
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "system"


def tag_of(row: Row) -> str:
    """What kind of row it is, where that changes how it is read: "control", "untrained", "floor" or ""."""
    source = str(row.metadata.get("source", ""))
    if source == "input" or source.startswith("input plus"):
        return "control"
    if source.startswith("random initialization") or str(row.metadata.get("weights", "")).startswith("random:"):
        return "untrained"
    return "floor" if row.name == "chance" else ""


def contests(columns: Sequence[Column]) -> list[Column]:
    """Columns that are metrics, not costs."""
    return [column for column in columns if column.higher_is_better is not None]


def table_view(table: TableResult, pages: Mapping[str, str] | None = None) -> TableView:
    """The view of a table.

    Args:
        table: the table.
        pages: row name -> address of its page.
    """
    comparisons = Comparisons(table)
    found = marks(table)
    columns = {column.key: column for column in table.columns}
    everywhere = table.common_failures()
    footnotes: dict[str, int] = {}
    usual = {column.key: items_of(table.column_cells(column.key).values()) for column in table.columns}
    item = "test item" if table.name == "table1" else "clip"
    few = [FEW_WINDOWS_LINE] if any(few_windows(cell) for row in table.rows for cell in row.cells.values()) else []
    rows = []
    for row in table.rows:
        cells = []
        for column in table.columns:
            cell = row.cells.get(column.key, Cell(reason="not measured"))
            made = cell_view(cell, column, footnotes, everywhere, usual[column.key])
            if made.kind == "none" and row.metadata.get("available") is False:
                # Nobody asked the system: it may well have latents and parameters.
                made.text, made.title = UNKNOWN, f"{column.title}: not known, {row.metadata.get('reason')}"
            made.mark = found.get((row.name, column.key), "")
            cells.append(made)
        href = (pages or {}).get(row.name, "")
        rows.append(RowView(row.name, row.title or row.name, tag_of(row), row.note, href, cells))
    return TableView(
        id=table.name,
        title=table.title,
        columns=[column_view(column, usual[column.key], item) for column in table.columns],
        rows=rows,
        footnotes=[(index, text) for text, index in footnotes.items()],
        everywhere=[f"{count(n, item)} left out of every cell: {why}" for why, n in everywhere.items()],
        notes=[*few, *table.partial_lines(), *table.notes],
        published=published_view(table),
        answers=[(column_view(columns[answer.key]), answer) for answer in answers(table)],
        comparisons=comparisons.against_all(table.columns, table.rows),
        n_compared=len(comparisons),
        has_marks=bool(found),
        item=item,
    )


def cell_view(
    cell: Cell, column: Column, footnotes: dict[str, int], everywhere: Mapping[str, int], usual_n: int
) -> CellView:
    """One cell; what it leaves out or why it is empty goes to `footnotes` (text -> number)."""
    numbers = [footnotes.setdefault(text, len(footnotes) + 1) for text in footnotes_of(cell, everywhere)]
    if cell.value is None:
        reason = cell.reason or "not measured"
        if reason == NOT_APPLICABLE:
            return CellView("none", column.key, text="does not apply", title=f"{column.title} does not apply")
        numbers.insert(0, footnotes.setdefault(reason, len(footnotes) + 1))
        return CellView("missing", column.key, text="not measured", notes=numbers, title=reason)
    bounds = "exact" if all_exact(cell) else interval(cell.low, cell.high, column.digits)
    text = show(cell.value, column.digits) + (FEW_WINDOWS if few_windows(cell) else "")
    contest = column.higher_is_better is not None
    parts = [f"{column.title}{f' ({column.unit})' if column.unit else ''}: {cell.value:.6g}"]
    if contest:
        parts += [bounds if bounds == "exact" else f"interval {bounds}"] if bounds else []
        parts += [f"median {show(cell.median, column.digits)}"] if cell.median is not None else []
        parts.append(f"n = {cell.n}")
        if "n_windows" in cell.details:
            parts.append(f"{cell.details['n_windows']} windows")
        if "n_groups" in cell.details:
            parts.append(count(cell.details["n_groups"], "group"))
        if "std" in cell.details:
            parts.append(f"standard deviation over seeds {cell.details['std']:.2g}")
    return CellView(
        "value",
        column.key,
        text=text,
        interval=bounds,
        n=f"n = {cell.n}" if contest and cell.n != usual_n else "",
        sort=cell.value,
        notes=numbers,
        title=", ".join(parts),
        contest=contest,
    )


def column_view(column: Column, usual_n: int = 0, item: str = "clip") -> ColumnView:
    """A heading; the part of a title after an underscore ("FAD_clap") is shown smaller."""
    title, _, sub = column.title.partition("_")
    contest = column.higher_is_better is not None
    return ColumnView(
        key=column.key,
        title=title,
        sub=sub,
        unit=column.unit,
        arrow={True: "↑", False: "↓", None: ""}[column.higher_is_better],
        better={True: "higher is better", False: "lower is better", None: ""}[column.higher_is_better],
        note=column.note,
        n=count(usual_n, item) if contest and usual_n else "",
    )


def published_view(table: TableResult) -> list[PublishedView]:
    """Figures that others reported, a block per source."""
    found = []
    for source, columns, own in table.published_blocks():
        rows = []
        for row in own:
            values: list[tuple[str, float | None]] = []
            for column in columns:
                value = row.values.get(column.key)
                known = value is not None and math.isfinite(value)
                values.append((show(value, column.digits), value) if known and value is not None else ("", None))
            rows.append((row.name + (f" ({row.note})" if row.note else ""), values))
        found.append(PublishedView(source, [column_view(column) for column in columns], rows))
    return found
