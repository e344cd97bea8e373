"""JSON files that somebody else may have written or damaged: an object, or an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(path: str | Path, error: type[ValueError]) -> dict[str, Any]:
    """The object in a file.

    Raises:
        OSError: the file cannot be read.
        error: it holds no JSON object, or a NaN, which our files never hold.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON: {problem}") from None
    if not isinstance(record, dict):
        raise error(f"{path}: not a JSON object but {type(record).__name__}")
    return record


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
