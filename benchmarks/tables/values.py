"""The values of written tables and figures by row and column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables.text import read_number
from m2l.io.json_files import read_object


def values_of(record: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """(row, column) -> value of every measured cell of a parsed table or figure."""
    found: dict[tuple[str, str], float | None] = {}
    for row in record.get("rows", ()):
        for key, cell in row["cells"].items():
            found[row["name"], key] = read_number(cell["value"])
    for system, curves in record.get("curves", {}).items():
        for key, points in curves.items():
            for point in points:
                name = point["system"] if "system" in point else f"{system}@{point['n_steps']}"
                found[name, key] = read_number(point["value"])
    return {key: value for key, value in found.items() if value is not None}


def read_values(path: Path) -> dict[tuple[str, str], float]:
    """`values_of` a file; empty if it does not exist or is not a table of this project."""
    try:
        return values_of(read_object(path, ValueError))
    except (OSError, LookupError, TypeError, AttributeError, ValueError, OverflowError):
        return {}
