"""Alternating timing of contestants in one process, and the report every contest prints."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.store.processor import describe, processor

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one contestant: the median is reported, all repeats are kept."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def alternate(
    contestants: Mapping[str, Callable[[], Any]], *, repeats: int = 5, warmup: int = 1, clock: str = "wall"
) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Time the contestants in turns (A B A B …), so that a slow minute of the machine hits all of them.

    Returns:
        The timings by name, and each contestant's last result (for the error of one against the other).
    """
    now = CLOCKS[clock]
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(warmup):
        for name, call in contestants.items():
            results[name] = call()
    for _ in range(repeats):
        for name, call in contestants.items():
            gc.collect()
            start = now()
            results[name] = call()
            seconds[name].append(now() - start)
    return {name: Timing(name, tuple(values)) for name, values in seconds.items()}, results


@dataclass
class Contest:
    """What a contest prints: rows of (case, contestant, median seconds, ratio), and free notes.

    Attributes:
        title: what was compared.
        clock: of the seconds; empty where rows hold none that were timed in turns.
        rows: one dict each, column -> value.
        notes: below the table.
        machine: where it ran.
    """

    title: str
    clock: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: str = field(default_factory=lambda: f"{describe(processor())}, Python {platform.python_version()}")

    def add(self, case: str, ours: Timing, rival: Timing, **errors: float) -> None:
        """One row: how many times faster `ours` is than `rival` on `case`, with the errors given."""
        self.rows.append(
            {
                "case": case,
                "ours": ours.name,
                "rival": rival.name,
                "ours_seconds": ours.median,
                "rival_seconds": rival.median,
                "ratio": rival.median / ours.median,
                "repeats": len(ours.seconds),
                **errors,
            }
        )

    def show(self, as_json: bool = False) -> None:
        """Print to stdout: JSON for machines, a Markdown table for people."""
        if as_json:
            json.dump(asdict(self), sys.stdout, indent=2, sort_keys=True)
            sys.stdout.write("\n")
            return
        clock = f"median {self.clock} seconds; " if self.clock else ""
        print(f"{self.title}  ({clock}{self.machine})\n")
        keys: list[str] = []
        for row in self.rows:
            keys += [key for key in row if key not in keys]
        print(markdown_table(keys, [[_format(row.get(key, "")) for key in keys] for row in self.rows]))
        for note in self.notes:
            print(f"\n{note}")


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns padded to line up in a terminal."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(str(cell)) for cell in column) for column in columns]
    lines = [[str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (header, *rows)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
