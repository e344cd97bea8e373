"""Results per commit, read from git: the trend of Table 2 as a table and as a drawing.

Every commit that changed the committed `table2.json` is an entry. Results that differ from the last commit's
come at the end, with a mark.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.gate.record import TABLE, RecordError, checked_metadata
from benchmarks.gate.results import contested
from benchmarks.metrics.registry import declared_metric
from benchmarks.tables.plot import subplots, svg_text, title_of
from benchmarks.tables.text import markdown_table, number_text, read_number
from m2l.io.json_files import read_object

#: A git command that takes longer is waiting for something that does not come (a lock, a network file system).
_GIT_SECONDS = 120
_HASH = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Entry:
    """The results of one commit.

    Attributes:
        commit: full hash.
        date: of the commit, ISO 8601 with offset.
        suite: name.
        uncommitted: the results are not those of the commit, but measured since.
        m2l: version.
        clips_sha256: digest of the clips; values on other clips do not compare.
        cells: metric -> system -> {"value", "low", "high", "n"}.
        metrics: metric -> {"title", "digits"}.
    """

    commit: str
    date: str
    suite: str
    uncommitted: bool
    m2l: str
    clips_sha256: str
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]]
    metrics: Mapping[str, Mapping[str, Any]]

    @property
    def label(self) -> str:
        """Short name of the commit, with a mark for results that are not committed."""
        return self.commit[:8] + ("*" if self.uncommitted else "")

    def value(self, metric: str, system: str) -> float | None:
        """The value of a cell; None if it has none or an infinite one."""
        found = self.cells.get(metric, {}).get(system, {}).get("value")
        return found if isinstance(found, (int, float)) else None


def read_history(folder: Path, newest: Path, last: int) -> list[Entry]:
    """The last entries, oldest first.

    Args:
        folder: the committed results of a suite.
        newest: what was measured last, where that is another folder.
        last: how many entries.

    Raises:
        RecordError: not a git repository, git is not installed, or the newest table is damaged.
    """
    entries = _committed(folder, last)
    path = newest / f"{TABLE}.json"
    if path.is_file():
        commit, date = _git(folder, "log", "-1", "--format=%H %cI").split()
        current = entry_of(read_object(path, RecordError), commit, date, uncommitted=True)
        known = entries[-1] if entries else None
        if known is None or (known.clips_sha256, known.cells) != (current.clips_sha256, current.cells):
            entries.append(current)
    return entries[-last:]


def _committed(folder: Path, last: int) -> list[Entry]:
    """Entries of the last commits that changed the table in `folder`.

    A commit whose subject is a hash records the results of that other commit: so does a branch that holds
    nothing but results.
    """
    entries: list[Entry] = []
    for line in _git(folder, "log", "--format=%H %cI %s", "--", f"{TABLE}.json").splitlines():
        commit, date, subject = line.split(" ", 2)
        try:
            table = json.loads(_git(folder, "show", f"{commit}:./{TABLE}.json"))
            entries.append(entry_of(table, subject if _HASH.fullmatch(subject) else commit, date))
        except (RecordError, ValueError):
            continue  # the commit removed the table, or an older version wrote it
        if len(entries) == last:
            break
    return entries[::-1]


def entry_of(table: Mapping[str, Any], commit: str, date: str, *, uncommitted: bool = False) -> Entry:
    """The entry of a parsed `table2.json`.

    Raises:
        RecordError: the record is not such a table.
    """
    try:
        metrics = {key: checked_metadata(column) for key, column in contested(table["columns"]).items()}
        cells: dict[str, dict[str, dict[str, Any]]] = {}
        for row in table["rows"]:
            for metric in metrics:
                cell = row["cells"].get(metric)
                if cell is not None and cell["value"] is not None:
                    for name in ("value", "low", "high"):
                        read_number(cell[name])
                    kept = {key: cell[key] for key in ("value", "low", "high", "n")}
                    cells.setdefault(metric, {})[row["name"]] = kept
        provenance = table["provenance"]
        texts = [table["suite"], provenance["m2l"], provenance["clips_sha256"]]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("suite, version or digest is not text")
        shown = {
            metric: {"title": metadata["title"], "digits": metadata["digits"]}
            for metric, metadata in metrics.items()
            if metric in cells
        }
        return Entry(commit, date, texts[0], uncommitted, texts[1], texts[2], cells, shown)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordError(f"commit {commit}: not a table: {type(error).__name__} {error}") from None


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command run in `folder`.

    Raises:
        RecordError: git is not installed, or it fails; the message is git's.
    """
    # The results and the repository around them may come from somebody else: its settings start no program.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_GIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RecordError(f"git {arguments[0]} took over {_GIT_SECONDS} s") from None
    except FileNotFoundError:
        raise RecordError("git is not installed; the history is read from it") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RecordError(f"git {arguments[0]}: {lines[0]}")
    return done.stdout


def select(
    entries: Sequence[Entry], metrics: Sequence[str] | None, systems: Sequence[str] | None
) -> list[tuple[str, str]]:
    """(metric, system) of all series, in the order of their first appearance.

    Raises:
        RecordError: a metric or system that no entry has.
    """
    series = dict.fromkeys(
        (metric, system) for entry in entries for metric in entry.metrics for system in entry.cells[metric]
    )
    for kind, wanted, position in (("metric", metrics, 0), ("system", systems, 1)):
        known = list(dict.fromkeys(pair[position] for pair in series))
        for name in wanted or ():
            if name not in known:
                raise RecordError(f"no {kind} {name!r} in the history; known: {', '.join(known) or 'none'}")
    return [
        (metric, system)
        for metric, system in series
        if (not metrics or metric in metrics) and (not systems or system in systems)
    ]


def to_markdown(entries: Sequence[Entry], series: Sequence[tuple[str, str]], columns: int = 6) -> str:
    """A table with a row per series and the last few commits as columns."""
    shown = entries[-columns:]
    metrics = _metrics(entries)
    rows = []
    for metric, system in series:
        values = [entry.cells.get(metric, {}).get(system, {}).get("value") for entry in shown]
        metadata = metrics[metric]
        numbers = [number_text(read_number(value), metadata["digits"]) for value in values]
        rows.append([system, metadata["title"], *numbers])
    header = ["system", "metric", *(f"{entry.date[:10]} {entry.label}" for entry in shown)]
    lines = [f"### History of suite {entries[-1].suite}: {len(entries)} commits", ""]
    lines += [markdown_table(header, rows), ""]
    if shown[-1].uncommitted:
        lines.append("\\* measured since, not committed  ")
    changes = [b.label for a, b in pairwise(shown) if a.clips_sha256 != b.clips_sha256]
    if changes:
        lines.append(f"The clips changed, so earlier values do not compare: {', '.join(changes)}  ")
    return "\n".join(lines).rstrip() + "\n"


def draw(entries: Sequence[Entry], series: Sequence[tuple[str, str]]) -> str:
    """SVG text: a panel per metric, a line with its interval per system. The same bytes every time.

    A dashed line marks where the clips changed; series are broken there.
    """
    metadata = _metrics(entries)
    metrics = list(dict.fromkeys(metric for metric, _ in series))
    names = list(dict.fromkeys(system for _, system in series))
    colors = {name: f"C{index % 10}" for index, name in enumerate(names)}
    starts = [0, *(i for i in range(1, len(entries)) if _changed(entries, i)), len(entries)]
    width = max(5.0, min(14.0, 2.5 + 0.3 * len(entries)))
    with subplots(len(metrics), 1, width, 2.2 * len(metrics) + 0.6) as (figure, axes):
        for axis, metric in zip(axes[:, 0], metrics, strict=True):
            values: list[float] = []
            for _, system in (pair for pair in series if pair[0] == metric):
                for first, last in pairwise(starts):
                    values += _line(axis, entries, range(first, last), metric, system, colors[system])
            for start in starts[1:-1]:
                axis.axvline(start - 0.5, color="0.6", linestyle="--", linewidth=0.8)
            known = declared_metric(metric)
            better = known is None or known.higher_is_better
            axis.set_title(title_of(metadata[metric]["title"], better), fontsize=9)
            sizes = [abs(value) for value in values if abs(value) > 1e-3]
            if not better and sizes and max(sizes) > 30 * min(sizes):
                axis.set_yscale("symlog", linthresh=min(sizes))  # codecs and floors differ by orders of magnitude
            ticks = range(0, len(entries), max(1, -(-len(entries) // 20)))
            axis.set_xticks(list(ticks), [entries[i].label for i in ticks], rotation=60, fontsize=7)
            axis.set_xlim(-0.5, len(entries) - 0.5)
            axis.grid(alpha=0.25, linewidth=0.6)
        lines = [axes[0, 0].plot([], [], color=colors[name], marker="o", markersize=3)[0] for name in names]
        figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        return svg_text(figure)


def _line(axis: Any, entries: Sequence[Entry], span: range, metric: str, system: str, color: str) -> list[float]:
    """Draw one series over some commits; returns its values."""
    there = [i for i in span if entries[i].value(metric, system) is not None]
    values = [float(entries[i].value(metric, system) or 0.0) for i in there]
    cells = [entries[i].cells[metric][system] for i in there]
    axis.plot(there, values, marker="o", markersize=3, linewidth=1.2, color=color)
    if cells and all(isinstance(cell[bound], (int, float)) for cell in cells for bound in ("low", "high")):
        low, high = ([cell[bound] for cell in cells] for bound in ("low", "high"))
        axis.fill_between(there, low, high, alpha=0.12, linewidth=0, color=color)
    return values


def _changed(entries: Sequence[Entry], index: int) -> bool:
    return entries[index].clips_sha256 != entries[index - 1].clips_sha256


def _metrics(entries: Sequence[Entry]) -> dict[str, Mapping[str, Any]]:
    return {metric: metadata for entry in entries for metric, metadata in entry.metrics.items()}
