"""The processor that numbers were computed on: neural networks and codecs round differently on others."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

#: Families of vector instructions, by which numerical libraries choose their code, the widest first.
_VECTORS = {
    "avx512f": "avx512", "avx2": "avx2", "avx": "avx", "sse4_2": "sse4", "sve": "sve", "asimd": "neon",
}  # fmt: skip


@cache
def processor() -> dict[str, Any]:
    """`model`, `vectors` (the widest family of vector instructions) and `cores` of this machine."""
    fields: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    for line in text.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "vectors": next((family for flag, family in _VECTORS.items() if flag in flags), platform.machine()),
        "cores": os.cpu_count() or 1,
    }


def same_processor(first: Any, second: Any) -> bool:
    """Whether two records name the same kind of processor; False if either names none."""
    return bool(first) and bool(second) and describe(first) == describe(second)


def describe(record: Any) -> str:
    """A processor in words: "AMD EPYC (avx2)"."""
    if not isinstance(record, dict) or not record:
        return "a processor that was not recorded"
    return f"{record.get('model', '?')} ({record.get('vectors', '?')})"
