"""A table as data, and its files: JSON with everything, CSV, Markdown and LaTeX.

A table is a pure function of aggregates and of the processor that it names: the same numbers give the same
bytes, whatever executor or order made them. Times and dates are therefore not part of a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation.cells import Cell, Column, PublishedRow, Row
from benchmarks.evaluation.left_out import all_exact, count_clips, counted, items_of, listed, lost, partial_rows
from benchmarks.tables.replicates import replicates_json, replicates_path
from benchmarks.tables.text import (
    interval_text,
    json_text,
    latex_text,
    markdown_table,
    number_text,
    one_line,
    write_if_changed,
)

if TYPE_CHECKING:
    import pandas

FORMATS = ("md", "csv", "json", "latex")
#: Mark of a Fréchet distance of no more windows than dimensions, and what it means.
FEW_WINDOWS = "†"
FEW_WINDOWS_LINE = (
    f"{FEW_WINDOWS} no more windows than dimensions: covariances are singular, and the distance is far above that of "
    "many clips"
)
#: A cell that the table has a row and a column for, and no record of.
_UNMEASURED = Cell(reason="not measured")


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
        comparisons: pairwise comparisons on the same items (JSON only, counted in the notes).
        scores: metric -> row -> item -> score, for those who test differences themselves (JSON only).
        groups: clip -> group, of clips that are not their own group (JSON only, counted in the title).
        replicates: metric -> row -> replicates of a corpus distance, for the same (a file of their own).
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
    groups: Mapping[str, str] = field(default_factory=dict)
    replicates: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
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
            f"{one_line(name)}, {titles[key]}: measured on {why}, so neither marked nor compared"
            for (name, key), why in self.partial().items()
        ]

    def to_json(self) -> str:
        """Everything, with sorted keys; values that are not finite become null."""
        return json_text(
            {
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
                **({"groups": self.groups} if self.groups else {}),
                "provenance": self.provenance,
            }
        )

    def frame(self) -> pandas.DataFrame:
        """One row per measured cell and published figure, at full precision; the title is in `attrs`."""
        import pandas

        records: list[dict[str, Any]] = []
        for row in self.rows:
            for column in self.columns:
                cell = row.cells.get(column.key, _UNMEASURED)
                failures = "; ".join(f"{count} x {why}" for why, count in sorted(cell.failures.items()))
                records.append(
                    {"table": self.name, "suite": self.suite, "row": row.name, "column": column.key}
                    | {"origin": "measured", "value": cell.value, "n": cell.n, "median": cell.median}
                    | {"low": cell.low, "high": cell.high, "failures": one_line(failures)}
                    | {"reason": one_line(cell.reason or "")}
                )
        for published in self.published:
            for key, value in published.values.items():
                records.append(
                    {"table": self.name, "row": published.name, "column": key, "origin": "published"}
                    | {"value": value, "source": published.source}
                )
        names = ["table", "suite", "row", "column", "origin"]
        names += ["value", "n", "median", "low", "high", "failures", "reason", "source"]
        # dtype object: integers stay integers, and floats keep every digit.
        made = pandas.DataFrame(records, columns=names, dtype=object)
        made.attrs = {"title": self.title, "notes": list(self.notes)}
        return made

    def shown(self, text_of: Callable[[Cell, Column], str]) -> pandas.DataFrame:
        """The measured block as people see it: a row per system, a column per heading.

        Args:
            text_of: the text of a cell.
        """
        import pandas

        return pandas.DataFrame(
            [[text_of(row.cells.get(column.key, _UNMEASURED), column) for column in self.columns] for row in self.rows],
            index=[row.title or row.name for row in self.rows],
            columns=[column.heading for column in self.columns],
            dtype=object,
        )

    def published_blocks(
        self, columns: Sequence[Column] | None = None
    ) -> list[tuple[str, list[Column], list[PublishedRow]]]:
        """(source, columns that it has figures for, rows) of each source: figures of two protocols share no block.

        Args:
            columns: to choose from; default those of the published block.
        """
        rows: dict[str, list[PublishedRow]] = {}
        for row in self.published:
            rows.setdefault(row.source, []).append(row)
        given = columns or self.published_columns or self.columns
        return [
            (source, [column for column in given if any(column.key in row.values for row in own)], own)
            for source, own in rows.items()
        ]

    def to_csv(self) -> str:
        """`frame` as CSV."""
        return str(self.frame().to_csv(index=False, lineterminator="\n"))

    def to_markdown(self) -> str:
        """The table for people: measured block, footnotes, notes, published block with its sources."""
        footnotes: dict[str, int] = {}
        everywhere = self.common_failures()
        items = {column.key: items_of(self.column_cells(column.key).values()) for column in self.columns}
        block = self.shown(lambda cell, column: _show(cell, column, footnotes, everywhere, items[column.key]))
        block.index = [f"{row.title or row.name}{f' ({row.note})' if row.note else ''}" for row in self.rows]
        lines = [f"### {one_line(self.title)}", "", _markdown(block, ""), ""]
        lines += [f"[{number}] {one_line(reason)}  " for reason, number in footnotes.items()]
        if footnotes:
            lines.append("")
        if any(few_windows(cell) for column in self.columns for cell in self.column_cells(column.key).values()):
            lines.append(f"{FEW_WINDOWS_LINE}  ")
        lines += [f"Left out of every cell: {count} x {one_line(why)}  " for why, count in everywhere.items()]
        lines += [f"{line}  " for line in self.partial_lines()]
        lines += [f"{column.title}: {column.note}  " for column in self.columns if column.note]
        lines += [f"{note}  " for note in self.notes]
        if self.published:
            lines += [
                "",
                "Published figures (other data and tools; not to be mixed with the above, nor with each other):",
            ]
        for source, columns, rows in self.published_blocks():
            block = _shown_published(columns, rows)
            lines += ["", f"{source}:", "", _markdown(block, "published elsewhere")]
        return "\n".join(lines).rstrip() + "\n"

    def to_latex(self) -> str:
        """A booktabs tabular of the measured and the published block."""
        columns = list(self.columns)
        arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
        heads = [latex_text(column.title) + arrows[column.higher_is_better] for column in columns]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", _latex_line("", heads)]
        lines.append(r"\midrule")
        lines += [_latex_line(name, cells) for name, *cells in self.shown(_latex_cell).itertuples(name=None)]
        for source, _, own in self.published_blocks(columns):
            title = (
                rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{published: {latex_text(source.split('; ')[0])}}}}}"
            )
            lines += [r"\midrule", rf"{title} \\"]
            lines += [_latex_line(name, cells) for name, *cells in _shown_published(columns, own).itertuples(name=None)]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def render(self, format: str) -> str:
        """The table in one of `FORMATS`."""
        return {"md": self.to_markdown, "csv": self.to_csv, "json": self.to_json, "latex": self.to_latex}[format]()

    def write(self, folder: str | Path, stem: str = "") -> list[Path]:
        """Write `<stem>.json`, `.csv`, `.md` and, where there are replicates, `.replicates.json`; returns the paths.

        A file whose bytes are the same is left alone. The stem is the table's name unless another is given.
        """
        stem = stem or self.name
        paths = []
        for suffix in ("json", "csv", "md"):
            path = Path(folder) / f"{stem}.{suffix}"
            write_if_changed(path, self.render(suffix))
            paths.append(path)
        if self.replicates:
            paths.append(replicates_path(folder, stem))
            write_if_changed(paths[-1], replicates_json(self.replicates))
        return paths


def _shown_published(columns: Sequence[Column], rows: Sequence[PublishedRow]) -> pandas.DataFrame:
    """A published block: a row per system, a column per heading."""
    import pandas

    return pandas.DataFrame(
        [[number_text(row.values.get(c.key), c.digits, absent="") for c in columns] for row in rows],
        index=[row.name for row in rows],
        columns=[column.heading for column in columns],
        dtype=object,
    )


def _markdown(block: pandas.DataFrame, corner: str) -> str:
    return markdown_table(
        [corner, *block.columns], [[str(name), *cells] for name, *cells in block.itertuples(name=None)]
    )


def footnotes_of(cell: Cell, everywhere: Mapping[str, int]) -> list[str]:
    """What a cell leaves out, and what is special about what it counts."""
    own = {why: n for why, n in cell.failures.items() if why not in everywhere}
    texts = [f"{n} left out: {why}" for why, n in listed(own)]
    return texts + [f"{count_clips(n)}: {why}" for why, n in listed(counted(cell))]


def few_windows(cell: Cell) -> bool:
    """Whether a Fréchet distance rests on no more windows than dimensions."""
    return bool(cell.details.get("few_windows", False))


def _show(cell: Cell, column: Column, footnotes: dict[str, int], everywhere: Mapping[str, int], items: int) -> str:
    """A cell in Markdown: value and interval, or the number of the footnote that holds the reason."""
    marks = "".join(f" [{footnotes.setdefault(text, len(footnotes) + 1)}]" for text in footnotes_of(cell, everywhere))
    if column.higher_is_better is not None and cell.value is not None and cell.n != items:
        marks = f" (n = {cell.n}){marks}"
    if cell.value is None or math.isnan(cell.value):
        reason = cell.reason or "not measured"
        if reason == "-":
            return "-"
        return f"– [{footnotes.setdefault(reason, len(footnotes) + 1)}]" + marks
    text = number_text(cell.value, column.digits)
    if math.isfinite(cell.value):
        text += " (exact)" if all_exact(cell) else interval_text(cell.low, cell.high, column.digits)
    return text + (f" {FEW_WINDOWS}" if few_windows(cell) else "") + marks


def _latex_cell(cell: Cell, column: Column) -> str:
    exact = " (exact)" if cell.value is not None and math.isfinite(cell.value) and all_exact(cell) else ""
    text = number_text(cell.value, column.digits, absent="--")
    return {"∞": r"$\infty$", "-∞": r"$-\infty$"}.get(text, text) + exact


def _latex_line(name: str, cells: Sequence[str]) -> str:
    return " & ".join([latex_text(name), *cells]) + r" \\"
