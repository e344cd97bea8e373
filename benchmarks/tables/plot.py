"""SVG drawings by matplotlib: the same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STYLE = {
    "svg.hashsalt": "m2l",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def subplots(rows: int, columns: int, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure with its axes `(rows, columns)`, in inches; closed at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.style.context("default"), matplotlib.rc_context(_STYLE):
        figure, axes = pyplot.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
        try:
            yield figure, axes
        finally:
            pyplot.close(figure)


def title_of(heading: str, higher_is_better: bool) -> str:
    """The title of a panel: the metric, and which direction is better."""
    return f"{heading} ({'higher' if higher_is_better else 'lower'} is better)"


def svg_text(figure: Any) -> str:
    """A figure as SVG; call it before the figure is closed."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "m2l"})
    return buffer.getvalue()
