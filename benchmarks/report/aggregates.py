"""Reads `results/<suite>/`: the only source of every number in the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from benchmarks.evaluation.cells import Cell, Column, PublishedRow, Row
from benchmarks.tables.cost import with_speed
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import read_number
from m2l.io.json_files import read_object

TABLE_NAMES = ("table1", "table2", "table3")
#: Files of a results folder that the report offers for download, where they exist.
DOWNLOADS = (
    *[f"{name}.{kind}" for name in TABLE_NAMES for kind in ("json", "csv", "md")],
    "figure2.json",
    "rate.json",
    "scores.csv",
    "cost.json",
    "baseline.json",
)


class AggregateError(ValueError):
    """A result file that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Aggregates:
    """What a results folder holds.

    Attributes:
        suite: name of the suite.
        title: its one-line description.
        folder: where the files are.
        tables: "table1", "table2", "table3": those that have been written.
        figure2: the JSON of Figure 2, if written.
        rate: the JSON of quality against bit rate, if written.
        cost: the JSON of `cost.json`, if written.
        files: name -> sha256 of each file that can be downloaded.
    """

    suite: str
    title: str
    folder: Path
    tables: dict[str, TableResult]
    figure2: dict[str, Any] | None
    cost: dict[str, Any] | None
    files: dict[str, str] = field(default_factory=dict)
    rate: dict[str, Any] | None = None

    @property
    def suite_record(self) -> dict[str, Any]:
        """The suite as it was when the tables were made, from their provenance; {} if none recorded it."""
        for name in ("table2", "table3"):
            if name in self.tables:
                return dict(self.tables[name].provenance.get("suite", {}))
        return dict((self.figure2 or self.rate or {}).get("provenance", {}).get("suite", {}))


def read_aggregates(folder: str | Path, command: str = "m2l-bench tables") -> Aggregates:
    """Read all result files of a suite. A link that leads out of the folder is ignored.

    Args:
        folder: where they are.
        command: what makes them, for the error message.

    Raises:
        FileNotFoundError: the folder holds no table and no figure.
        AggregateError: a file is not what `m2l-bench tables` writes.
    """
    folder = Path(folder)
    tables = {name: _table(folder / f"{name}.json") for name in TABLE_NAMES if _is_file(folder, f"{name}.json")}
    figure2, rate = (_figure(folder, *keys) for keys in (("figure2", "columns", "curves", "steps"), _RATE_KEYS))
    if not tables and figure2 is None and rate is None:
        raise FileNotFoundError(f"no results in {folder}: make them with  {command}")
    cost = _record(folder / "cost.json") if _is_file(folder, "cost.json") else None
    tables = {name: with_speed(table, cost or {}) for name, table in tables.items()}
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in DOWNLOADS if _is_file(folder, name)
    }
    found = Aggregates(folder.name, folder.name, folder, tables, figure2, cost, files, rate)
    title = found.suite_record.get("title") or _title_in_brackets(found) or folder.name
    return Aggregates(folder.name, title, folder, tables, figure2, cost, files, rate)


_RATE_KEYS = ("rate", "columns", "curves")


def _figure(folder: Path, name: str, *keys: str) -> dict[str, Any] | None:
    """The JSON of a figure, if it was written."""
    if not _is_file(folder, f"{name}.json"):
        return None
    record = _record(folder / f"{name}.json")
    for key in keys:
        if key not in record:
            raise AggregateError(f"{folder / name}.json: key {key!r} is missing")
    return record


def table_from(record: Mapping[str, Any]) -> TableResult:
    """The table that `TableResult.to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: the record lacks a key, has one that a table does not have, or a value
            of another kind.
    """
    rows = []
    for row in record["rows"]:
        cells = {
            key: Cell(**{**cell, **{name: read_number(cell[name]) for name in ("value", "median", "low", "high")}})
            for key, cell in row["cells"].items()
        }
        rows.append(Row(**{**row, "cells": cells}))
    table = TableResult(
        name=record["name"],
        title=record["title"],
        suite=record["suite"],
        columns=[Column(**column) for column in record["columns"]],
        rows=rows,
        published=[PublishedRow(**row) for row in record["published"]],
        published_columns=[Column(**column) for column in record["published_columns"]],
        notes=record["notes"],
        comparisons=[
            {**pair, **{name: read_number(pair.get(name)) for name in ("difference", "low", "high")}}
            for pair in record["comparisons"]
        ],
        scores={
            metric: {
                row: {clip: found for clip, value in values.items() if (found := read_number(value)) is not None}
                for row, values in rows.items()
            }
            for metric, rows in record["scores"].items()
        },
        groups=record.get("groups", {}),
        provenance=record["provenance"],
    )
    parts: list[Column | Row | PublishedRow] = [*table.columns, *(table.published_columns or ())]
    for part in [*parts, *table.rows, *table.published]:
        _conform(part)
        for cell in part.cells.values() if isinstance(part, Row) else ():
            _conform(cell)
    for value, kind in ((table.title, str), (table.suite, str), (table.provenance, dict), (table.groups, dict)):
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind.__name__}")
    int(table.provenance.get("n_clips", 0))
    return table


def _kinds_of(kind: type) -> dict[str, tuple[type, ...]]:
    """Field -> types that `isinstance` takes."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
        found[name] = tuple(get_origin(option) or option for option in options)
    return found


_KINDS = {kind.__name__: _kinds_of(kind) for kind in (Column, Cell, Row, PublishedRow)}


def _conform(part: Column | Cell | Row | PublishedRow) -> None:
    """Hold a frozen dataclass to its annotations: what came from a file may be anything.

    Raises:
        TypeError: a field is of another kind.
    """
    for name, allowed in _KINDS[type(part).__name__].items():
        value = getattr(part, name)
        fine = isinstance(value, (*allowed, int) if float in allowed else allowed)
        if not fine or (isinstance(value, bool) and bool not in allowed):
            raise TypeError(f"{type(part).__name__} {name} is {value!r:.60}")
        if isinstance(part, Column) and name == "digits" and not 0 <= value <= 12:
            raise ValueError(f"digits={value}: must be from 0 to 12")


def _is_file(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_file() and path.resolve().parent == folder.resolve()


def _record(path: Path) -> dict[str, Any]:
    return read_object(path, AggregateError)


def _table(path: Path) -> TableResult:
    try:
        return table_from(_record(path))
    except KeyError as error:
        raise AggregateError(f"{path}: key {error} is missing") from None
    except (TypeError, AttributeError, ValueError, OverflowError, IndexError) as error:
        raise AggregateError(f"{path}: not a table of this version: {error}") from None


def _title_in_brackets(found: Aggregates) -> str:
    """The suite's title from a table's ("Table 1. ... (title)"): Table 1 does not record the suite."""
    for table in found.tables.values():
        _, bracket, rest = table.title.rpartition("(")
        if bracket:
            return rest.rstrip(")")
    return ""
