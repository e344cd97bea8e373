"""Figure 2: quality of reconstructions against the number of denoising steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.evaluation.cells import Cell, Column
from benchmarks.evaluation.measure import measure
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.base import Executor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.harness.units import Unit, fetch
from benchmarks.store.fingerprint import digest, module_digest
from benchmarks.store.store import Result, Store
from benchmarks.suite import Suite, SuiteError
from benchmarks.tables.columns import metric_columns, provenance
from benchmarks.tables.plot import subplots, svg_text, title_of
from benchmarks.tables.text import json_text, markdown_table, number_text, write_if_changed


@dataclass(frozen=True)
class FigureResult:
    """Curves of a figure: `curves[system][metric]` holds one point per number of steps, or a reason."""

    name: str
    title: str
    suite: str
    columns: list[Column]
    steps: list[int]
    curves: dict[str, dict[str, list[dict[str, Any]]]]
    comparisons: list[dict[str, Any]]
    provenance: dict[str, Any] = field(default_factory=dict)

    #: What draws the figure's JSON.
    drawing: ClassVar[str] = "benchmarks.tables.figure2:draw_unit"

    def to_json(self) -> str:
        """Everything, with sorted keys."""
        return json_text(asdict(self))

    @property
    def measured(self) -> bool:
        """Whether there is any point to draw."""
        return any(
            point["value"] is not None
            for metrics in self.curves.values()
            for points in metrics.values()
            for point in points
        )

    def write(self, folder: str | Path, store: Store, stem: str = "") -> list[Path]:
        """Write `<stem>.json` and, when there is a point to draw, `<stem>.svg`; returns the paths."""
        stem = stem or self.name
        json_path, svg_path = Path(folder) / f"{stem}.json", Path(folder) / f"{stem}.svg"
        text = self.to_json()
        write_if_changed(json_path, text)
        if not self.measured:
            return [json_path]
        # The drawing is a unit like any other: drawn once per content, so an unchanged run imports no plotter.
        spec = {
            "figure": digest(json.loads(text)),
            "code": [module_digest(name) for name in (self.drawing.partition(":")[0], "benchmarks.tables.plot")],
            "matplotlib": version("matplotlib"),
        }
        unit = Unit("draw", self.name, self.drawing, spec, payload=text)
        svg = fetch(unit, store).arrays["svg"].tobytes().decode()
        write_if_changed(svg_path, svg)
        return [json_path, svg_path]

    def to_markdown(self) -> str:
        """The figure's numbers, for the terminal."""
        header = ["", *(column.heading for column in self.columns)]
        body, reasons = [], []
        for system, metrics in self.curves.items():
            for index, steps in enumerate(self.steps):
                cells = []
                for column in self.columns:
                    point = metrics[column.key][index]
                    value = point["value"]
                    text = number_text(value, column.digits)
                    left_out = point.get("left_out", {})
                    cells.append(f"{text} (n = {point['n']})" if left_out and value is not None else text)
                    said = [point["reason"], *(f"{n} left out: {why}" for why, n in left_out.items())]
                    for reason in (f"{column.title}: {why}" for why in said if why):
                        if reason not in reasons:
                            reasons.append(reason)
                body.append([f"{system}, {steps} step{'s' if steps > 1 else ''}", *cells])
        lines = [f"### {self.title}", "", markdown_table(header, body), ""]
        return "\n".join([*lines, *(f"– {reason}  " for reason in reasons)]).rstrip() + "\n"


def point_of(cell: Cell) -> dict[str, Any]:
    """A cell as a point of a figure."""
    left_out = {"left_out": dict(cell.failures)} if cell.failures else {}
    return {name: getattr(cell, name) for name in ("value", "low", "high", "n", "reason")} | left_out


def build(suite: Suite, store: Store, executor: Executor, options: RunOptions) -> tuple[FigureResult, RunReport]:
    """Measure what is missing and return Figure 2.

    Raises:
        SuiteError: the suite has no [figure2], or names an unknown system or metric.
    """
    section = suite.figure2
    if section is None:
        raise SuiteError(f"suite {suite.name!r} has no [figure2]")
    planner = Planner(suite, options, n_clips=section.clips)
    wanted = [(name, steps) for name in section.systems for steps in section.steps]
    measured = measure(planner, store, executor, wanted, section.metrics)
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row, (name, steps) in zip(measured.rows, wanted, strict=True):
        for metric in section.metrics:
            point = {"n_steps": steps} | point_of(measured.cells[row.label, metric.name])
            curves.setdefault(name, {}).setdefault(metric.name, []).append(point)
    figure = FigureResult(
        name="figure2",
        title=f"Figure 2. Quality against denoising steps ({suite.title or suite.name}, {measured.description})",
        suite=suite.name,
        columns=metric_columns(section.metrics, measured.cells),
        steps=list(section.steps),
        curves=curves,
        comparisons=measured.comparisons,
        provenance=provenance(suite, measured),
    )
    return figure, measured.report


def draw_unit(unit: Unit, store: Store) -> Result:
    """The SVG of a figure; payload: its JSON."""
    svg = draw(json.loads(unit.payload))
    return Result(arrays={"svg": np.frombuffer(svg.encode(), dtype=np.uint8)})


def draw(record: Mapping[str, Any]) -> str:
    """SVG text of a figure's JSON: one panel per metric that has a point. The same bytes every time."""
    columns = [
        column
        for column in record["columns"]
        if any(p["value"] is not None for m in record["curves"].values() for p in m[column["key"]])
    ]
    with subplots(1, len(columns), 2.8 * len(columns), 2.6) as (figure, axes):
        for axis, column in zip(axes[0], columns, strict=True):
            for system, metrics in record["curves"].items():
                points = [p for p in metrics[column["key"]] if isinstance(p["value"], (int, float))]
                steps = [p["n_steps"] for p in points]
                values = [p["value"] for p in points]
                if all(isinstance(p["low"], (int, float)) for p in points):
                    low, high = [p["low"] for p in points], [p["high"] for p in points]
                    axis.fill_between(steps, low, high, alpha=0.18, linewidth=0)
                axis.plot(steps, values, marker="o", markersize=3.5, linewidth=1.4, label=system)
            better = column["higher_is_better"]
            axis.set_title(title_of(column["title"], better), fontsize=9)
            axis.set_xlabel("denoising steps")
            axis.set_xticks(record["steps"])
            axis.grid(alpha=0.25, linewidth=0.6)
        if columns and record["curves"]:
            axes[0][0].legend(frameon=False, fontsize=8)
        return svg_text(figure)
