"""What follows from code and settings alone, kept in the cache folder from one process to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.store.fingerprint import canonical_json
from m2l.io.atomic import write_atomic
from m2l.io.cache import cache_dir


def remembered(name: str, key: str, make: Callable[[], Any]) -> Any:
    """`make()` as JSON has it, or what it returned before under the same name and key.

    Args:
        name: of the file; a new key replaces the value of the old one.
        key: digest of everything that decides the value, its code included.
        make: called when nothing is kept.
    """
    path = cache_dir() / "remembered" / f"{name}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(path.read_bytes())
        if kept["key"] == key:
            return kept["value"]
    text = canonical_json({"key": key, "value": make()})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    return json.loads(text)["value"]
