"""ViSQOL (Chinen et al., "ViSQOL v3", 2020): virtual speech and audio quality, 1 to 5."""

from typing import Any

from benchmarks.registry import load_target


def __getattr__(name: str) -> Any:
    """`visqol` and `ViSQOL`, whose kernels need numba, at their first use."""
    if name not in ("visqol", "ViSQOL"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_target(f"benchmarks.metrics.visqol.api:{name}")
