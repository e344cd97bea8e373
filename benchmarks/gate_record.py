"""What the gate compares: per-clip scores and bootstrap draws of a suite's Table 2, now or pinned.

The current record is read from `results/<suite>/table2.json` and `table2.draws.json`; the pinned one from
`baseline.json`, which holds the same numbers, one line per cell, and nothing else of the run but what makes
it comparable (clips, seeds) or explains a difference (weights, library versions).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.cache import write_atomic
from benchmarks.draws import lines_of_json, read_draws, significant
from benchmarks.gate_policy import POLICIES, PolicyError, parse_tolerance

TABLE = "table2"
_FORMAT = 1
#: Significant digits kept in a baseline: far below every tolerance, and half the file's size.
_DIGITS = 7


class RecordError(ValueError):
    """A file that is no record; the message names it."""


@dataclass(frozen=True)
class CellRecord:
    """One metric of one system.

    Attributes:
        value: mean over clips, or the distance; None where it could not be measured.
        scores: clip id -> score, for a metric of pairs (infinities allowed).
        draws: bootstrap draws of a corpus distance; draw k repeats the clips of draw k of any other run.
        clips: ids behind `draws`, in the order of the draws.
        reason: why there is no value.
        failures: clip id -> why it has no score.
    """

    value: float | None
    scores: Mapping[str, float] = field(default_factory=dict)
    draws: tuple[float, ...] = ()
    clips: tuple[str, ...] = ()
    reason: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clips behind the value."""
        return self.clips or tuple(self.scores)


@dataclass(frozen=True)
class Record:
    """Cells of a run.

    Attributes:
        suite: name.
        clips_sha256: digest of ids and audio of all clips.
        seed, resamples: of the draws.
        metrics: name -> {"title", "digits"}, in table order.
        systems: name -> facts that explain a change (weights digest, steps, source).
        cells: metric -> system -> cell.
        about: version and numerical libraries.
        tolerances: absolute tolerances pinned with the baseline, by metric.
    """

    suite: str
    clips_sha256: str
    seed: int
    resamples: int
    metrics: Mapping[str, Mapping[str, Any]]
    systems: Mapping[str, Mapping[str, Any]]
    cells: Mapping[str, Mapping[str, CellRecord]]
    about: Mapping[str, Any] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)

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
        measured = self.measured
        there = [name for name in self.systems if any(system == name for _, system in measured)]
        wanted = there if systems is None else list(systems)
        for name in wanted:
            if name not in there:
                raise RecordError(f"system {name!r} was not measured; measured: {', '.join(there) or 'none'}")
        cells: dict[str, dict[str, CellRecord]] = {}
        for metric, system in measured:
            if system in wanted:
                cells.setdefault(metric, {})[system] = self.cells[metric][system]
        return replace(
            self,
            metrics={name: self.metrics[name] for name in self.metrics if name in cells},
            systems={name: self.systems[name] for name in self.systems if name in wanted},
            cells=cells,
            tolerances=dict(tolerances),
        )


def read_results(folder: str | Path) -> Record:
    """The current record of a suite's results folder.

    Draws count only where they belong to the table's value: a stale file of draws is as good as none.

    Raises:
        FileNotFoundError: there is no table.
        RecordError: the files cannot be read.
    """
    path = Path(folder) / f"{TABLE}.json"
    table = _read_json(path)
    try:
        draws = read_draws(folder, TABLE)
    except ValueError as error:
        raise RecordError(str(error)) from None
    try:
        provenance = table["provenance"]
        suite = provenance["suite"]
        columns = {c["key"]: c for c in table["columns"] if c["key"].partition(":")[0] in POLICIES}
        cells: dict[str, dict[str, CellRecord]] = {name: {} for name in columns}
        for row in table["rows"]:
            for metric in columns:
                if metric in row["cells"]:
                    scores = table["scores"].get(metric, {}).get(row["name"], {})
                    found = draws.get(metric, {}).get(row["name"], {})
                    cells[metric][row["name"]] = _current_cell(row["cells"][metric], scores, found)
        return Record(
            suite=table["suite"],
            clips_sha256=provenance["clips_sha256"],
            seed=int(suite["seed"]),
            resamples=int(suite["statistics"]["corpus_resamples"]),
            metrics={name: {"title": c["title"], "digits": c["digits"]} for name, c in columns.items()},
            systems={row["name"]: _facts(row["facts"]) for row in table["rows"]},
            cells=cells,
            about={"m2l": provenance["m2l"], "libraries": provenance["libraries"]},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecordError(f"{path}: not a table of this version: {type(error).__name__} {error}") from None


def _current_cell(cell: Mapping[str, Any], scores: Mapping[str, Any], draws: Mapping[str, Any]) -> CellRecord:
    value = _number(cell["value"])
    mine = bool(draws) and value is not None and draws["value"] == value
    return CellRecord(
        value=value,
        # Rounded as a baseline is, so that equal runs differ by exactly nothing.
        scores={
            clip: _rounded(number) for clip, raw in scores.items() if (number := _number(raw)) is not None
        },
        draws=tuple(_rounded(draw) for draw in draws["draws"]) if mine else (),
        clips=tuple(draws["clips"]) if mine else (),
        reason=cell["reason"] or "",
        failures=cell["details"].get("failed_clips", {}),
    )


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("weights_sha256", "n_steps") if facts.get(key) is not None}


def read_baseline(path: str | Path) -> Record:
    """A pinned record.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: it is no baseline, or one of another format.
    """
    record = _read_json(Path(path))
    if record.get("format") != _FORMAT:
        raise RecordError(f"{path}: baseline format {record.get('format')!r}, this version reads {_FORMAT}")
    try:
        clips = record["clips"]
        cells = {
            metric: {system: _pinned_cell(cell, clips) for system, cell in rows.items()}
            for metric, rows in record["cells"].items()
        }
        tolerances = dict(parse_tolerance(f"{k}={v}") for k, v in record["tolerances"].items())
        return Record(
            suite=record["suite"],
            clips_sha256=record["clips_sha256"],
            seed=int(record["seed"]),
            resamples=int(record["resamples"]),
            metrics={item["name"]: item for item in record["metrics"]},
            systems={item["name"]: item for item in record["systems"]},
            cells=cells,
            about=record["about"],
            tolerances=tolerances,
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, PolicyError) as error:
        raise RecordError(f"{path}: damaged baseline: {type(error).__name__} {error}") from None


def _pinned_cell(cell: Mapping[str, Any], clips: list[str]) -> CellRecord:
    if "scores" in cell:
        pairs = zip(clips, cell["scores"], strict=True)
        scores = {clip: number for clip, raw in pairs if (number := _number(raw)) is not None}
        return CellRecord(_number(cell["value"]), scores=scores)
    ids = [clips[index] for index in cell["clips"]] if "clips" in cell else clips
    return CellRecord(_number(cell["value"]), draws=tuple(cell["draws"]), clips=tuple(ids))


def baseline_text(record: Record) -> str:
    """A record as the text of a baseline file: the same bytes for the same numbers."""
    known = [cell.clip_ids for rows in record.cells.values() for cell in rows.values()]
    # The longest list gives the order, so that most cells need no list of their own.
    clips = list(dict.fromkeys(clip for ids in sorted(known, key=len, reverse=True) for clip in ids))
    position = {clip: index for index, clip in enumerate(clips)}
    body = {
        "format": _FORMAT,
        "suite": record.suite,
        "about": record.about,
        "clips_sha256": record.clips_sha256,
        "seed": record.seed,
        "resamples": record.resamples,
        "tolerances": record.tolerances,
        "clips": clips,
        "metrics": [{**dict(facts), "name": name} for name, facts in record.metrics.items()],
        "systems": [{**dict(facts), "name": name} for name, facts in record.systems.items()],
        "cells": {
            metric: {system: _plain_cell(cell, clips, position) for system, cell in rows.items()}
            for metric, rows in record.cells.items()
        },
    }
    return lines_of_json(body, 3) + "\n"


def _plain_cell(cell: CellRecord, clips: list[str], position: Mapping[str, int]) -> dict[str, Any]:
    plain: dict[str, Any] = {"value": cell.value}
    if cell.scores:
        plain["scores"] = [_rounded(cell.scores[clip]) if clip in cell.scores else None for clip in clips]
        return plain
    plain["draws"] = [_rounded(draw) for draw in cell.draws]
    if list(cell.clips) != clips:
        plain["clips"] = [position[clip] for clip in cell.clips]
    return plain


def write_baseline(path: str | Path, record: Record) -> None:
    """Write a baseline file, beside and renamed."""
    write_atomic(path, baseline_text(record))


def _rounded(value: float) -> float:
    return significant(value, _DIGITS) if math.isfinite(value) else value


def _number(value: Any) -> float | None:
    """A number of our JSON, where infinities are the strings "inf" and "-inf" and NaN is null."""
    if value is None:
        return None
    number = float(value)
    return None if math.isnan(number) else number


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path}: not a JSON object")
    return record
