"""What the gate compares: scores, replicates and seeds behind the tables of a suite, now or pinned.

The current record is read from `results/<suite>/` (see `benchmarks.gate.results`); the pinned one from
`baseline.json`, which holds the same numbers, one line per cell of Table 2, and nothing else of the run but
what makes it comparable (clips, their groups, seeds) or explains a difference (weights, library versions, processor).
Tables 1 and 3 and Figure 2 are records of their own inside that of Table 2; a baseline of a version before
them has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gate.policy import parse_tolerance
from benchmarks.tables.text import lines_of_json, read_number, significant
from m2l.io.atomic import write_atomic
from m2l.io.json_files import read_object

TABLE = "table2"
#: Records inside that of Table 2, and what messages call them.
OTHERS = {"table1": "Table 1", "table3": "Table 3", "figure2": "Figure 2"}
#: 2: groups of clips, and replicates of distances in place of bootstrap draws.
_FORMAT = 2
#: Significant digits kept in a baseline: far below every tolerance, and half the file's size.
_DIGITS = 7
_MOST_DIGITS = 12
#: Above every number of clips or test items.
_COUNTS = 2**63


class RecordError(ValueError):
    """A file that is no record; the message names it."""


class BaselineFormatError(RecordError):
    """A baseline of another format, which has to be pinned anew; `tolerances` are those that it holds."""

    def __init__(self, message: str, tolerances: Mapping[str, float]) -> None:
        super().__init__(message)
        self.tolerances = tolerances


@dataclass(frozen=True)
class CellRecord:
    """One metric of one system.

    Attributes:
        value: mean over clips, or the distance; None where it could not be measured.
        scores: clip id -> score, for a metric of pairs (infinities allowed).
        replicates: of a corpus distance; replicate k uses the same groups of clips in every run.
        replicates_of: how they were made ("jackknife").
        clips: ids behind `replicates`; the order of their groups is that of a jackknife's blocks.
        reason: why there is no value.
        failures: clip id -> why it has no score.
        seeds: the score of each seed, for a probe of Table 1.
        n: items behind the value, where they have no scores here.
    """

    value: float | None
    scores: Mapping[str, float] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()
    replicates_of: str = ""
    clips: tuple[str, ...] = ()
    reason: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[float, ...] = ()
    n: int = 0

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips behind the value."""
        return self.clips or tuple(self.scores)


@dataclass(frozen=True)
class Record:
    """Cells of a run: of one table, and with `others` of all of them.

    Attributes:
        suite: name.
        clips_sha256: digest of ids and audio of all clips.
        seed: of the replicates.
        metrics: name -> {"title", "digits"}, in table order; "data" is the digest of a task's data.
        systems: name -> metadata that explain a change (weights digest, steps, source).
        cells: metric -> system -> cell.
        about: version, numerical libraries, processor.
        tolerances: absolute tolerances pinned with the baseline, by metric.
        others: the other tables, by name.
        groups: clip id -> group, of clips that are not their own group.
    """

    suite: str
    clips_sha256: str
    seed: int
    metrics: Mapping[str, Mapping[str, Any]]
    systems: Mapping[str, Mapping[str, Any]]
    cells: Mapping[str, Mapping[str, CellRecord]]
    about: Mapping[str, Any] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, Record] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, Record]:
        """This record and the others, by the table's name."""
        return {TABLE: self, **self.others}

    def cell(self, metric: str, system: str) -> CellRecord | None:
        """A cell, or None."""
        return self.cells.get(metric, {}).get(system)

    @property
    def measured(self) -> list[tuple[str, str]]:
        """(metric, system) of all cells with a value, in table order."""
        return [
            (metric, system)
            for metric in self.metrics
            for system in self.systems
            if (cell := self.cell(metric, system)) is not None and cell.value is not None
        ]

    @property
    def n_clips(self) -> int:
        """The largest number of clips behind a cell."""
        return max((len(self.cells[m][s].clip_ids) for m, s in self.measured), default=0)

    def pinned(self, systems: Iterable[str] | None, tolerances: Mapping[str, float]) -> Record:
        """The measured cells alone (of some systems), to be written as a baseline.

        Raises:
            RecordError: a system that was not measured.
        """
        measured = {system: None for record in self.tables.values() for _, system in record.measured}
        wanted = None if systems is None else list(systems)
        for name in wanted or ():
            if name not in measured:
                there = ", ".join(measured) or "none"
                raise RecordError(f"system {name!r} was not measured; measured: {there}")
        kept = {name: record._part(wanted) for name, record in self.others.items()}
        return replace(
            self._part(wanted),
            tolerances=dict(tolerances),
            others={name: record for name, record in kept.items() if record.cells},
        )

    def _part(self, wanted: list[str] | None) -> Record:
        cells: dict[str, dict[str, CellRecord]] = {}
        for metric, system in self.measured:
            if wanted is None or system in wanted:
                cells.setdefault(metric, {})[system] = self.cells[metric][system]
        there = {system for rows in cells.values() for system in rows}
        return replace(
            self,
            metrics={name: self.metrics[name] for name in self.metrics if name in cells},
            systems={name: self.systems[name] for name in self.systems if name in there},
            cells=cells,
        )


def read_baseline(path: str | Path) -> Record:
    """A pinned record.

    Raises:
        OSError: there is no such file, or it cannot be read.
        BaselineFormatError: it is a baseline of an earlier format.
        RecordError: it is no baseline, or one of an unknown format.
    """
    record = read_object(path, RecordError)
    number = record.get("format")
    text = f"{path}: baseline format {number!r}, this version reads {_FORMAT}"
    if number not in range(1, _FORMAT + 1):
        raise RecordError(text)
    try:
        tolerances = dict(parse_tolerance(f"{k}={v}", None) for k, v in record["tolerances"].items())
        if number != _FORMAT:
            raise BaselineFormatError(text, tolerances)
        return replace(
            _pinned_record(record, record["suite"]),
            tolerances=tolerances,
            others={name: _pinned_record(record[name], record["suite"]) for name in OTHERS if name in record},
        )
    except BaselineFormatError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordError(f"{path}: damaged baseline: {type(error).__name__} {error}") from None


def _pinned_record(record: Mapping[str, Any], suite: str) -> Record:
    clips = [str(clip) for clip in record["clips"]]
    metrics = {str(item["name"]): checked_metadata(item) for item in record["metrics"]}
    systems = {str(item["name"]): dict(item) for item in record["systems"]}
    cells = {
        metric: {system: _pinned_cell(cell, clips) for system, cell in rows.items()}
        for metric, rows in record["cells"].items()
    }
    for metric, rows in cells.items():
        if metric not in metrics or not set(rows) <= set(systems):
            raise ValueError(f"cells of {metric!r} belong to no metric or system of the file")
    about = dict(record["about"])
    dict(about.get("libraries", {}))
    if not isinstance(suite, str):
        raise TypeError("suite must be a name")
    return Record(
        suite=suite,
        clips_sha256=str(record["clips_sha256"]),
        seed=int(record["seed"]),
        metrics=metrics,
        systems=systems,
        cells=cells,
        about=about,
        groups=checked_groups(record["groups"]),
    )


def checked_groups(record: Mapping[str, Any]) -> dict[str, str]:
    """Clip id -> group as what it has to be.

    Raises:
        AttributeError, TypeError: it is not that.
    """
    groups = dict(record.items())
    if not all(isinstance(group, str) and group for group in groups.values()):
        raise TypeError("a clip's group must be a name")
    return groups


def checked_metadata(item: Mapping[str, Any]) -> dict[str, Any]:
    """Title and digits of a metric, as what they have to be.

    Raises:
        KeyError, TypeError, ValueError: one is missing, or cannot be that.
    """
    digits = int(item["digits"])
    if not 0 <= digits <= _MOST_DIGITS:
        raise ValueError(f"digits={digits}: must be from 0 to {_MOST_DIGITS}")
    return {**item, "title": str(item["title"]), "digits": digits}


def _pinned_cell(cell: Mapping[str, Any], clips: list[str]) -> CellRecord:
    value = read_number(cell["value"])
    if value is None:
        raise ValueError("a pinned cell without a value")
    n = checked_count(cell.get("n", 0))
    if "seeds" in cell:
        return CellRecord(value, seeds=finite_row(cell["seeds"]), n=n)
    if "scores" in cell:
        pairs = zip(clips, cell["scores"], strict=True)
        scores = {clip: score for clip, raw in pairs if (score := read_number(raw)) is not None}
        if not scores:
            raise ValueError("a pinned cell without a score")
        return CellRecord(value, scores=scores)
    ids = [clips[index] for index in cell["clips"]] if "clips" in cell else clips
    replicates = finite_row(cell["replicates"])
    kind = str(cell["replicates_of"]) if replicates else ""
    return CellRecord(value, replicates=replicates, replicates_of=kind, clips=tuple(ids), n=n)


def baseline_text(record: Record) -> str:
    """A record as the text of a baseline file: the same bytes for the same numbers."""
    body = {"format": _FORMAT, "suite": record.suite, "tolerances": record.tolerances, **_body(record)}
    parts = [lines_of_json(body, 3)[2:-2]]
    parts += [f" {json.dumps(name)}: {lines_of_json(_body(record.others[name]), 3, 1)}" for name in OTHERS
              if name in record.others]  # fmt: skip
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _body(record: Record) -> dict[str, Any]:
    known = [cell.clip_ids for rows in record.cells.values() for cell in rows.values()]
    # The longest list gives the order, so that most cells need no list of their own.
    clips = list(dict.fromkeys(clip for ids in sorted(known, key=len, reverse=True) for clip in ids))
    position = {clip: index for index, clip in enumerate(clips)}
    return {
        "about": record.about,
        "clips_sha256": record.clips_sha256,
        "seed": record.seed,
        "clips": clips,
        "groups": {clip: record.groups[clip] for clip in clips if clip in record.groups},
        "metrics": [{**dict(metadata), "name": name} for name, metadata in record.metrics.items()],
        "systems": [{**dict(metadata), "name": name} for name, metadata in record.systems.items()],
        "cells": {
            metric: {system: _plain_cell(cell, clips, position) for system, cell in rows.items()}
            for metric, rows in record.cells.items()
        },
    }


def _plain_cell(cell: CellRecord, clips: list[str], position: Mapping[str, int]) -> dict[str, Any]:
    plain: dict[str, Any] = {"value": cell.value} | ({"n": cell.n} if cell.n else {})
    if cell.seeds:
        return plain | {"seeds": [rounded(score) for score in cell.seeds]}
    if cell.scores:
        plain["scores"] = [rounded(cell.scores[clip]) if clip in cell.scores else None for clip in clips]
        return plain
    plain["replicates"] = [rounded(replicate) for replicate in cell.replicates]
    if cell.replicates:
        plain["replicates_of"] = cell.replicates_of
    if list(cell.clips) != clips:
        plain["clips"] = [position[clip] for clip in cell.clips]
    return plain


def write_baseline(path: str | Path, record: Record) -> None:
    """Write a baseline file, beside and renamed."""
    write_atomic(path, baseline_text(record))


def rounded(value: float) -> float:
    """As a baseline holds it, so that equal runs differ by exactly nothing."""
    return significant(value, _DIGITS) if math.isfinite(value) else value


def checked_count(value: Any) -> int:
    """A number of items.

    Raises:
        TypeError, ValueError, OverflowError: it cannot be one.
    """
    found = int(value)
    if not 0 <= found < _COUNTS:
        raise ValueError("a number of items is negative or has more digits than any count")
    return found


def finite_row(values: Iterable[Any]) -> tuple[float, ...]:
    """Numbers of which none is null or infinite.

    Raises:
        TypeError, ValueError, OverflowError: one is.
    """
    found = [read_number(value) for value in values]
    if not all(value is not None and math.isfinite(value) for value in found):
        raise ValueError("a replicate or seed is not finite")
    return tuple(value for value in found if value is not None)
