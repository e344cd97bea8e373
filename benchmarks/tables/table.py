"""Tables as data: columns, rows, cells with interval and reason; written as JSON, CSV, Markdown, LaTeX.

A table is a pure function of aggregates and of the processor that it names: the same numbers give the same
bytes, whatever executor or order made them. Times and dates are therefore not part of a table.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evaluation.left_out import (
    all_exact,
    count_clips,
    counted,
    items_of,
    listed,
    lost,
    partial_rows,
)
from benchmarks.registry import Registry
from benchmarks.store.store import write_atomic
from benchmarks.tables.latex import latex_text

#: Table name -> builder `build(suite, store, executor, options) -> TableResult`, imported when asked for.
TABLES = Registry("table", entry_point_group="m2l.tables")
TABLES.register("table1", "probes.table1:build")
TABLES.register("table2", "benchmarks.tables.table2:build")
TABLES.register("table3", "benchmarks.tables.table3:build")

#: What `--only N` stands for.
PARTS = {"1": ("table1",), "2": ("table2", "figure2"), "3": ("table3",)}
FORMATS = ("md", "csv", "json", "latex")


@dataclass(frozen=True)
class Column:
    """A column of measured values.

    Attributes:
        key: name in JSON and CSV.
        title: heading; may hold Markdown.
        higher_is_better: None for columns that are no contest (parameters, rates).
        digits: decimals shown in Markdown and LaTeX; JSON and CSV keep full precision.
        unit: shown after the title.
        note: one line below the table that says what exactly is measured.
    """

    key: str
    title: str
    higher_is_better: bool | None = None
    digits: int = 2
    unit: str = ""
    note: str = ""

    @property
    def heading(self) -> str:
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return f"{self.title}{f' ({self.unit})' if self.unit else ''}{arrow}"


@dataclass(frozen=True)
class Cell:
    """One measured value, or the reason why there is none.

    Attributes:
        value: mean (or corpus value); None when not measured.
        n: items behind the value.
        median, low, high: median, and the 95 % interval, where there is one.
        failures: reason -> number of items that could not be measured.
        reason: why there is no value.
        details: anything else worth keeping in the JSON.
    """

    value: float | None = None
    n: int = 0
    median: float | None = None
    low: float | None = None
    high: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One system (or representation): its cells by column key, and free facts about it."""

    name: str
    cells: Mapping[str, Cell]
    title: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class PublishedRow:
    """A row of figures that somebody else reported; never mixed with measured ones."""

    name: str
    values: Mapping[str, float]
    source: str
    note: str = ""


@dataclass(frozen=True)
class TableResult:
    """A table, ready to be written.

    Attributes:
        name: "table1", "table2", ...; the file name.
        title: one line.
        suite: name of the suite.
        columns: in order of appearance.
        rows: in order of appearance.
        published: figures from elsewhere, under their own heading.
        published_columns: columns of the published block; default the measured ones.
        notes: lines below the table.
        comparisons: pairwise comparisons on the same items (JSON only, and counted in the notes).
        scores: metric -> row -> item -> score, for those who test differences themselves (JSON only).
        draws: metric -> row -> bootstrap draws of a corpus distance, for the same (a file of their own).
        provenance: versions, digests, seeds. Nothing that changes between two runs of the same work.
    """

    name: str
    title: str
    suite: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    published: Sequence[PublishedRow] = ()
    published_columns: Sequence[Column] | None = None
    notes: Sequence[str] = ()
    comparisons: Sequence[Mapping[str, Any]] = ()
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    draws: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether any cell of a column that is a contest (not a cost) has a value."""
        keys = [column.key for column in self.columns if column.higher_is_better is not None]
        return any(row.cells[key].value is not None for row in self.rows for key in keys if key in row.cells)

    def common_failures(self) -> dict[str, int]:
        """Reasons, with counts, that all cells measured on items share and none is to blame for."""
        cells = [cell for row in self.rows for cell in row.cells.values() if cell.n > 1 or cell.failures]
        shared = dict(cells[0].failures) if cells else {}
        return {
            why: count
            for why, count in sorted(shared.items())
            if all(cell.failures.get(why) == count and why not in lost(cell) for cell in cells)
        }

    def column_cells(self, key: str) -> dict[str, Cell]:
        """The cells of a column by row."""
        return {row.name: row.cells[key] for row in self.rows if key in row.cells}

    def partial(self) -> dict[tuple[str, str], str]:
        """(row, column key) measured on fewer items than others, with "8 of 20 clips": neither marked nor best."""
        return {
            (name, column.key): why
            for column in self.columns
            if column.higher_is_better is not None
            for name, why in partial_rows(self.column_cells(column.key)).items()
        }

    def partial_lines(self) -> list[str]:
        """What the reader is told about such rows."""
        titles = {column.key: column.title for column in self.columns}
        return [
            f"{_one_line(name)}, {titles[key]}: measured on {why}, so neither marked nor compared"
            for (name, key), why in self.partial().items()
        ]

    def to_json(self) -> str:
        """Everything, with sorted keys; values that are not finite become null."""
        record = {
            "name": self.name,
            "title": self.title,
            "suite": self.suite,
            "columns": [asdict(column) for column in self.columns],
            "rows": [asdict(row) for row in self.rows],
            "published": [asdict(row) for row in self.published],
            "published_columns": [asdict(column) for column in self.published_columns or self.columns],
            "notes": list(self.notes),
            "comparisons": list(self.comparisons),
            "scores": self.scores,
            "provenance": self.provenance,
        }
        return json.dumps(finite(record), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_csv(self) -> str:
        """One line per measured cell and published figure, at full precision."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            [
                "table",
                "suite",
                "row",
                "column",
                "origin",
                "value",
                "n",
                "median",
                "low",
                "high",
                "failures",
                "reason",
                "source",
            ]
        )
        for row in self.rows:
            for column in self.columns:
                cell = row.cells.get(column.key, Cell(reason="not measured"))
                numbers = [cell.value, cell.n, cell.median, cell.low, cell.high]
                failures = "; ".join(f"{count} x {why}" for why, count in sorted(cell.failures.items()))
                writer.writerow(
                    [self.name, self.suite, row.name, column.key, "measured"]
                    + [_exact(number) for number in numbers]
                    + [_one_line(failures), _one_line(cell.reason or ""), ""]
                )
        for published in self.published:
            for key, value in published.values.items():
                writer.writerow(
                    [self.name, "", published.name, key, "published", _exact(value)]
                    + [""] * 6
                    + [published.source]
                )
        return out.getvalue()

    def to_markdown(self) -> str:
        """The table people read: measured block, published block, notes."""
        lines = [f"### {_one_line(self.title)}", ""]
        footnotes: dict[str, int] = {}
        everywhere = self.common_failures()
        items = {column.key: items_of(self.column_cells(column.key).values()) for column in self.columns}
        header = ["", *(column.heading for column in self.columns)]
        body = [
            [_one_line((row.title or row.name) + (f" ({row.note})" if row.note else ""))]
            + [
                _show(
                    row.cells.get(column.key, Cell(reason="not measured")),
                    column,
                    footnotes,
                    everywhere,
                    items[column.key],
                )
                for column in self.columns
            ]
            for row in self.rows
        ]
        lines += [markdown_table(header, body), ""]
        lines += [f"[{number}] {_one_line(reason)}  " for reason, number in footnotes.items()]
        if footnotes:
            lines.append("")
        lines += [
            f"Left out of every cell: {count} x {_one_line(why)}  " for why, count in everywhere.items()
        ]
        lines += [f"{line}  " for line in self.partial_lines()]
        lines += [f"{column.title}: {column.note}  " for column in self.columns if column.note]
        lines += [f"{note}  " for note in self.notes]
        if self.published:
            columns = list(self.published_columns or self.columns)
            sources = {source: i for i, source in enumerate(dict.fromkeys(r.source for r in self.published))}
            letters = {source: chr(ord("a") + i) for source, i in sources.items()}
            header = ["published elsewhere", *(column.heading for column in columns), "source"]
            body = [
                [row.name]
                + [
                    f"{row.values[column.key]:.{column.digits}f}" if column.key in row.values else ""
                    for column in columns
                ]
                + [letters[row.source]]
                for row in self.published
            ]
            lines += ["", "Published figures (other data and tools; not to be mixed with the above):", ""]
            lines += [markdown_table(header, body), ""]
            lines += [f"({letters[source]}) {source}  " for source in sources]
        return "\n".join(lines).rstrip() + "\n"

    def to_latex(self) -> str:
        """A booktabs tabular of the measured and the published block."""
        columns = list(self.columns)
        arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
        heads = [latex_text(column.title) + arrows[column.higher_is_better] for column in columns]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
        lines += [" & ".join(["", *heads]) + r" \\", r"\midrule"]
        for row in self.rows:
            cells = [row.cells.get(column.key, Cell()) for column in columns]
            shown = [_latex_cell(cell, column) for cell, column in zip(cells, columns, strict=True)]
            lines.append(" & ".join([latex_text(row.title or row.name), *shown]) + r" \\")
        if self.published:
            span = len(columns) + 1
            lines += [r"\midrule", rf"\multicolumn{{{span}}}{{l}}{{\emph{{published}}}} \\"]
            for published in self.published:
                shown = [
                    f"{published.values[column.key]:.{column.digits}f}"
                    if column.key in published.values
                    else ""
                    for column in columns
                ]
                lines.append(" & ".join([latex_text(published.name), *shown]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def render(self, format: str) -> str:
        """The table in one of `FORMATS`."""
        return {"md": self.to_markdown, "csv": self.to_csv, "json": self.to_json, "latex": self.to_latex}[
            format
        ]()

    def write(self, folder: str | Path, stem: str = "") -> list[Path]:
        """Write `<stem>.json`, `.csv`, `.md` and, where there are draws, `.draws.json`; returns the paths.

        A file whose bytes are the same is left alone. The stem is the table's name unless another is given.
        """
        stem = stem or self.name
        paths = []
        for suffix in ("json", "csv", "md"):
            path = Path(folder) / f"{stem}.{suffix}"
            write_if_changed(path, self.render(suffix))
            paths.append(path)
        if self.draws:
            from benchmarks.tables.draws import draws_json, draws_path

            paths.append(draws_path(folder, stem))
            write_if_changed(paths[-1], draws_json(self.draws))
        return paths


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` unless the file holds it already; says whether it wrote."""
    try:
        if path.read_bytes() == text.encode():
            return False
    except FileNotFoundError:
        pass
    write_atomic(path, text)
    return True


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns padded to line up in a terminal."""
    # A bar or a line break in a name would begin another cell or end the table.
    table = [[_one_line(cell).replace("|", r"\|") for cell in line] for line in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*table, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def footnotes_of(cell: Cell, everywhere: Mapping[str, int]) -> list[str]:
    """What a cell leaves out, and what is special about what it counts."""
    own = {why: n for why, n in cell.failures.items() if why not in everywhere}
    texts = [f"{n} left out: {why}" for why, n in listed(own)]
    return texts + [f"{count_clips(n)}: {why}" for why, n in listed(counted(cell))]


def _show(
    cell: Cell, column: Column, footnotes: dict[str, int], everywhere: Mapping[str, int], items: int
) -> str:
    marks = "".join(
        f" [{footnotes.setdefault(text, len(footnotes) + 1)}]" for text in footnotes_of(cell, everywhere)
    )
    if column.higher_is_better is not None and cell.value is not None and cell.n != items:
        marks = f" (n = {cell.n}){marks}"
    if cell.value is None or not math.isfinite(cell.value):
        if cell.value is not None and math.isinf(cell.value):
            return ("∞" if cell.value > 0 else "-∞") + marks
        reason = cell.reason or "not measured"
        if reason == "-":
            return "-"
        return f"– [{footnotes.setdefault(reason, len(footnotes) + 1)}]" + marks
    text = f"{cell.value:.{column.digits}f}"
    if all_exact(cell):
        text += " (exact)"
    elif (
        cell.low is not None
        and cell.high is not None
        and math.isfinite(cell.low)
        and math.isfinite(cell.high)
    ):
        text += f" [{cell.low:.{column.digits}f}, {cell.high:.{column.digits}f}]"
    return text + marks


def _latex_cell(cell: Cell, column: Column) -> str:
    if cell.value is None or not math.isfinite(cell.value):
        if cell.value is None or math.isnan(cell.value):
            return "--"
        return r"$\infty$" if cell.value > 0 else r"$-\infty$"
    return f"{cell.value:.{column.digits}f}" + (" (exact)" if all_exact(cell) else "")


def _one_line(text: str) -> str:
    """Line breaks of any kind become spaces: the csv module leaves a bare carriage return unquoted."""
    return " ".join(text.split())


def _exact(number: float | int | None) -> str:
    return "" if number is None else repr(number)


def finite(value: Any) -> Any:
    """JSON has no NaN or infinity: NaN becomes null, infinities become the strings "inf" and "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
