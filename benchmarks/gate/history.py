"""Results per commit: a JSON-lines file, its trend as a table and as a drawing.

One line per commit holds every measured cell of Table 2 with its interval. A commit that is measured again
replaces its line. Lines are sorted by the commits' dates, so that records made out of order (a bisection, a
backfill) fall into place.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.gate.policy import POLICIES
from benchmarks.gate.record import TABLE, RecordError
from benchmarks.store.store import write_atomic
from benchmarks.tables.text import finite, markdown_table, read_number


@dataclass(frozen=True)
class Entry:
    """The results of one commit.

    Attributes:
        commit: full hash, or a name the user gave.
        date: ISO 8601 with offset, of the commit.
        suite: name.
        dirty: the working tree had changes outside the results when it was recorded.
        m2l: version.
        clips_sha256: digest of the clips; values on other clips do not compare.
        cells: metric -> system -> {"value", "low", "high", "n"}.
        titles: metric -> heading.
    """

    commit: str
    date: str
    suite: str
    dirty: bool
    m2l: str
    clips_sha256: str
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]]
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short name of the commit, with a mark where the tree was not clean."""
        return self.commit[:8] + ("*" if self.dirty else "")

    def value(self, metric: str, system: str) -> float | None:
        """A cell's value; None where there is none or it is infinite."""
        found = self.cells.get(metric, {}).get(system, {}).get("value")
        return found if isinstance(found, (int, float)) else None


def entry_of(table: Mapping[str, Any], commit: str, date: str, *, dirty: bool = False) -> Entry:
    """The entry of a parsed `table2.json`.

    Raises:
        RecordError: it is no such table.
    """
    try:
        columns = {c["key"]: c["title"] for c in table["columns"] if c["key"].partition(":")[0] in POLICIES}
        cells: dict[str, dict[str, dict[str, Any]]] = {}
        for row in table["rows"]:
            for metric in columns:
                cell = row["cells"].get(metric)
                if cell is not None and cell["value"] is not None:
                    kept = {key: cell[key] for key in ("value", "low", "high", "n")}
                    cells.setdefault(metric, {})[row["name"]] = kept
        provenance = table["provenance"]
        made = Entry(
            commit,
            date,
            table["suite"],
            dirty,
            provenance["m2l"],
            provenance["clips_sha256"],
            cells,
            {metric: title for metric, title in columns.items() if metric in cells},
        )
        return _checked(made)
    except RecordError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordError(f"commit {commit}: not a table: {type(error).__name__} {error}") from None


def read_history(path: str | Path) -> list[Entry]:
    """All entries, oldest first; none when there is no file.

    Raises:
        RecordError: a line that is no entry; the message names it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for position, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(_checked(Entry(**json.loads(line))))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(f"{path}, line {position}: not an entry: {error}") from None
    return entries


def _checked(entry: Entry) -> Entry:
    """An entry whose fields are what they have to be.

    Raises:
        ValueError, TypeError, LookupError, AttributeError, OverflowError: one is not.
    """
    texts = (entry.commit, entry.date, entry.suite, entry.m2l, entry.clips_sha256, *entry.titles.values())
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name, date or title that is no text")
    _instant(entry.date)
    for metric in entry.titles:
        POLICIES[metric.partition(":")[0]]
        for cell in entry.cells[metric].values():
            for name in ("value", "low", "high"):
                read_number(cell[name])
    return entry


def merged(entries: Iterable[Entry], new: Iterable[Entry], *, replace: bool = True) -> list[Entry]:
    """Both, one per commit, oldest first; of two with one commit the new one stays (or, else, the old)."""
    found = {entry.commit: entry for entry in entries}
    for entry in new:
        if replace or entry.commit not in found:
            found[entry.commit] = entry
    return sorted(found.values(), key=lambda entry: (_instant(entry.date), entry.commit))


def write_history(path: str | Path, entries: Sequence[Entry]) -> None:
    """Write all entries, beside and renamed."""
    lines = [json.dumps(finite(asdict(entry)), ensure_ascii=False) for entry in entries]  # keys: table order
    write_atomic(path, "".join(line + "\n" for line in lines))


#: A git command that takes longer waits for something that does not come (a lock, a network file system).
_GIT_SECONDS = 120


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command run in `folder`.

    Raises:
        RecordError: git is not there, or refuses; the message is git's.
    """
    # Results may be somebody else's, and so may be the repository around them: its settings start no program.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_GIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RecordError(f"git {arguments[0]} took over {_GIT_SECONDS} s") from None
    except FileNotFoundError:
        raise RecordError("git is not installed; give --commit NAME --date TIME") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RecordError(f"git {arguments[0]}: {lines[0]}")
    return done.stdout


def head(folder: Path) -> tuple[str, str, bool]:
    """Hash and date of HEAD, and whether anything outside `folder` differs from it.

    Raises:
        RecordError: not a git repository, or one without commits.
    """
    commit, date = git(folder, "log", "-1", "--format=%H %cI").split()
    changes = git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude).")
    return commit, date, bool(changes.strip())


def committed(folder: Path, skip: Iterable[str] = ()) -> list[Entry]:
    """An entry for every commit that changed the committed table in `folder`, oldest first.

    Raises:
        RecordError: not a git repository.
    """
    known, entries = set(skip), []
    log = git(folder, "log", "--reverse", "--format=%H %cI", "--", f"{TABLE}.json")
    for line in log.splitlines():
        commit, date = line.split()
        if commit in known:
            continue
        try:
            table = json.loads(git(folder, "show", f"{commit}:./{TABLE}.json"))
            entries.append(entry_of(table, commit, date))
        except (RecordError, json.JSONDecodeError):
            continue  # removed by that commit, or of a version before this one
    return entries


def select(
    entries: Sequence[Entry], metrics: Sequence[str] | None, systems: Sequence[str] | None
) -> list[tuple[str, str]]:
    """(metric, system) of all series, in the order they first appear.

    Raises:
        RecordError: a metric or system that no entry has.
    """
    series = dict.fromkeys(
        (metric, system) for entry in entries for metric in entry.titles for system in entry.cells[metric]
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
    titles = _titles(entries)
    rows = []
    for metric, system in series:
        values = [entry.cells.get(metric, {}).get(system, {}).get("value") for entry in shown]
        rows.append([system, titles[metric], *(_show(value) for value in values)])
    header = ["system", "metric", *(f"{entry.date[:10]} {entry.label}" for entry in shown)]
    lines = [f"### History of suite {entries[-1].suite}: {len(entries)} commits", ""]
    lines += [markdown_table(header, rows), ""]
    if any(entry.dirty for entry in shown):
        lines.append("\\* with changes that are not committed  ")
    changes = [b.label for a, b in pairwise(shown) if a.clips_sha256 != b.clips_sha256]
    if changes:
        lines.append(f"Other clips from here on, so values before do not compare: {', '.join(changes)}  ")
    return "\n".join(lines).rstrip() + "\n"


def draw(entries: Sequence[Entry], series: Sequence[tuple[str, str]]) -> str:
    """SVG text: a panel per metric, a line with its interval per system. The same bytes every time.

    A dashed line marks where the clips changed; series are broken there.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = _titles(entries)
    metrics = list(dict.fromkeys(metric for metric, _ in series))
    names = list(dict.fromkeys(system for _, system in series))
    colors = {name: f"C{index % 10}" for index, name in enumerate(names)}
    starts = [0, *(i for i in range(1, len(entries)) if _changed(entries, i)), len(entries)]
    style = {"svg.hashsalt": "m2l", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False}
    with pyplot.style.context("default"), matplotlib.rc_context({**style, "axes.spines.right": False}):
        width = max(5.0, min(14.0, 2.5 + 0.3 * len(entries)))
        figure, axes = pyplot.subplots(
            len(metrics), 1, figsize=(width, 2.2 * len(metrics) + 0.6), squeeze=False, layout="constrained"
        )
        for axis, metric in zip(axes[:, 0], metrics, strict=True):
            values: list[float] = []
            for _, system in (pair for pair in series if pair[0] == metric):
                for first, last in pairwise(starts):
                    values += _line(axis, entries, range(first, last), metric, system, colors[system])
            for start in starts[1:-1]:
                axis.axvline(start - 0.5, color="0.6", linestyle="--", linewidth=0.8)
            better = POLICIES[metric.partition(":")[0]].higher_is_better
            axis.set_title(f"{titles[metric]} ({'higher' if better else 'lower'} is better)", fontsize=9)
            sizes = [abs(value) for value in values if abs(value) > 1e-3]
            if not better and sizes and max(sizes) > 30 * min(sizes):
                axis.set_yscale(
                    "symlog", linthresh=min(sizes)
                )  # codecs and floors differ by orders of magnitude
            ticks = range(0, len(entries), max(1, -(-len(entries) // 20)))
            axis.set_xticks(list(ticks), [entries[i].label for i in ticks], rotation=60, fontsize=7)
            axis.set_xlim(-0.5, len(entries) - 0.5)
            axis.grid(alpha=0.25, linewidth=0.6)
        handles = [
            matplotlib.lines.Line2D([], [], color=colors[name], marker="o", markersize=3) for name in names
        ]
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "m2l"})
        pyplot.close(figure)
    return buffer.getvalue()


def _line(
    axis: Any, entries: Sequence[Entry], span: range, metric: str, system: str, color: str
) -> list[float]:
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


def _titles(entries: Sequence[Entry]) -> dict[str, str]:
    return {metric: title for entry in entries for metric, title in entry.titles.items()}


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return {"inf": "∞", "-inf": "-∞"}.get(value, value)
    return f"{value:.4g}"


def _instant(date: str) -> float:
    """Seconds since 1970 of an ISO 8601 date.

    Raises:
        RecordError: not such a date.
    """
    try:
        moment = datetime.fromisoformat(date.replace("Z", "+00:00"))
    except ValueError:
        raise RecordError(f"date {date!r} is not ISO 8601, as in 2024-05-01T12:00:00+00:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
