"""Reading JSON files that may be damaged or not ours: an object, or an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(path: str | Path, error: type[ValueError]) -> dict[str, Any]:
    """The object in a file.

    Raises:
        OSError: the file cannot be read.
        error: it is not a JSON object, or it contains NaN or infinity, which our files never do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not valid JSON: {problem}") from None
    return parse_object(text, path, error)


def parse_object(text: str, path: str | Path, error: type[ValueError]) -> dict[str, Any]:
    """The object in the text of the file at `path`.

    Raises:
        error: as `read_object`.
    """
    try:
        record = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON: {problem}") from None
    if not isinstance(record, dict):
        raise error(f"{path}: not a JSON object but {type(record).__name__}")
    return record


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
