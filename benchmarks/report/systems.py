"""A page per system: what it is, its cells, how it differs from every other, its clips from worst to best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.evaluation.cells import Column, Row
from benchmarks.report.aggregates import Aggregates
from benchmarks.report.charts import strip_chart
from benchmarks.report.marks import Comparisons, verdict
from benchmarks.report.tables import CellView, ColumnView, TableView, contests, slug, tag_of
from benchmarks.report.wording import interval, show
from benchmarks.tables.table import TableResult


@dataclass
class Measured:
    """A system's row in one table: headings with cells, and the reasons behind absent ones."""

    table: TableView
    title: str
    cells: list[tuple[ColumnView, CellView]]


@dataclass
class Versus:
    """A system against another: per metric (text, verdict in words, sort)."""

    name: str
    href: str
    cells: list[tuple[str, str, float | None]]


@dataclass
class SystemPage:
    """What a system's template shows."""

    name: str
    label: str
    tag: str
    href: str
    available: bool
    reason: str
    metadata: list[tuple[str, str]]
    measured: list[Measured]
    versus_columns: list[ColumnView]
    versus: list[Versus]
    strips: list[tuple[Column, str]]
    clip_columns: list[Column]
    clips: list[tuple[str, str, list[tuple[str, float | None]]]]
    in_figure2: bool


def page_addresses(found: Aggregates) -> dict[str, str]:
    """Row name -> file name of its page, for all systems of Tables 2 and 3; names never collide."""
    pages: dict[str, str] = {}
    for name in ("table2", "table3"):
        for row in found.tables[name].rows if name in found.tables else ():
            if row.name in pages:
                continue
            base = slug(row.name)
            taken = {address.lower() for address in pages.values()}
            stem, extra = base, 2
            while f"{stem}.html".lower() in taken:
                stem, extra = f"{base}-{extra}", extra + 1
            pages[row.name] = f"{stem}.html"
    return pages


def pages_for_table1(found: Aggregates, pages: Mapping[str, str]) -> dict[str, str]:
    """Representations that belong to a system with a page: `music2latent@latents` to `music2latent`."""
    table = found.tables.get("table1")
    rows = [row.name for row in table.rows] if table else []
    return {name: pages[head] for name in rows if (head := name.partition("@")[0]) in pages}


def system_pages(
    found: Aggregates, views: Mapping[str, TableView], pages: Mapping[str, str], heard: Mapping[str, str]
) -> list[SystemPage]:
    """All system pages.

    Args:
        found: the results.
        views: table name -> its view.
        pages: row name -> file name.
        heard: clip id -> its id on the listening page.
    """
    made = []
    for name, href in pages.items():
        table, row = _home(found, name)
        page = SystemPage(
            name=name,
            label=row.title or row.name,
            tag=tag_of(row),
            href=href,
            available=row.metadata.get("available") is not False,
            reason=str(row.metadata.get("reason", "")),
            metadata=_metadata(row),
            measured=[
                Measured(view, row_view.label, list(zip(view.columns, row_view.cells, strict=True)))
                for view in views.values()
                for row_view in view.rows
                if row_view.name.partition("@")[0] == name.partition("@")[0]
            ],
            versus_columns=[],
            versus=[],
            strips=[],
            clip_columns=[],
            clips=[],
            in_figure2=name in ((found.figure2 or {}).get("curves", {})),
        )
        _add_versus(page, table, views[table.name], pages)
        _add_clips(page, table, heard)
        made.append(page)
    return made


def _home(found: Aggregates, name: str) -> tuple[TableResult, Row]:
    for table_name in ("table2", "table3"):
        if table_name in found.tables:
            for row in found.tables[table_name].rows:
                if row.name == name:
                    return found.tables[table_name], row
    raise KeyError(name)


_FACTS = (
    ("source", "Source"),
    ("license", "License"),
    ("weights_sha256", "Weights, sha256"),
    ("sample_rate", "Own sample rate"),
    ("channels", "Channels"),
    ("n_steps", "Denoising steps"),
    ("options", "Options"),
    ("training_datasets", "Training data"),
    ("bitrate_range", "Bit rate over clips"),
)
_CHANNELS = {"mono": "folds to mono", "stereo": "stereo", "per_channel": "each channel on its own"}


def _metadata(row: Row) -> list[tuple[str, str]]:
    found = []
    for key, title in _FACTS:
        value: Any = row.metadata.get(key)
        if value in (None, "", [], {}):
            continue
        if key == "sample_rate":
            text = f"{value:,} Hz".replace(",", "\u202f")
        elif key == "channels":
            text = _CHANNELS.get(str(value), str(value))
        elif key == "options":
            text = ", ".join(f"{name} = {_short(option)}" for name, option in value.items())
        elif key == "training_datasets":
            text = ", ".join(value)
        elif key == "bitrate_range":
            text = f"{value[0] / 1e3:.1f} to {value[1] / 1e3:.1f} kbit/s, measured from the bytes"
        else:
            text = str(value)
        found.append((title, text))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _add_versus(page: SystemPage, table: TableResult, view: TableView, pages: Mapping[str, str]) -> None:
    """Differences to every other row, in the unit of the metric, better first in words."""
    comparisons = Comparisons(table)
    columns = [c for c in contests(table.columns) if c.key in comparisons.columns]
    by_key = {column.key: column for column in view.columns}
    page.versus_columns = [by_key[column.key] for column in columns]
    for row in table.rows:
        cells: list[tuple[str, str, float | None]] = []
        for column in columns:
            found = comparisons.get(column.key, page.name, row.name)
            if found is None or found.value is None:
                cells.append(("", "", None))
                continue
            words = {1: "better", -1: "worse", 0: "no clear difference"}[verdict(found, column)]
            sign = "+" if found.value > 0 else ""
            bounds = interval(found.low, found.high, column.digits)
            text = f"{sign}{show(found.value, column.digits)}" + (f" {bounds}" if bounds else "")
            cells.append((text, words, found.value))
        if any(text for text, _, _ in cells):
            page.versus.append(Versus(row.title or row.name, pages.get(row.name, ""), cells))


def _add_clips(page: SystemPage, table: TableResult, heard: Mapping[str, str]) -> None:
    """Scores of single clips, the lowest first."""
    columns = [c for c in contests(table.columns) if page.name in table.scores.get(c.key, {})]
    page.clip_columns = columns
    scores = {column.key: table.scores[column.key][page.name] for column in columns}
    page.strips = [
        (column, drawn)
        for column in columns
        if (drawn := strip_chart(scores[column.key], column, f"strip-{slug(column.key)}"))
    ]
    clips = list(dict.fromkeys(clip for values in scores.values() for clip in values))
    if columns:
        clips.sort(key=lambda clip: scores[columns[0].key].get(clip, math.inf))
    page.clips = [(clip, heard.get(clip, ""), _row(columns, scores, clip)) for clip in clips]


def _row(
    columns: Sequence[Column], scores: Mapping[str, Mapping[str, float]], clip: str
) -> list[tuple[str, float | None]]:
    cells: list[tuple[str, float | None]] = []
    for column in columns:
        value = scores[column.key].get(clip)
        cells.append(("not measured", None) if value is None else (show(value, column.digits), value))
    return cells
