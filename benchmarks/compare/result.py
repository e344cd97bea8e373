"""A finished comparison as Markdown, CSV and JSON: a pure function of its numbers, the same bytes every time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation.cells import Column
from benchmarks.harness.run import RunReport
from benchmarks.statistics.multiple import Compared, verdict
from benchmarks.tables.best import best_columns
from benchmarks.tables.places import stem_for
from benchmarks.tables.table import TableResult, footnotes_of
from benchmarks.tables.text import interval_text, json_text, markdown_table, number_text, one_line, write_if_changed

if TYPE_CHECKING:
    import pandas

#: Reason of a difference from a row that has no value in a column.
NO_VALUE = "has no value"

#: How a verdict is shown in Markdown.
MARKS = {"better": "▲", "worse": "▼", "no difference": "≈", "not compared": "–"}


_CSV_HEADER = [
    *("suite", "row", "column", "against", "value", "n", "low", "high", "p_adjusted"),
    *("verdict", "best", "reason"),
]


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison found.

    Attributes:
        table: rows of baselines and new systems, and comparisons of every two of them.
        new: names of the new rows.
        against: (new row, metric) -> differences from every baseline.
        report: how the run went.
        units: what intervals resample, as in "tracks".
        warnings: files without clips, and the like.
    """

    table: TableResult
    new: list[str]
    against: Mapping[tuple[str, str], list[Compared]]
    report: RunReport
    units: str = "clips"
    warnings: list[str] = field(default_factory=list)

    @property
    def measured(self) -> bool:
        """Whether every new row has at least one value."""
        keys = [column.key for column in self._metrics]
        rows = [row for row in self.table.rows if row.name in self.new]
        return all(any(row.cells[key].value is not None for key in keys) for row in rows)

    @property
    def _metrics(self) -> list[Column]:
        return [column for column in self.table.columns if column.higher_is_better is not None]

    def to_markdown(self) -> str:
        """The rows with the best of each column below them, and a block of differences per new system."""
        return "\n".join([self.table.to_markdown(), *map(self._differences, self.new)])

    def _differences(self, name: str) -> str:
        columns = [column for column in self._metrics if (name, column.key) in self.against]
        if not columns:
            return f"### {name} minus each baseline\n\nNothing to compare: {name} has no value.\n"
        found = {c.key: {record.against: record for record in self.against[name, c.key]} for c in columns}
        baselines = [row.name for row in self.table.rows if row.name not in self.new]
        rows: list[list[str]] = []
        reasons: dict[str, list[str]] = {}
        for baseline in baselines:
            records = [(column, found[column.key].get(baseline)) for column in columns]
            if all(record is None or record.reason == NO_VALUE for _, record in records):
                continue  # the table of values says why
            rows.append([baseline, *(_difference(record, column) for column, record in records)])
            for column, record in records:
                if record is not None and record.reason not in (None, NO_VALUE):
                    reasons.setdefault(f"{column.title}: {record.reason}", []).append(baseline)
        lines = [
            f"### {name} minus each baseline",
            "",
            f"▲ {name} is better, ▼ worse, ≈ no significant difference: intervals hold for all baselines of a "
            f"column at once (max-T over {self.units}). Holm's count of pairs above goes step by step and has no "
            "intervals; it may find a difference that is shown as ≈ here.",
            "",
            markdown_table(["", *(column.heading for column in columns)], rows),
            "",
            *(
                f"– {reason}  " if len(names) == len(rows) else f"– {', '.join(names)}, {reason}  "
                for reason, names in reasons.items()
            ),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def frame(self) -> pandas.DataFrame:
        """One row per value, and one per difference from a baseline, at full precision."""
        import pandas

        best = {(name, key) for key, item in best_columns(self.table).items() for name in item.names}
        partial = self.table.partial()
        lines: list[dict[str, Any]] = []
        for row in self.table.rows:
            for column in self.table.columns:
                cell = row.cells[column.key]
                said = [cell.reason or "", *footnotes_of(cell, {})]
                if (row.name, column.key) in partial:
                    said.append(f"measured on {partial[row.name, column.key]}")
                lines.append(
                    {"row": row.name, "column": column.key, "value": cell.value, "n": cell.n}
                    | {"low": cell.low, "high": cell.high, "reason": one_line("; ".join(filter(None, said)))}
                    | {"best": "best" if (row.name, column.key) in best else ""}
                )
        for record in self.records():
            lines.append(
                {"row": record["a"], "column": record["metric"], "against": record["b"]}
                | {"value": record["difference"]}
                | {key: record[key] for key in ("n", "low", "high", "p_adjusted", "verdict", "reason")}
            )
        made = pandas.DataFrame(lines, columns=_CSV_HEADER, dtype=object)
        return made.assign(suite=self.table.suite)

    def to_csv(self) -> str:
        """`frame` as CSV."""
        return str(self.frame().to_csv(index=False, lineterminator="\n"))

    def records(self) -> list[dict[str, Any]]:
        """The differences as plain dictionaries."""
        higher = {column.key: column.higher_is_better for column in self._metrics}
        return [
            {
                "metric": metric,
                "a": name,
                "b": item.against,
                "n": item.n,
                "difference": item.difference,
                "low": item.low,
                "high": item.high,
                "p_adjusted": item.p,
                "verdict": verdict(item, bool(higher[metric])),
                "reason": item.reason,
            }
            for (name, metric), items in self.against.items()
            for item in items
        ]

    def to_json(self) -> str:
        """Everything; values that are not finite as in the tables."""
        record = json.loads(replace(self.table, comparisons=self.records()).to_json())
        record["new"] = self.new
        record["warnings"] = self.warnings
        if partial := self.table.partial():
            record["partial"] = [{"row": row, "column": key, "measured": why} for (row, key), why in partial.items()]
        record["best"] = [asdict(item) | {"column": key} for key, item in best_columns(self.table).items()]
        return json_text(record)

    def render(self, format: str) -> str:
        """As "md", "csv" or "json"."""
        return {"md": self.to_markdown, "csv": self.to_csv, "json": self.to_json}[format]()

    def write(self, folder: Path) -> list[Path]:
        """Write `compare.json`, `.csv` and `.md`; beside an older one if this run failed."""
        stem = stem_for(folder, "compare", failed=bool(self.report.failed))
        paths = []
        for suffix in ("json", "csv", "md"):
            paths.append(folder / f"{stem}.{suffix}")
            write_if_changed(paths[-1], self.render(suffix))
        return paths


def _difference(record: Compared | None, column: Column) -> str:
    if record is None:
        return ""
    mark = MARKS[verdict(record, bool(column.higher_is_better))]
    if record.reason is not None or math.isnan(record.difference):
        return mark
    sign = "+" if record.difference > 0 else ""
    bounds = interval_text(record.low, record.high, column.digits)
    return f"{mark} {sign}{number_text(record.difference, column.digits)}{bounds}"
