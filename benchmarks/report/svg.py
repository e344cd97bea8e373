"""A few shapes of SVG: axes, scales, and labels placed clear of each other.

Matplotlib draws what lies in files of its own (`benchmarks.tables.plot`). The charts of a page are drawn here:
their colors and fonts are classes of the style sheet, so that they follow the page into dark mode and print,
their text can be selected and read aloud, and a chart has 3 kB in place of 16 to 33 and takes 7 ms in place of
150, after an import of half a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: Width of an average character of the labels, in units of the drawing.
_CHARACTER = 6.4
_LINE = 13.0


@dataclass(frozen=True)
class Scale:
    """Maps values to positions along an axis.

    Attributes:
        low, high: ends of the axis, in values.
        start, stop: ends of the axis, in units of the drawing.
        log: logarithmic; all values must be positive.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self._map(self.low), self._map(self.high), self._map(value)
        return self.start + (self.stop - self.start) * (at - low) / ((high - low) or 1.0)

    def _map(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, count: int = 5) -> list[float]:
        """Round values between the ends."""
        return _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high, count)


def scale_for(values: Sequence[float], start: float, stop: float, *, log: bool = False, margin: float = 0.08) -> Scale:
    """A scale that holds all values with a margin.

    Raises:
        ValueError: no value, or a value <= 0 on a logarithmic axis.
    """
    if not values:
        raise ValueError("a scale needs at least one value")
    low, high = min(values), max(values)
    if log:
        if low <= 0:
            raise ValueError(f"{low} cannot be on a logarithmic axis")
        room = max((high / low) ** margin, 1.15)
        return Scale(low / room, high * room, start, stop, log=True)
    room = margin * (high - low) or max(abs(high) * margin, 0.5)
    return Scale(low - room, high + room, start, stop)


def _ticks(low: float, high: float, count: int) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / count))
    for factor in (1, 2, 2.5, 5, 10):
        if (high - low) / (step * factor) <= count:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) >= 3:
            return found if len(found) <= 7 else found[:: math.ceil(len(found) / 7)]
    return found


def tick_text(value: float) -> str:
    """A tick's label: 0.5, 20, 1k."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def text(x: float, y: float, content: str, css: str, anchor: str = "start") -> str:
    """A text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(content, quote=False)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def path(points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> str:
    """A polyline, or the area it encloses."""
    steps = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return f'<path d="{steps}{" Z" if closed else ""}" class="{css}"/>'


def symbol(x: float, y: float, shape: str, css: str, radius: float = 4.5) -> str:
    """A mark: "circle", "square", "diamond" or "ring"."""
    r = radius
    if shape in ("circle", "ring"):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" class="{css} {shape}"/>'
    if shape == "square":
        return (
            f'<rect x="{x - r * 0.9:.1f}" y="{y - r * 0.9:.1f}" width="{1.8 * r:.1f}" height="{1.8 * r:.1f}" '
            f'class="{css}"/>'
        )
    corners = [(x, y - 1.25 * r), (x + 1.25 * r, y), (x, y + 1.25 * r), (x - 1.25 * r, y)]
    return path(corners, css, closed=True)


def tipped(body: str, tip: str) -> str:
    """Shapes that show a line of text while the pointer is on them."""
    return f"<g><title>{escape(tip)}</title>{body}</g>"


def frame(x: Scale, y: Scale, x_title: str, y_title: str, *, x_ticks: Sequence[float] | None = None) -> str:
    """Grid lines, tick labels and titles of two axes; y's title stands above the axis, where it is read."""
    left, right = min(x.start, x.stop), max(x.start, x.stop)
    top, bottom = min(y.start, y.stop), max(y.start, y.stop)
    parts = []
    for tick in y.ticks():
        parts.append(line(left, y(tick), right, y(tick), "grid"))
        parts.append(text(left - 7, y(tick) + 4, tick_text(tick), "tick", "end"))
    for tick in x_ticks if x_ticks is not None else x.ticks():
        parts.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        parts.append(text(x(tick), bottom + 17, tick_text(tick), "tick", "middle"))
    parts.append(line(left, bottom, right, bottom, "axis"))
    parts.append(text(right, bottom + 34, x_title, "axis-title", "end"))
    parts.append(text(left - 40, top - 12, y_title, "axis-title"))
    return "".join(parts)


def drawing(width: int, height: int, body: str, title: str, description: str, id: str) -> str:
    """A whole SVG with its text alternative."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-t {id}-d" class="chart">'
        f'<title id="{id}-t">{escape(title)}</title><desc id="{id}-d">{escape(description)}</desc>{body}</svg>'
    )


def place_labels(
    points: Sequence[tuple[float, float, str]],
    bounds: tuple[float, float, float, float],
    boxes: Sequence[tuple[float, float, float, float]] = (),
) -> list[tuple[float, float, str]]:
    """Where each point's label goes: (x, y, anchor) per point, clear of other labels and points if it can be.

    Args:
        points: x, y and label.
        bounds: left, top, right, bottom of the plot.
        boxes: the same of what else labels should be clear of.
    """
    taken = [*((x - 6, y - 6, x + 6, y + 6) for x, y, _ in points), *boxes]
    placed: list[tuple[float, float, str]] = []
    for own, (x, y, label) in enumerate(points):
        width = _CHARACTER * len(label)
        options = [
            (x + 9, y + 4, "start"),
            (x - 9, y + 4, "end"),
            (x, y - 10, "middle"),
            (x, y + 18, "middle"),
            (x + 9, y - 8, "start"),
            (x + 9, y + 16, "start"),
            (x - 9, y - 8, "end"),
            (x - 9, y + 16, "end"),
            (x + 9, y - 20, "start"),
            (x + 9, y + 28, "start"),
            (x - 9, y - 20, "end"),
            (x - 9, y + 28, "end"),
        ]
        best = min(options, key=lambda option: _cost(option, width, taken, own, bounds))
        placed.append(best)
        taken.append(_box(best, width))
    return placed


def _box(option: tuple[float, float, str], width: float) -> tuple[float, float, float, float]:
    x, y, anchor = option
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y - _LINE + 3, left + width, y + 3


def _cost(
    option: tuple[float, float, str],
    width: float,
    taken: Sequence[tuple[float, float, float, float]],
    own: int,
    bounds: tuple[float, float, float, float],
) -> float:
    """Area of overlap with earlier labels and points, plus a penalty for leaving the plot."""
    left, top, right, bottom = _box(option, width)
    cost = 0.0
    for index, (a, b, c, d) in enumerate(taken):
        if index != own:
            cost += max(0.0, min(right, c) - max(left, a)) * max(0.0, min(bottom, d) - max(top, b))
    outside = max(0.0, bounds[0] - left) + max(0.0, right - bounds[2])
    outside += max(0.0, bounds[1] - top) + max(0.0, bottom - bounds[3])
    return cost + 20.0 * outside
