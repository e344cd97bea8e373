"""What a table is made of: columns, rows, and cells with a value and its interval, or the reason why there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m2l.io.cache import cache_dir

#: Reason of a cell whose units have not run.
NOT_COMPUTED = "not computed yet"


@dataclass(frozen=True)
class Column:
    """A column of measured values.

    Attributes:
        key: name in JSON and CSV.
        title: heading; may hold Markdown.
        higher_is_better: None for columns that are no contest (parameters, rates).
        digits: decimals shown in Markdown and LaTeX; JSON and CSV keep full precision.
        unit: shown after the title.
        note: one line below the table that says what exactly is measured.
    """

    key: str
    title: str
    higher_is_better: bool | None = None
    digits: int = 2
    unit: str = ""
    note: str = ""

    @property
    def heading(self) -> str:
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return f"{self.title}{f' ({self.unit})' if self.unit else ''}{arrow}"


@dataclass(frozen=True)
class Cell:
    """One measured value, or the reason why there is none.

    Attributes:
        value: mean (or corpus value); None when not measured.
        n: items behind the value.
        median, low, high: median, and the 95 % interval, where there is one.
        failures: reason -> number of items that could not be measured.
        reason: why there is no value.
        details: anything else worth keeping in the JSON.
    """

    value: float | None = None
    n: int = 0
    median: float | None = None
    low: float | None = None
    high: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One system (or representation): its cells by column key, and its metadata."""

    name: str
    cells: Mapping[str, Cell]
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class PublishedRow:
    """A row of figures that somebody else reported; never mixed with measured ones."""

    name: str
    values: Mapping[str, float]
    source: str
    note: str = ""


def tidy(reason: str) -> str:
    """A reason without this machine's folders, so that equal results have equal bytes everywhere."""
    places = {str(cache_dir()): "<cache>", os.path.expanduser("~"): "~"}
    if data := os.environ.get("M2L_DATA"):
        places = {data.rstrip("/"): "$M2L_DATA", **places}
    for place, name in places.items():
        if len(place) > 1:
            reason = reason.replace(place, name)
    return reason
