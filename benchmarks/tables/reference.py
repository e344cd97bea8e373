"""Published figures (`reference.json`), each with its source. They stand beside measured ones and never mix."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.evaluation.cells import PublishedRow

PATH = Path(__file__).resolve().parent / "reference.json"


@cache
def reference() -> dict[str, Any]:
    """The whole file."""
    record: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return record


def published_rows(table: str, sources: tuple[str, ...] | None = None) -> list[PublishedRow]:
    """Rows of "table1", "table2" or "table3" that others reported, in the file's order.

    Args:
        table: which table.
        sources: keep only these sources ("paper", "codicodec", ...); default all.
    """
    record = reference()
    rows = []
    for row in record[table]:
        if sources is not None and row["source"] not in sources:
            continue
        source = record["sources"][row["source"]]
        rows.append(
            PublishedRow(
                row["name"],
                dict(row["values"]),
                f"{source['title']}, {source['where']}; data: {source['data']}; protocol: {source['protocol']}",
                row["note"],
            )
        )
    return rows
