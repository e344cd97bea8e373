"""How much of the committed results a run reproduces, cell by cell, within the gate's tolerances."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from benchmarks.gate.judge import BETTER, SAME, compare
from benchmarks.gate.policy import PolicyError
from benchmarks.gate.record import RecordError
from benchmarks.gate.render import message
from benchmarks.gate.results import read_results
from benchmarks.metrics.base import Metric
from benchmarks.tables.values import read_values

#: Costs are counted, not estimated: bit rates of codecs may differ in a byte or two on another processor.
_COST_SHARE = 1e-3
_LISTED = 40


def reproduction_lines(
    reference: Path, measured: Path, tables: Collection[str], metrics: Mapping[str, Metric] | None = None
) -> list[str]:
    """The closing lines of a run: how many cells of the reference's tables it reproduces, and which it does not.

    A change for the better is a change here too.

    Raises:
        OSError, RecordError: results that cannot be read.
    """
    try:
        pinned = read_results(reference).pinned(None, {})
        report = compare(pinned, read_results(measured), strict=True, only=tables, metrics=metrics)
    except (PolicyError, ValueError) as error:
        raise RecordError(f"{reference}: {error}") from None
    total = len(report.verdicts)
    within = len(report.of(SAME))
    others = [
        message(item).replace(" changed by ", " is better by ") if item.verdict == BETTER else message(item)
        for item in report.verdicts
        if item.verdict != SAME
    ]
    for table in sorted(tables):
        now = read_values(measured / f"{table}.json")
        judged = {(item.system, item.metric) for item in report.verdicts if item.table == table}
        for key, value in read_values(reference / f"{table}.json").items():
            if key in judged:
                continue
            total += 1
            if key in now and math.isclose(now[key], value, rel_tol=_COST_SHARE, abs_tol=1e-9):
                within += 1
            else:
                got = f"{now[key]:g}" if key in now else "nothing"
                others.append(f"{table} {key[0]}: {key[1]} from {value:g} to {got}")
    lines = [f"reproduces {reference}: {within} of {total} cells within tolerance"]
    lines += [f"  {text}" for text in others[:_LISTED]]
    if len(others) > _LISTED:
        lines.append(f"  and {len(others) - _LISTED} more: m2l-bench gate --strict lists them")
    if others:
        lines += [f"  {note}" for note in report.notes]
    return lines
