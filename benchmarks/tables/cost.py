"""How fast the systems of the tables run on this machine.

These are times, which differ from run to run, so they stand beside the tables' files (`cost.json`) and not in them, and
are neither compared nor gated. Where a table is shown, on the terminal and in the report, Table 2 has them as a column.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.evaluation.cells import Cell, Column
from benchmarks.store.processor import describe, processor
from benchmarks.store.store import Store
from benchmarks.tables.table import TableResult

_SPEED = Column(
    "real_time_factor",
    "real time",
    None,
    1,
    unit="x",
    note="seconds of mono audio encoded and decoded per CPU second, loading included; a time, so in no file of a table",
)


def cost_record(store: Store, names: Iterable[str]) -> dict[str, Any]:
    """What `cost.json` holds: CPU seconds per second of audio, by system and by stage, one thread.

    Args:
        store: knows the rates of what it has measured.
        names: systems, in the order of the tables.
    """
    rates = store.rates(measured_on=describe(processor()))
    systems = {
        name: {
            "cpu_seconds_per_second": float(f"{rates['reconstruct', name]:.3g}"),
            "real_time_factor": float(f"{1 / rates['reconstruct', name]:.3g}"),
        }
        for name in dict.fromkeys(names)
        if rates.get(("reconstruct", name), 0) > 0
    }
    stages: dict[str, dict[str, float]] = {}
    for (stage, name), rate in sorted(rates.items()):
        if rate > 0:
            stages.setdefault(stage, {})[name] = float(f"{rate:.3g}")
    return {
        "systems": systems,
        "stages": stages,
        "machine": f"{describe(processor())}, {os.cpu_count()} CPUs, one thread per clip",
    }


def with_speed(table: TableResult, costs: Mapping[str, Any]) -> TableResult:
    """Table 2 with the column of real-time factors, as people are shown it; any other table as it is.

    Args:
        table: the table.
        costs: what `cost_record` gave, or was read from `cost.json`.
    """
    systems = costs.get("systems")
    speeds = {name: _real_time_factor(values) for name, values in systems.items()} if isinstance(systems, dict) else {}
    if table.name != "table2" or not any(speeds.get(row.name) for row in table.rows):
        return table
    note = f"{_SPEED.note} ({costs.get('machine', 'machine not recorded')})"
    rows = []
    for row in table.rows:
        speed = speeds.get(row.name)
        cell = Cell(reason="-") if speed is None else Cell(value=speed, n=1)
        rows.append(replace(row, cells={**row.cells, _SPEED.key: cell}))
    return replace(table, columns=[*table.columns, replace(_SPEED, note=note)], rows=rows)


def _real_time_factor(values: Any) -> float | None:
    """The factor in a record of `cost.json`; None if it is damaged."""
    try:
        found = float(values["real_time_factor"])
    except (LookupError, TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
