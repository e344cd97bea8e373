"""The tables and figures that can be built, what `--only` stands for, and how one of them is built."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from benchmarks.errors import UsageError
from benchmarks.harness.base import Executor
from benchmarks.harness.progress import Beat
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import Suite
from benchmarks.tables import TABLES

if TYPE_CHECKING:
    from benchmarks.tables.figure2 import FigureResult
    from benchmarks.tables.table import TableResult

#: What `--only N` stands for.
PARTS = {"1": ("table1",), "2": ("table2", "figure2"), "3": ("table3",), "figure2": ("figure2",), "rate": ("rate",)}


def parts_of(only: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """What each value of `--only` ("1", "table2", "2,3", "figure2", "rate") stands for, in the order given.

    Raises:
        UsageError: one of them is none of these.
    """
    found = []
    for item in ",".join(only).split(","):
        parts = PARTS.get(item.strip().removeprefix("table"))
        if parts is None:
            raise UsageError(f"--only {item!r}: it is 1, 2, 3, figure2 or rate")
        found.append((item, parts))
    return found


def wanted_parts(suite: Suite, only: Sequence[str] | None) -> list[str]:
    """The tables and figures of a suite that `--only` asks for; all of them without it.

    Raises:
        UsageError: an unknown table, or one that the suite has no section for.
    """
    if not only:
        return suite.tables
    names: list[str] = []
    for item, parts in parts_of(only):
        present = [part for part in parts if part in suite.tables]
        if not present:
            raise UsageError(f"--only {item}: suite {suite.name!r} has no section [{parts[0]}]")
        names += [part for part in present if part not in names]
    return names


def build_parts(
    names: Sequence[str], suite: Suite, store: Store, executor: Executor, run: RunOptions, executor_name: str
) -> tuple[list[TableResult | FigureResult], RunReport]:
    """Build tables and figures of a suite, with a record in the store of how far this job is.

    Args:
        names: from `wanted_parts`.
        executor_name: for the record.
    """
    report = RunReport()
    beat = Beat(store, suite.name, run.shard or (0, 1), {"executor": executor_name, "device": run.device})
    run.monitor = beat if run.overwrite != "cache-only" else None
    with beat if run.monitor else nullcontext(), executor:
        made = [build_part(name, suite, store, executor, run, report) for name in names]
    return [item for item in made if item is not None], report


def build_part(
    name: str, suite: Suite, store: Store, executor: Executor, run: RunOptions, report: RunReport
) -> TableResult | FigureResult | None:
    """Build one table or figure of a suite and add what it did to `report`; None if its builder is not installed."""
    try:
        builder = TABLES.load(name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(TABLES.target(name).partition(":")[0]):
            raise
        print(f"{name}: this installation has no {error.name}; left out", file=sys.stderr)
        return None
    built = builder(suite, store, executor, run)
    table: TableResult | FigureResult
    table, done = built if isinstance(built, tuple) else (built, RunReport())
    report.add(done)
    return table
