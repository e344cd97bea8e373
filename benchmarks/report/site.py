"""Renders the templates into the files of a report; `benchmarks.report.folder` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import m2l
from benchmarks.fetch.transfer import human
from benchmarks.report.aggregates import TABLE_NAMES, AggregateError, Aggregates
from benchmarks.report.charts import Chart, compression_charts, figure2_charts, rate_charts, speed_charts
from benchmarks.report.folder import MARKER, marker_of
from benchmarks.report.listening import Listening, systems_heard
from benchmarks.report.pictures import HIGH_HZ, LOW_HZ, RANGE_DB
from benchmarks.report.systems import SystemPage, page_addresses, pages_for_table1, system_pages
from benchmarks.report.tables import PublishedView, TableView, published_view, slug, table_view
from benchmarks.report.wording import clock, count
from benchmarks.suite import Suite
from benchmarks.tables.columns import PUBLISHED_COLUMNS
from benchmarks.tables.reference import published_rows
from benchmarks.tables.table import TableResult

FOLDER = Path(__file__).resolve().parent

#: Short titles of the tables on the page; the whole title stands below.
_TITLES = {
    "table1": ("Table 1", "Probing of representations"),
    "table2": ("Table 2", "Reconstruction quality"),
    "table3": ("Table 3", "Ablation"),
}


@dataclass
class Section:
    """A table's place on the page, filled or not."""

    id: str
    number: str
    title: str
    view: TableView | None
    published: list[PublishedView]
    command: str


@dataclass
class Site:
    """All pages, and what they need.

    Attributes:
        files: relative path -> contents.
    """

    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def pages(self) -> list[str]:
        """Relative paths of the HTML pages, the first page first."""
        return sorted((name for name in self.files if name.endswith(".html")), key=lambda n: (n != "index.html", n))

    @property
    def n_bytes(self) -> int:
        """Size of the folder."""
        return sum(len(content) for content in self.files.values())


def render(found: Aggregates, listening: Listening, commands: list[str], suite: Suite | None = None) -> Site:
    """Make all files of a report; the same results give the same bytes.

    Args:
        found: the results.
        listening: what can be heard.
        commands: the command lines that make the results and the report.
        suite: what was measured. Its parts that have no results are shown as not measured, with their published figures
            if it asks for them; where it is not known, only what has results is shown.

    Raises:
        AggregateError: the results hold what no run writes.
    """
    import jinja2

    try:
        return _render(found, listening, commands, suite)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, jinja2.TemplateError) as error:
        problem = f"{type(error).__name__} {error}"
        raise AggregateError(f"{found.folder}: not results of this version: {problem:.200}") from error


def _render(found: Aggregates, listening: Listening, commands: list[str], suite: Suite | None) -> Site:
    pages = page_addresses(found)
    addresses = {name: f"systems/{href}" for name, href in pages.items()}
    table1_pages = {name: f"systems/{href}" for name, href in pages_for_table1(found, pages).items()}
    views = {
        name: table_view(table, table1_pages if name == "table1" else addresses) for name, table in found.tables.items()
    }
    heard = {clip.name: clip.id for clip in listening.clips}
    systems = system_pages(found, views, pages, heard)
    environment = _environment()
    shared = {
        "suite": found.suite,
        "suite_title": found.title,
        "version": m2l.__version__,
        "systems": systems,
        "has_audio": bool(listening.clips),
    }
    site = Site()

    def page(path: str, template: str, **values: Any) -> None:
        root = "../" * path.count("/")
        text = environment.get_template(template).render(root=root, here=path, **shared, **values)
        site.files[path] = text.encode()

    page("index.html", "index.html", **_overview(found, views, systems, commands, suite), listening=listening)
    page(
        "listen.html",
        "listen.html",
        listening=listening,
        heard=systems_heard(listening.clips),
        low_hz=LOW_HZ,
        high_hz=HIGH_HZ,
        range_db=RANGE_DB,
    )
    page("provenance.html", "provenance.html", **_provenance(found, listening, commands))
    for system in systems:
        page(f"systems/{system.href}", "system.html", system=system)
    for path in sorted((FOLDER / "static").iterdir()):
        if path.suffix in (".css", ".js", ".svg"):
            site.files[f"static/{path.name}"] = path.read_bytes()
    for name in found.files:
        site.files[f"data/{name}"] = (found.folder / name).read_bytes()
    site.files |= listening.files
    site.files[MARKER] = marker_of(site.files, {"suite": found.suite, "results": found.files})
    return site


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"clock": clock, "size": human, "count": count, "slug": slug}
    # In a script element "</" would end it; the rest of JSON is safe there.
    environment.filters["script_json"] = lambda value: _markup(
        json.dumps(value, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")
    )
    environment.filters["svg"] = _markup
    return environment


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _overview(
    found: Aggregates,
    views: Mapping[str, TableView],
    systems: list[SystemPage],
    commands: list[str],
    suite: Suite | None,
) -> dict[str, Any]:
    parts = suite.tables if suite else []
    sections = []
    for name in TABLE_NAMES:
        number, title = _TITLES[name]
        view = views.get(name)
        if view is None and name not in parts:
            continue
        published = view.published if view else []
        if view is None and name in PUBLISHED_COLUMNS and suite and suite.published:
            empty = TableResult(name, "", "", PUBLISHED_COLUMNS[name], [], published_rows(name))
            published = published_view(empty)
        command = f"{commands[0]} --only {name[-1]}" if commands and name in parts else ""
        sections.append(Section(name, number, title, view, published, command))
    table2 = found.tables.get("table2")
    figure2, rate = figure2_charts(found.figure2), rate_charts(found.rate)
    return {
        "rate": rate,
        "rate_left_out": _left_out(rate),
        "rate_subject": _subject(found.rate),
        "figure2_command": f"{commands[0]} --only figure2" if commands and "figure2" in parts else "",
        "figure2_shown": bool(figure2) or "figure2" in parts,
        "sections": {section.id: section for section in sections},
        "compression": compression_charts(table2) if table2 else [],
        "speed": speed_charts(table2, found.cost) if table2 else [],
        "speed_machine": (found.cost or {}).get("machine", ""),
        "figure2": figure2,
        "figure2_left_out": _left_out(figure2),
        "figure2_subject": _subject(found.figure2),
        "summary": _summary(found, views),
        "unmeasured": [system for system in systems if not system.available],
    }


def _subject(record: Mapping[str, Any] | None) -> str:
    """What a figure was measured on: the last words of its title, in parentheses."""
    title = str((record or {}).get("title", ""))
    return title.partition(" (")[2].removesuffix(")") or title


def _left_out(charts: list[Chart]) -> list[str]:
    """What no chart of Figure 2 shows, each reason once."""
    lines: dict[str, None] = {}
    for chart in charts:
        for text in chart.left_out:
            lines[text if chart.svg else f"{chart.title.partition(' against ')[0]}: {text}"] = None
    return list(lines)


def _summary(found: Aggregates, views: Mapping[str, TableView]) -> list[tuple[str, str]]:
    """A few figures at the top of the first page: (number, what it counts)."""
    figures: list[tuple[str, str]] = []
    if "table2" in views:
        view, table = views["table2"], found.tables["table2"]
        number, _, what = str(table.provenance.get("clips", "0 clips")).partition(" ")
        figures.append((number, what))
        figures.append((f"{view.measured} of {len(view.rows)}", "systems measured"))
    if "table1" in views:
        view = views["table1"]
        figures.append((f"{view.measured} of {len(view.rows)}", "representations probed"))
    missing = sum(cell.kind == "missing" for v in views.values() for row in v.rows for cell in row.cells)
    figures.append((str(missing), "cells without a value, each with its reason"))
    return figures


def _provenance(found: Aggregates, listening: Listening, commands: list[str]) -> dict[str, Any]:
    libraries: dict[str, str] = {}
    for table in found.tables.values():
        libraries |= table.provenance.get("libraries", {})
    table1 = found.tables.get("table1")
    any_table = next(iter(found.tables.values()), None)
    record = found.suite_record
    weights = [
        (row.title or row.name, digest, str(row.metadata.get("source", "")), str(row.metadata.get("license", "")))
        for name in ("table2", "table3")
        if name in found.tables
        for row in found.tables[name].rows
        if (digest := row.metadata.get("weights_sha256"))
    ]
    clips = next((t.provenance["clips_sha256"] for t in found.tables.values() if t.provenance.get("clips_sha256")), "")
    return {
        "commands": commands,
        "libraries": libraries,
        "measured_version": any_table.provenance.get("m2l", "") if any_table else "",
        "machine": (found.cost or {}).get("machine", ""),
        "clips_sha256": clips,
        "weights": list(dict.fromkeys(weights)),
        "files": [(name, digest, (found.folder / name).stat().st_size) for name, digest in found.files.items()],
        "suite_json": json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) if record else "",
        "statistics": record.get("statistics", {}),
        "seed": record.get("seed"),
        "protocol": table1.provenance.get("protocol", {}) if table1 else {},
        "probe_seeds": table1.provenance.get("seeds", []) if table1 else [],
        "tasks": table1.provenance.get("tasks", {}) if table1 else {},
        "listening": listening,
    }
