"""The current record of the gate, read from a suite's results folder.

A failed run writes its incomplete table beside the one it would have replaced (`table2.incomplete.json`). That
is the newer one, so the gate judges it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gate.policy import PROBE, family_of
from benchmarks.gate.record import (
    OTHERS,
    TABLE,
    CellRecord,
    Record,
    RecordError,
    checked_count,
    checked_groups,
    checked_metadata,
    finite_row,
    rounded,
)
from benchmarks.statistics.groups import group_index
from benchmarks.tables.places import INCOMPLETE
from benchmarks.tables.replicates import read_replicates
from benchmarks.tables.text import read_number
from m2l.io.json_files import read_object

#: The row of Table 1 that is computed from the labels alone.
_UNTRAINED = "chance"


def read_results(folder: str | Path) -> Record:
    """The current record of a suite's results folder.

    Replicates are used only where they belong to the table's value and groups: a stale file of them is ignored.

    Raises:
        FileNotFoundError: the folder holds no table and no figure.
        OSError: a file cannot be read.
        RecordError: a file is not what `m2l-bench tables` writes.
    """
    found: dict[str, Record] = {}
    for name in (TABLE, *OTHERS):
        stem = next((s for s in (name + INCOMPLETE, name) if (Path(folder) / f"{s}.json").is_file()), None)
        if stem is not None:
            found[name] = _read(Path(folder), stem, name)
    if not found:
        raise FileNotFoundError(f"no results in {folder}")
    suites = {record.suite for record in found.values()}
    if len(suites) > 1:
        named = ", ".join(f"{name}.json of {record.suite!r:.60}" for name, record in found.items())
        raise RecordError(f"{folder} holds tables of different suites: {named}")
    main = found.pop(TABLE, None) or Record(suites.pop(), "", 0, {}, {}, {})
    return replace(main, others=found)


def _read(folder: Path, stem: str, name: str) -> Record:
    path = folder / f"{stem}.json"
    record = read_object(path, RecordError)
    try:
        replicates = read_replicates(folder, stem)
    except ValueError as error:
        raise RecordError(str(error)) from None
    try:
        if name == "figure2":
            return _figure(record)
        return _probes(record) if name == "table1" else _table(record, replicates)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordError(f"{path}: not a table of this version: {type(error).__name__} {error}") from None


def contested(columns: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Columns of metrics by name; those of costs have no direction."""
    return {column["key"]: column for column in columns if column["higher_is_better"] is not None}


def _about(provenance: Mapping[str, Any]) -> dict[str, Any]:
    about = {"m2l": provenance["m2l"], "libraries": dict(provenance["libraries"])}
    return about | ({"processor": provenance["processor"]} if "processor" in provenance else {})


def _table(table: Mapping[str, Any], replicates: Mapping[str, Any]) -> Record:
    """Tables 2 and 3: scores of clips, and replicates of corpus distances."""
    provenance = table["provenance"]
    suite = provenance["suite"]
    columns = contested(table["columns"])
    groups = checked_groups(table.get("groups") or {})
    cells: dict[str, dict[str, CellRecord]] = {name: {} for name in columns}
    for row in table["rows"]:
        for metric in columns:
            if metric in row["cells"]:
                scores = table["scores"].get(metric, {}).get(row["name"], {})
                found = replicates.get(metric, {}).get(row["name"], {})
                cells[metric][row["name"]] = _scored_cell(row["cells"][metric], scores, found, groups)
    return Record(
        suite=str(table["suite"]),
        clips_sha256=str(provenance["clips_sha256"]),
        seed=int(suite["seed"]),
        metrics={name: _facts_of(column) for name, column in columns.items()},
        systems={row["name"]: _metadata(row["metadata"]) for row in table["rows"]},
        cells=cells,
        about=_about(provenance),
        groups=groups,
    )


def _scored_cell(
    cell: Mapping[str, Any], scores: Mapping[str, Any], found: Mapping[str, Any], groups: Mapping[str, str]
) -> CellRecord:
    value = read_number(cell["value"])
    replicated: dict[str, Any] = {}
    if found and value is not None and _close(read_number(found["value"]), value):
        blocks = [[str(clip) for clip in group] for group in found["groups"]]
        clips = tuple(clip for group in blocks for clip in group)
        numbers = [number for number, group in enumerate(blocks) for _ in group]
        if group_index(clips, groups).tolist() == numbers:
            replicates = tuple(rounded(x) for x in finite_row(found["replicates"]))
            replicated = {"replicates": replicates, "replicates_of": str(found["replicates_of"]), "clips": clips}
    return CellRecord(
        value=value,
        scores={clip: rounded(score) for clip, raw in scores.items() if (score := read_number(raw)) is not None},
        reason=str(cell["reason"] or ""),
        failures=dict(cell["details"].get("failed_clips", {})),
        **replicated,
    )


def _close(first: float | None, second: float) -> bool:
    """Equal but for the last digits, which a file of another writer may round."""
    return first is not None and math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def _probes(table: Mapping[str, Any]) -> Record:
    """Table 1: scores of seeds."""
    provenance = table["provenance"]
    columns = {c["key"]: c for c in table["columns"] if family_of(c["key"]) == PROBE.name}
    tasks = {name: str(task.get("data_sha256", "")) for name, task in provenance["tasks"].items()}
    cells: dict[str, dict[str, CellRecord]] = {name: {} for name in columns}
    for row in table["rows"]:
        for metric in columns:
            if metric in row["cells"]:
                cell = row["cells"][metric]
                cells[metric][row["name"]] = CellRecord(
                    value=read_number(cell["value"]),
                    reason=str(cell["reason"] or ""),
                    seeds=tuple(rounded(x) for x in finite_row(cell["details"].get("per_seed", ()))),
                    n=0 if row["name"] == _UNTRAINED else checked_count(cell["n"]),
                )
    return Record(
        suite=str(table["suite"]),
        clips_sha256="",
        seed=0,
        metrics={
            name: {**_facts_of(column), "data": tasks.get(name.rpartition("/")[0], "")}
            for name, column in columns.items()
        },
        systems={row["name"]: _metadata(row["metadata"]) for row in table["rows"]},
        cells=cells,
        about=_about(provenance),
    )


def _figure(figure: Mapping[str, Any]) -> Record:
    """Figure 2: a value per system and number of steps."""
    provenance = figure["provenance"]
    columns = contested(figure["columns"])
    cells: dict[str, dict[str, CellRecord]] = {name: {} for name in columns}
    systems: dict[str, dict[str, Any]] = {}
    for system, curves in figure["curves"].items():
        for metric in columns:
            for point in curves[metric]:
                label = f"{system}@{int(point['n_steps'])}"
                systems[label] = {}
                cells[metric][label] = CellRecord(
                    read_number(point["value"]), reason=str(point["reason"] or ""), n=checked_count(point["n"])
                )
    return Record(
        suite=str(figure["suite"]),
        clips_sha256=str(provenance["clips_sha256"]),
        seed=int(provenance["suite"]["seed"]),
        metrics={name: _facts_of(column) for name, column in columns.items()},
        systems=systems,
        cells=cells,
        about=_about(provenance),
    )


def _facts_of(column: Mapping[str, Any]) -> dict[str, Any]:
    return checked_metadata({"title": column["title"], "digits": column["digits"]})


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: metadata[key] for key in ("weights_sha256", "n_steps") if metadata.get(key) is not None}
