"""The best of each column of a table, the rows that are not distinguishable from it, and how many pairs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.evaluation.cells import Row
from benchmarks.statistics.multiple import Best, best_of_column
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import number_text, one_line

#: The row of Table 1 that is computed from the labels alone.
_FLOOR = "chance"


def competes(row: Row) -> bool:
    """Whether a row can be the best of a column: a control, which does not code (ratio 1), or a floor cannot."""
    ratio = row.cells.get("compression_ratio")
    return row.name != _FLOOR and (ratio is None or ratio.value != 1.0)


def column_of(comparison: Mapping[str, Any]) -> str:
    """Key of the column that a comparison of two rows is about."""
    metric = str(comparison["metric"])
    return f"{comparison['task']}/{metric}" if "task" in comparison else metric


def best_columns(table: TableResult) -> dict[str, Best]:
    """Column key -> the best of the rows that compete and were measured on the same clips.

    A column with fewer than two such values has no best. Where rows of a column were not compared (its distance has no
    replicates), none counts as not distinguishable.
    """
    partial = table.partial()
    found = {}
    for column in table.columns:
        if column.higher_is_better is None:
            continue
        cells = {row.name: row.cells[column.key] for row in table.rows if competes(row) and column.key in row.cells}
        values = {
            name: cell.value
            for name, cell in cells.items()
            if cell.value is not None and (name, column.key) not in partial
        }
        records = [record for record in table.comparisons if column_of(record) == column.key]
        best = best_of_column(values, records, column.higher_is_better)
        if best is not None and len(values) > 1:
            found[column.key] = best
    return found


def verdict_lines(table: TableResult, level: float) -> list[str]:
    """How many pairs differ, and the best of each column that was compared with those not distinguishable from it.

    Args:
        table: with its comparisons.
        level: 1 - the error rate of a column.
    """
    tested = [record for record in table.comparisons if "significant" in record]
    if not tested:
        return []
    apart = sum(record["significant"] for record in tested)
    idle = {row.name for row in table.rows if not competes(row)}
    left_out = ["controls (ratio 1)"] if idle - {_FLOOR} else []
    left_out += [_FLOOR] if _FLOOR in idle else []
    left_out += ["rows measured on fewer clips"] if table.partial() else []
    remark = f"; not called the best: {', '.join(left_out)}" if left_out else ""
    lines = [f"{apart} of {len(tested)} pairs of rows differ (Holm over each column, {100 * (1 - level):g} %){remark}."]
    titles = {row.name: row.title or row.name for row in table.rows}
    compared = {column_of(record) for record in tested}
    found = best_columns(table)
    for column in table.columns:
        if column.key in found and column.key in compared:
            best = found[column.key]
            names, level_with = (
                one_line(", ".join(titles[name] for name in part)) for part in (best.names, best.level_with)
            )
            beside = f"; not distinguishable from it: {level_with}" if level_with else ""
            lines.append(f"Best {column.title}: {names}, {number_text(best.value, column.digits)}{beside}.")
    return lines
