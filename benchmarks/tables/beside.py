"""Published and measured figures of one table side by side: value, interval, n, and how much of the data was there.

The pairs are named here: which system of ours a published row is about, and which column of ours a published column
is. A published row without a system of ours, or whose cell could not be measured, keeps its line and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.evaluation.cells import Column, Row
from benchmarks.tables.columns import PUBLISHED_COLUMNS
from benchmarks.tables.reference import published_rows
from benchmarks.tables.table import TableResult
from benchmarks.tables.text import ABSENT, interval_text, markdown_table, number_text, one_line

#: Published row of the paper's Tables 1 and 2 -> the system that was measured.
SYSTEMS = {
    "Musika": "musika",
    "LatMusic": "latmusic",
    "Moûsai_v2": "mousai-v2",
    "Moûsai_v3": "mousai-v3",
    "Music2Latent": "music2latent",
    "DAC": "dac-44khz",
    "MusiCNN-MSD": "musicnn-msd",
    "CLMR": "clmr",
    "MERT-v1-95M": "mert-v1-95m",
}
#: Published column -> beginnings of the keys of ours that measure the same, the first that a table has.
COLUMNS = {
    "si_sdr": ("si_sdr",),
    "visqol": ("visqol",),
    "fad_clap": ("fad:clap-630k-audioset-best", "fad:clap-"),
    "fad": ("fad:vggish",),
    "magnatagatune/auc_roc": ("magnatagatune/roc_auc",),
    "magnatagatune/auc_pr": ("magnatagatune/average_precision",),
    "beatport/micro_accuracy": ("beatport/weighted_micro",),
    "beatport/macro_accuracy": ("beatport/weighted_macro",),
    "tinysol-pitch-class/micro_f1": ("tinysol-pitch/f1_micro",),
    "tinysol-pitch-class/macro_f1": ("tinysol-pitch/f1_macro",),
    "tinysol-instrument/micro_f1": ("tinysol-instrument/f1_micro",),
    "tinysol-instrument/macro_f1": ("tinysol-instrument/f1_macro",),
}
#: Titles and decimals of Table 1's published columns; those of the others are `PUBLISHED_COLUMNS`.
_TABLE1 = {
    "magnatagatune/auc_roc": "MagnaTagATune AUC-ROC",
    "magnatagatune/auc_pr": "MagnaTagATune AUC-PR",
    "beatport/micro_accuracy": "Beatport micro accuracy",
    "beatport/macro_accuracy": "Beatport macro accuracy",
    "tinysol-pitch-class/micro_f1": "TinySOL pitch class micro F1",
    "tinysol-pitch-class/macro_f1": "TinySOL pitch class macro F1",
    "tinysol-instrument/micro_f1": "TinySOL instrument micro F1",
    "tinysol-instrument/macro_f1": "TinySOL instrument macro F1",
}


@dataclass(frozen=True)
class Pair:
    """A published figure and what was measured for it.

    Attributes:
        row, column: published names.
        system, key: row and column of ours; empty where there is none.
        published: the published value.
        value, low, high, n: measured, with its interval and the number of items behind it.
        reason: why nothing was measured.
        digits: decimals of both.
    """

    row: str
    column: str
    system: str
    key: str
    published: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None
    digits: int = 2

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: value for name, value in vars(self).items() if name != "digits"}

    @property
    def measured_text(self) -> str:
        """The measured side: value, interval and n."""
        if self.value is None:
            return ABSENT
        interval = interval_text(self.low, self.high, self.digits)
        return f"{number_text(self.value, self.digits)}{interval} (n = {self.n:,})"


def pairs_of(table: TableResult) -> list[Pair]:
    """The paper's figures of a table with what was measured for each, in the paper's order.

    Args:
        table: Table 1, 2 or 3, of any data; whether a comparison means anything is for `coverage_of` to say.
    """
    rows = {**{row.name.partition("@")[0]: row for row in table.rows}, **{row.title: row for row in table.rows}}
    rows |= {row.name: row for row in table.rows}
    found = []
    for published in published_rows(table.name, sources=("paper",)):
        row = rows.get(published.name) or rows.get(SYSTEMS.get(published.name, ""))
        for column in _columns(table.name):
            if column.key in published.values and column.key in COLUMNS:
                found.append(_pair(table, published.name, published.values[column.key], column, row))
    return found


def _columns(table: str) -> list[Column]:
    if table == "table1":
        return [Column(key, title, True, 1) for key, title in _TABLE1.items()]
    return list(PUBLISHED_COLUMNS.get(table, ()))


def _pair(table: TableResult, name: str, published: float, column: Column, row: Row | None) -> Pair:
    keys = [ours.key for ours in table.columns]
    key = next((key for start in COLUMNS[column.key] for key in keys if key.startswith(start)), "")
    pair: dict[str, Any] = {"row": name, "column": column.key, "published": published, "digits": column.digits}
    pair["key"] = key
    if row is None or key not in row.cells:
        return Pair(**pair, system=row.name if row else "", reason="not part of the suite")
    cell = row.cells[key]
    reason = cell.reason if cell.value is None else None
    return Pair(**pair, system=row.name, value=cell.value, low=cell.low, high=cell.high, n=cell.n, reason=reason)


def coverage_of(table: TableResult) -> str:
    """What the measured side rests on: "MusicCaps: 8 of 12 clips (…)", and how many of them were measured."""
    clips = table.provenance.get("clips")
    if clips is None:  # Table 1 names the items of each task in its notes
        titles = tuple(f"{task['title']}: " for task in table.provenance.get("tasks", {}).values())
        limit = table.provenance.get("limit")
        seconds = table.provenance.get("seconds")
        parts = [f"the first clips of each part (limit {limit})"] if limit else []
        parts += [f"the first {seconds:g} s of each clip"] if seconds else []
        return "; ".join([*parts, *(note.rstrip(".") for note in table.notes if titles and note.startswith(titles))])
    suite = table.provenance.get("suite", {}).get("data", {}).get("dataset", table.suite)
    available = table.provenance.get("coverage") or f"all clips of {suite}"
    return f"{available}; measured on {clips}"


def beside_record(table: TableResult) -> dict[str, Any]:
    """JSON-ready: the pairs, and what the measured side rests on."""
    return {"coverage": coverage_of(table), "pairs": [pair.record() for pair in pairs_of(table)]}


def beside_markdown(table: TableResult) -> str:
    """The paper's figures of a table beside the measured ones; two columns for each of its metrics."""
    pairs = pairs_of(table)
    columns = [column for column in _columns(table.name) if any(pair.column == column.key for pair in pairs)]
    by_place = {(pair.row, pair.column): pair for pair in pairs}
    footnotes: dict[str, int] = {}
    body = []
    for name in dict.fromkeys(pair.row for pair in pairs):
        line = [name]
        for column in columns:
            pair = by_place.get((name, column.key))
            if pair is None:
                line += ["", ""]
                continue
            mark = f" [{footnotes.setdefault(pair.reason, len(footnotes) + 1)}]" if pair.reason else ""
            line += [number_text(pair.published, column.digits), pair.measured_text + mark]
        body.append(line)
    header = ["", *(f"{column.title} {side}" for column in columns for side in ("published", "measured"))]
    lines = [f"### {one_line(table.title)}: published and measured", "", markdown_table(header, body), ""]
    lines += [f"[{number}] {one_line(reason)}  " for reason, number in footnotes.items()]
    lines.append(f"Measured on: {coverage_of(table)}.  ")
    lines.append("Published: Music2Latent (Pasini, Lattner, Fazekas, ISMIR 2024), on the authors' copy of the data.")
    return "\n".join(lines) + "\n"
