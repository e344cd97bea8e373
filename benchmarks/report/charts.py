"""Quality against compression and against speed, Figure 2, and the spread of a system's scores over clips.

Up is better in every plot: the axis of a distance is reversed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.evaluation.cells import Column, Row
from benchmarks.report import svg
from benchmarks.report.tables import contests, slug, tag_of
from benchmarks.report.wording import count, interval, show
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import read_number

#: Bits a second of what a codec compresses: 16-bit mono at 44.1 kHz.
PCM_KBITS = 705.6

_WIDTH, _HEIGHT = 400, 316
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 388, 30, 266


@dataclass(frozen=True)
class Chart:
    """A drawing with its numbers.

    Attributes:
        id, title: for the page.
        metric: key of the metric on the y axis.
        svg: the drawing; empty when nothing can be drawn.
        header, rows: the same numbers as a table.
        left_out: "name: reason" of what is not in the drawing.
    """

    id: str
    title: str
    metric: str
    svg: str
    header: list[str]
    rows: list[list[str]]
    left_out: list[str]


@dataclass(frozen=True)
class _Point:
    label: str
    x: float
    y: float
    low: float | None
    high: float | None
    shape: str


@dataclass(frozen=True)
class _Step:
    """A point of a curve: at `n` denoising steps, or at `n` kbit/s; `tip` is said of it."""

    n: float
    value: float
    low: float | None
    high: float | None
    tip: str = ""


def compression_charts(table: TableResult) -> list[Chart]:
    """One chart per metric: quality against the compression ratio of each system."""
    return [
        _scatter(table, column, "compression", "compression ratio (log)", _compression, "compression ratio")
        for column in _measured_columns(table)
    ]


def speed_charts(table: TableResult, cost: Mapping[str, Any] | None) -> list[Chart]:
    """One chart per metric: quality against times real time on one CPU thread; none without `cost.json`."""
    systems = (cost or {}).get("systems", {})
    if not systems:
        return []

    def speed(row: Row) -> tuple[float, str] | str:
        found = systems.get(row.name, {}).get("real_time_factor")
        return (float(found), "circle") if found else "its speed was not measured"

    return [
        _scatter(table, column, "speed", "times real time, one CPU thread (log)", speed, "times real time")
        for column in _measured_columns(table)
    ]


def _measured_columns(table: TableResult) -> list[Column]:
    found = []
    for column in contests(table.columns):
        values = [row.cells[column.key].value for row in table.rows if column.key in row.cells]
        if any(value is not None and math.isfinite(value) for value in values):
            found.append(column)
    return found


def _compression(row: Row) -> tuple[float, str] | str:
    ratio, rate = (row.cells.get(key) for key in ("compression_ratio", "bitrate"))
    if ratio is not None and ratio.value:
        return ratio.value, "circle"
    if rate is not None and rate.value:
        return PCM_KBITS / rate.value, "square"
    return "its compression is not known"


def _scatter(table: TableResult, column: Column, kind: str, x_title: str, x_of: Any, x_short: str) -> Chart:
    points: list[_Point] = []
    left_out: list[str] = []
    partial = table.partial()
    for row in table.rows:
        cell = row.cells.get(column.key)
        name = row.title or row.name
        if cell is None or cell.value is None:
            left_out.append(f"{name}: not measured")
            continue
        if tag_of(row) == "control" or not math.isfinite(cell.value):
            left_out.append(f"{name}: a control" if tag_of(row) == "control" else f"{name}: {show(cell.value, 0)}")
            continue
        if (row.name, column.key) in partial:
            left_out.append(f"{name}: measured on {partial[row.name, column.key]}")
            continue
        at = x_of(row)
        if isinstance(at, str):
            left_out.append(f"{name}: {at}")
            continue
        shape = "ring" if tag_of(row) == "untrained" else at[1]
        points.append(_Point(name, at[0], cell.value, cell.low, cell.high, shape))
    id = f"{kind}-{slug(column.key)}"
    what = {"compression": "compression", "speed": "speed"}[kind]
    title = f"{column.title} against {what}"
    header = ["", x_short, column.title, "interval"]
    rows = [[p.label, f"{p.x:.3g}", show(p.y, column.digits), interval(p.low, p.high, column.digits)] for p in points]
    drawn = _draw_scatter(points, column, x_title, title, id) if points else ""
    return Chart(id, title, column.key, drawn, header, rows, left_out)


def _draw_scatter(points: Sequence[_Point], column: Column, x_title: str, title: str, id: str) -> str:
    x = svg.scale_for([p.x for p in points], _LEFT, _RIGHT, log=True, margin=0.12)
    y = _quality_scale([v for p in points for v in (p.y, p.low, p.high) if v is not None], column, _TOP, _BOTTOM)
    body = [svg.frame(x, y, x_title, _quality_title(column))]
    placed = svg.place_labels([(x(p.x), y(p.y), p.label) for p in points], (_LEFT - 6, _TOP - 4, _RIGHT + 10, _BOTTOM))
    for p, (label_x, label_y, anchor) in zip(points, placed, strict=True):
        marks = svg.symbol(x(p.x), y(p.y), p.shape, "point")
        if p.low is not None and p.high is not None:
            low, high = (min(max(v, min(y.low, y.high)), max(y.low, y.high)) for v in (p.low, p.high))
            marks = svg.line(x(p.x), y(low), x(p.x), y(high), "whisker") + marks
        bounds = interval(p.low, p.high, column.digits)
        body.append(svg.tipped(marks, f"{p.label}: {column.title} {show(p.y, column.digits)} {bounds} at {p.x:.3g}"))
        body.append(svg.text(label_x, label_y, p.label, "label", anchor))
    described = "; ".join(f"{p.label} {show(p.y, column.digits)} at {p.x:.3g}" for p in points)
    return svg.drawing(_WIDTH, _HEIGHT, "".join(body), title, f"{x_title}. {described}.", id)


def _quality_scale(values: Sequence[float], column: Column, top: float, bottom: float) -> svg.Scale:
    """Up is better; distances over more than a decade and a half are on a logarithmic axis."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    wide = bool(positive) and max(positive) / min(positive) > 30
    if not column.higher_is_better and wide and min(finite) >= 0:
        # An interval may touch 0: it is cut at a tenth of the smallest positive value.
        return svg.scale_for(positive, top, bottom, log=True, margin=0.06)
    start, stop = (bottom, top) if column.higher_is_better else (top, bottom)
    return svg.scale_for(finite, start, stop)


def _quality_title(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return (
        f"↑ {column.title.replace('_', ' ')}{unit}, "
        + ("higher" if column.higher_is_better else "lower")
        + " is better"
    )


def figure2_charts(record: Mapping[str, Any] | None) -> list[Chart]:
    """One chart per metric with a point: quality against the number of denoising steps."""
    charts = []
    for column in [Column(**column) for column in (record or {}).get("columns", [])]:
        curves = {system: metrics.get(column.key, []) for system, metrics in (record or {})["curves"].items()}
        charts.append(_steps_chart(column, curves, (record or {})["steps"]))
    return charts


def _steps_chart(column: Column, curves: Mapping[str, Sequence[Mapping[str, Any]]], steps: Sequence[int]) -> Chart:
    id, title = f"steps-{slug(column.key)}", f"{column.title} against denoising steps"
    measured: dict[str, list[_Step]] = {}
    left_out: list[str] = []
    rows = []
    for system, points in curves.items():
        for record in points:
            value, low, high = (read_number(record.get(name)) for name in ("value", "low", "high"))
            if value is None or not math.isfinite(value):
                line = f"{system}: {record.get('reason') or 'not measured'}"
                left_out += [line] if line not in left_out else []
                continue
            bounds = interval(low, high, column.digits)
            shown, n = show(value, column.digits), count(record["n_steps"], "step")
            tip = f"{system}: {column.title} {shown} {bounds} at {n}, {count(record['n'], 'clip')}"
            measured.setdefault(system, []).append(_Step(record["n_steps"], value, low, high, tip))
            rows.append([system, str(record["n_steps"]), shown, bounds, count(record["n"], "clip")])
    header = ["", "steps", column.title, "interval", "n"]
    drawn = _draw_steps(measured, column, steps, title, id) if measured else ""
    return Chart(id, title, column.key, drawn, header, rows, left_out)


def _draw_steps(
    measured: Mapping[str, Sequence[_Step]], column: Column, steps: Sequence[int], title: str, id: str
) -> str:
    width, height, left, right, top, bottom = 380, 280, 46, 366, 30, 232
    x = svg.Scale(min(steps) - 0.2, max(steps) + 0.2, left, right)
    values = [v for curve in measured.values() for p in curve for v in (p.value, p.low, p.high)]
    y = _quality_scale([v for v in values if v is not None], column, top, bottom)
    body = [svg.frame(x, y, "denoising steps", _quality_title(column), x_ticks=[float(s) for s in steps])]
    lines, bands = [], []
    for index, curve in enumerate(measured.values()):
        css = f"series-{index % 6 + 1}"
        # An interval may start at 0, which a logarithmic axis does not have.
        lower = [(x(p.n), y(max(p.low, y.low))) for p in curve if p.low is not None]
        upper = [(x(p.n), y(max(p.high, y.low))) for p in curve if p.high is not None]
        if len(lower) == len(upper) == len(curve):
            bands.append(svg.path([*upper, *reversed(lower)], f"band {css}", closed=True))
        lines.append(svg.path([(x(p.n), y(p.value)) for p in curve], f"curve {css}"))
        lines += [svg.tipped(svg.symbol(x(p.n), y(p.value), "circle", f"dot {css}", 3.4), p.tip) for p in curve]
    body += [*bands, *lines, *_curve_names(measured, x, y, (left, top - 6, right + 4, bottom))]
    described = "; ".join(
        f"{name}: " + ", ".join(f"{p.n} {show(p.value, column.digits)}" for p in curve)
        for name, curve in measured.items()
    )
    return svg.drawing(width, height, "".join(body), title, f"Value by number of steps. {described}.", id)


def rate_charts(record: Mapping[str, Any] | None) -> list[Chart]:
    """One chart per metric: quality against the bit rate that was spent, a curve per family of systems."""
    return [
        _rate_chart(column, {name: metrics.get(column.key, []) for name, metrics in (record or {})["curves"].items()})
        for column in (Column(**column) for column in (record or {}).get("columns", []))
    ]


def _rate_chart(column: Column, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Chart:
    id, title = f"rate-{slug(column.key)}", f"{column.title} against bit rate"
    measured: dict[str, list[_Step]] = {}
    left_out: list[str] = []
    rows = []
    for family, points in curves.items():
        for record in points:
            spent, value, low, high = (read_number(record.get(name)) for name in ("kbits", "value", "low", "high"))
            name = str(record["system"])
            if value is None or not math.isfinite(value) or spent is None or not 0 < spent < math.inf:
                left_out.append(f"{name}: {record.get('reason') or 'not measured'}")
                continue
            shown, bounds = show(value, column.digits), interval(low, high, column.digits)
            tip = f"{name}: {column.title} {shown} {bounds} at {spent:.1f} kbit/s, {count(record['n'], 'clip')}"
            measured.setdefault(family, []).append(_Step(spent, value, low, high, tip))
            rows.append([name, f"{spent:.1f}", shown, bounds, count(record["n"], "clip")])
    header = ["", "kbit/s", column.title, "interval", "n"]
    return Chart(
        id, title, column.key, _draw_rate(measured, column, title, id) if measured else "", header, rows, left_out
    )


def _draw_rate(measured: Mapping[str, Sequence[_Step]], column: Column, title: str, id: str) -> str:
    points = [p for curve in measured.values() for p in curve]
    x = svg.scale_for([p.n for p in points], _LEFT, _RIGHT, log=True, margin=0.12)
    y = _quality_scale([v for p in points for v in (p.value, p.low, p.high) if v is not None], column, _TOP, _BOTTOM)
    body = [svg.frame(x, y, "kbit/s, measured (log)", _quality_title(column))]
    for index, curve in enumerate(measured.values()):
        css = f"series-{index % 6 + 1}"
        body.append(svg.path([(x(p.n), y(p.value)) for p in curve], f"curve {css}"))
        for p in curve:
            marks = svg.symbol(x(p.n), y(p.value), "circle", f"dot {css}", 4)
            if p.low is not None and p.high is not None:
                ends = (y(min(max(end, min(y.low, y.high)), max(y.low, y.high))) for end in (p.low, p.high))
                marks = svg.line(x(p.n), next(ends), x(p.n), next(ends), "whisker") + marks
            body.append(svg.tipped(marks, p.tip))
    body += _curve_names(measured, x, y, (_LEFT - 6, _TOP - 4, _RIGHT + 10, _BOTTOM))
    return svg.drawing(_WIDTH, _HEIGHT, "".join(body), title, "; ".join(p.tip for p in points) + ".", id)


def _curve_names(
    measured: Mapping[str, Sequence[_Step]], x: svg.Scale, y: svg.Scale, bounds: tuple[float, float, float, float]
) -> list[str]:
    """Each curve's name near its last point, clear of all curves and whiskers."""
    ends, others, whiskers = [], [], []
    for name, curve in measured.items():
        at = [(x(p.n), y(p.value)) for p in curve]
        ends.append((*at[-1], name))
        others += [(*point, "") for point in at[:-1]]
        for p in curve:
            if p.low is not None and p.high is not None:
                top, bottom = sorted((y(p.low), y(p.high)))
                whiskers.append((x(p.n) - 2, top, x(p.n) + 2, bottom))
        for share in (0.25, 0.5, 0.75):
            others += [(a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), "") for a, b in pairwise(at)]
    placed = svg.place_labels([*ends, *others], bounds, whiskers)
    return [
        svg.text(label_x, label_y, end[2], f"label series-{index % 6 + 1}-text", anchor)
        for index, (end, (label_x, label_y, anchor)) in enumerate(zip(ends, placed, strict=False))
    ]


def strip_chart(values: Mapping[str, float], column: Column, id: str) -> str:
    """Every clip's score of one system as a dot on a line, with the mean; "" without finite values."""
    finite = {clip: value for clip, value in values.items() if math.isfinite(value)}
    if len(finite) < 2:
        return ""
    width, left, right, middle = 400, 14, 386, 34
    x = svg.scale_for(list(finite.values()), left, right)
    mean = sum(finite.values()) / len(finite)
    body = [svg.line(left, middle + 18, right, middle + 18, "axis")]
    for tick in x.ticks(6):
        body.append(svg.line(x(tick), middle + 18, x(tick), middle + 22, "axis"))
        body.append(svg.text(x(tick), middle + 35, svg.tick_text(tick), "tick", "middle"))
    stacked: dict[int, int] = {}
    for value in sorted(finite.values()):
        cell = round(x(value) / 7)
        level = stacked.get(cell, 0)
        stacked[cell] = level + 1
        body.append(svg.symbol(x(value), middle + 10 - min(level, 5) * 6, "circle", "clip-dot", 3.0))
    body.append(svg.line(x(mean), 6, x(mean), middle + 18, "mean"))
    anchor = "start" if x(mean) < 0.7 * right else "end"
    nudge = 5 if anchor == "start" else -5
    body.append(svg.text(x(mean) + nudge, 13, f"mean {show(mean, column.digits)}", "tick", anchor))
    low, high = min(finite.values()), max(finite.values())
    title = f"{column.title} of each clip"
    text = f"{count(len(finite), 'clip')} from {show(low, column.digits)} to {show(high, column.digits)}"
    return svg.drawing(width, 76, "".join(body), title, f"{text}, mean {show(mean, column.digits)}.", id)
