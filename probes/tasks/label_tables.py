"""Tables of labels: CSV, tab-separated or parquet files as rows of text, and names of keys."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import DataNotFoundError
from probes.metrics import KEYS
from probes.tasks.base import TaskDataError

#: Suffixes of files that are tables.
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
#: Tonics that `KEYS` spells otherwise.
_SPELLED = {"DB": "C#", "EB": "D#", "GB": "F#", "AB": "G#", "BB": "A#", "CB": "B", "FB": "E", "E#": "F", "B#": "C"}
_MODES = {"major": "major", "maj": "major", "minor": "minor", "min": "minor"}

Rows = list[dict[str, str]]


def read_table(path: Path) -> tuple[list[str], Rows]:
    """Columns and rows of a table, every cell as text.

    Args:
        path: a CSV file, one with tabs (.tsv, .txt), or a parquet file. A list in a cell of parquet becomes its items
            divided by semicolons.

    Raises:
        DataNotFoundError: no such file, or reading parquet needs a package that is not installed.
        TaskDataError: it cannot be read.
    """
    if not path.is_file():
        raise DataNotFoundError(f"no table {path}, with columns such as file, label, group and split")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="," if path.suffix.lower() == ".csv" else "\t")
            rows = [{str(key): value or "" for key, value in row.items() if key is not None} for row in reader]
            return list(reader.fieldnames or ()), rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaskDataError(f"{path}: not a table: {error}") from None


def _read_parquet(path: Path) -> tuple[list[str], Rows]:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise DataNotFoundError(f"{path}: reading parquet needs a package; run: pip install pyarrow") from None
    except (ValueError, OSError) as error:
        raise TaskDataError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from None
    columns = [str(column) for column in frame.columns]
    frame.columns = columns
    return columns, [{key: _text(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
        return ";".join(str(item) for item in value)
    return "" if value is None or value != value else str(value)  # NaN is not equal to itself


def key_name(text: str, where: str = "") -> str:
    """A key as `KEYS` spells it: "Bb major", "A# maj" and "a# Major" are "A# major".

    Raises:
        TaskDataError: it is no key; `where` says whose.
    """
    tonic, _, mode = text.strip().replace("♭", "b").replace("♯", "#").partition(" ")
    tonic = tonic[:1].upper() + tonic[1:].lower()
    found = f"{_SPELLED.get(tonic.upper(), tonic)} {_MODES.get(mode.strip().lower(), '')}"
    if found not in KEYS:
        raise TaskDataError(f"{where or 'label'}: {text!r} is not one of the 24 keys, such as 'C minor' or 'Bb major'")
    return found


def check_columns(path: Path, columns: Iterable[str], wanted: Iterable[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        TaskDataError: names the column and those that there are.
    """
    there = list(columns)
    for name in wanted:
        if name not in there:
            raise TaskDataError(f"{path}: no column {name!r}; there are {', '.join(there)}")
