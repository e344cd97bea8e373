"""Bootstrap draws behind a table's corpus distances: the file `<table>.draws.json` beside the table.

A corpus distance has no score per clip, so a paired test of two runs needs the draws: draw k of both runs
repeats the same clips, because draws depend on (seed, number of clips) alone. One line per cell, nine
significant digits: a re-run changes the lines of what changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables.text import lines_of_json, significant
from m2l.io.json_files import read_object

#: metric -> row -> {"value", "clips" (in the order of the draws), "draws"}.
Draws = Mapping[str, Mapping[str, Mapping[str, Any]]]


def draws_path(folder: str | Path, table: str) -> Path:
    """Where the draws of a table lie."""
    return Path(folder) / f"{table}.draws.json"


def draws_json(draws: Draws) -> str:
    """The file's text; clip ids stand once, and again only for a cell measured on other clips."""
    clips: list[str] = max((cell["clips"] for rows in draws.values() for cell in rows.values()), key=len)
    cells: dict[str, dict[str, Any]] = {}
    for metric, rows in draws.items():
        for name, cell in rows.items():
            kept: dict[str, Any] = {"value": cell["value"], "replicates_of": cell["replicates_of"]}
            kept["replicates"] = [significant(value, 9) for value in cell["replicates"]]
            if list(cell["clips"]) != clips:
                kept["clips"] = list(cell["clips"])
            cells.setdefault(metric, {})[name] = kept
    return lines_of_json({"clips": clips, "cells": cells}, 3) + "\n"


def read_draws(folder: str | Path, table: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The draws that `draws_json` wrote; empty without a file.

    Raises:
        ValueError: the file holds something else.
    """
    path = draws_path(folder, table)
    try:
        record = read_object(path, ValueError)
    except FileNotFoundError:
        return {}
    try:
        return {
            metric: {name: {"clips": record["clips"], **cell} for name, cell in rows.items()}
            for metric, rows in record["cells"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of draws: {type(error).__name__} {error}") from None
