"""Replicates behind a table's corpus distances: the file `<table>.replicates.json` beside the table.

A corpus distance has no score per clip, so a paired test of two runs needs its replicates: replicate k of both runs
leaves out the same groups of clips, because the blocks depend on (seed, number of groups) alone. One line per cell,
nine significant digits: a re-run changes the lines of what changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables.text import lines_of_json, significant
from m2l.io.json_files import read_object

#: metric -> row -> {"value", "groups" (lists of clip ids, as `group_index` numbers them), "replicates",
#: "replicates_of"}.
Replicates = Mapping[str, Mapping[str, Mapping[str, Any]]]


def replicates_path(folder: str | Path, table: str) -> Path:
    """Where the replicates of a table lie."""
    return Path(folder) / f"{table}.replicates.json"


def replicates_json(replicates: Replicates) -> str:
    """The file's text; groups of clips stand once, and again only for a cell measured on other clips."""
    every = [cell["groups"] for rows in replicates.values() for cell in rows.values()]
    groups = max(every, key=lambda lists: sum(map(len, lists)))
    cells: dict[str, dict[str, Any]] = {}
    for metric, rows in replicates.items():
        for name, cell in rows.items():
            kept: dict[str, Any] = {
                "value": cell["value"],
                "replicates": [significant(value, 9) for value in cell["replicates"]],
                "replicates_of": cell["replicates_of"],
            }
            if cell["groups"] != groups:
                kept["groups"] = cell["groups"]
            cells.setdefault(metric, {})[name] = kept
    return lines_of_json({"groups": groups, "cells": cells}, 3) + "\n"


def read_replicates(folder: str | Path, table: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The replicates that `replicates_json` wrote; empty without a file.

    Raises:
        ValueError: the file holds something else.
    """
    path = replicates_path(folder, table)
    try:
        record = read_object(path, ValueError)
    except FileNotFoundError:
        return {}
    try:
        return {
            metric: {name: {"groups": record["groups"], **cell} for name, cell in rows.items()}
            for metric, rows in record["cells"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of replicates: {type(error).__name__} {error}") from None
