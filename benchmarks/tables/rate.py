"""Quality against the bit rate that systems really spent: the figure `rate` of a suite."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.evaluation.measure import measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.harness.units import Unit
from benchmarks.store.store import Result, Store
from benchmarks.suite import Suite, SuiteError
from benchmarks.tables.columns import metric_columns, provenance
from benchmarks.tables.figure2 import FigureResult, point_of
from benchmarks.tables.plot import subplots, svg_text, title_of
from benchmarks.tables.text import json_text, markdown_table, number_text

#: Reason of a system that the figure has no place for.
NO_RATE = "it has no bit rate: its latents are numbers, not codes"


@dataclass(frozen=True)
class RateFigure(FigureResult):
    """Curves of metrics against kbit/s: `curves[family][metric]` holds a point per system, by rate.

    A family are systems whose names differ in a rate or a number of codebooks (`family_of`). A point's `kbits` is the
    median over clips of what was spent, `kbits_range` the least and the most.
    """

    drawing: ClassVar[str] = "benchmarks.tables.rate:draw_unit"

    def to_json(self) -> str:
        """Everything, with sorted keys."""
        return json_text({key: value for key, value in asdict(self).items() if key != "steps"})

    def to_markdown(self) -> str:
        """The figure's numbers, for the terminal."""
        body: list[list[str]] = []
        reasons: dict[str, None] = {}
        for metrics in self.curves.values():
            for points in zip(*metrics.values(), strict=True):
                spent = points[0]["kbits"]
                cells = [number_text(p["value"], c.digits) for p, c in zip(points, self.columns, strict=True)]
                body.append([points[0]["system"], number_text(spent, 1, absent="–"), *cells])
                reasons |= dict.fromkeys(f"{p['system']}: {p['reason']}" for p in points if p["reason"])
        header = ["", "kbit/s", *(column.heading for column in self.columns)]
        lines = [f"### {self.title}", "", markdown_table(header, body), ""]
        return "\n".join([*lines, *(f"– {reason}  " for reason in reasons)]).rstrip() + "\n"


def family_of(label: str) -> str:
    """The label without its rate or number of codebooks: "opus" for "opus-24k", "mimi" for "mimi-8q"."""
    return re.sub(r"-\d+(\.\d+)?[kq]$", "", label) or label


def build(suite: Suite, store: Store, executor: Executor, options: RunOptions) -> tuple[RateFigure, RunReport]:
    """Measure what is missing and return the figure.

    Raises:
        SuiteError: the suite has no [rate], or names an unknown system or metric.
    """
    section = suite.rate
    if section is None:
        raise SuiteError(f"suite {suite.name!r} has no [rate]")
    planner = Planner(suite, options, n_clips=section.clips)
    wanted = [(name, None) for name in section.systems]
    measured = measure(planner, store, executor, wanted, section.metrics, section.system_options)
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in measured.rows:
        spent = measured.metadata.get(row.label, {})
        rate, ends = spent.get("bitrate"), spent.get("bitrate_range")
        about = {
            "system": row.label,
            "kbits": None if rate is None else rate / 1000,
            "kbits_range": None if ends is None else [end / 1000 for end in ends],
        }
        for metric in section.metrics:
            point = about | point_of(measured.cells[row.label, metric.name])
            if rate is None and point["reason"] is None:
                point["reason"] = NO_RATE
            curves.setdefault(family_of(row.label), {}).setdefault(metric.name, []).append(point)
    for metrics in curves.values():
        for points in metrics.values():
            points.sort(key=lambda point: (point["kbits"] is None, point["kbits"] or 0.0, point["system"]))
    figure = RateFigure(
        name="rate",
        title=f"Quality against bit rate ({suite.title or suite.name}, {measured.description})",
        suite=suite.name,
        columns=metric_columns(section.metrics, measured.cells),
        steps=[],
        curves=curves,
        comparisons=measured.comparisons,
        provenance=provenance(suite, measured),
    )
    return figure, measured.report


def placed(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that have both a rate and a value."""
    return [p for p in points if isinstance(p["kbits"], (int, float)) and isinstance(p["value"], (int, float))]


def draw_unit(unit: Unit, store: Store) -> Result:
    """The SVG of the figure; payload: its JSON."""
    svg = draw(json.loads(unit.payload))
    return Result(arrays={"svg": np.frombuffer(svg.encode(), dtype=np.uint8)})


def draw(record: Mapping[str, Any]) -> str:
    """SVG text of the figure's JSON: one panel per metric that has a point. The same bytes every time."""
    from matplotlib.ticker import LogLocator, NullLocator

    curves = record["curves"]
    columns = [column for column in record["columns"] if any(placed(m[column["key"]]) for m in curves.values())]
    with subplots(1, max(1, len(columns)), 2.8 * max(1, len(columns)), 2.6) as (figure, axes):
        for axis, column in zip(axes[0], columns, strict=False):
            for number, (family, metrics) in enumerate(curves.items()):
                points = placed(metrics[column["key"]])
                at, values = [p["kbits"] for p in points], [p["value"] for p in points]
                color = f"C{number % 10}"
                if points:
                    axis.plot(at, values, marker="o", markersize=3.5, linewidth=1.4, color=color, label=family)
                for p in points:
                    if isinstance(p["low"], (int, float)) and isinstance(p["high"], (int, float)):
                        axis.vlines(p["kbits"], p["low"], p["high"], color=color, linewidth=1, alpha=0.5)
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_locator(NullLocator())
            axis.set_title(title_of(column["title"], column["higher_is_better"]), fontsize=9)
            axis.set_xlabel("kbit/s, measured")
            axis.grid(alpha=0.25, linewidth=0.6)
        if columns and curves:
            axes[0][0].legend(frameon=False, fontsize=8)
        return svg_text(figure)
