"""Result files: one JSON and one .npz of predictions per cell, complete enough to be read on their own."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

import m2l
from benchmarks.datasets.clip_files import distinct, safe_name, with_digest
from benchmarks.store.fingerprint import library_versions
from m2l.io.atomic import write_atomic
from probes.protocol import DEFAULT_PROTOCOL
from probes.runner import ProbeCell, ProbeRun
from probes.scoring import problem_of

SCHEMA = 1


def record_of(found: ProbeRun, cell: ProbeCell) -> dict[str, Any]:
    """Everything about a cell but its predictions, JSON-ready.

    `scores` are shares of 1: mean and sample deviation over seeds, interval over test items.
    """
    info, data = found.infos[cell.task], found.tasks.get(cell.task)
    spec = found.specs.get(cell.representation)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "m2l": m2l.__version__,
        "task": dataclasses.asdict(info),
        "representation": {"name": cell.representation, "spec": spec.to_dict() if spec else None},
        "protocol": found.request.protocol.to_dict(),
        "probe": cell.probe,
        "deformation": cell.deformation,
        "seeds": list(found.request.seeds),
        "shuffled_labels": found.request.shuffle_labels,
        "contaminated": cell.contaminated,
        "n_test": cell.n_test,
        "n_groups": cell.n_groups,
        "failures": cell.failures,
        "reason": cell.reason,
        "details": cell.details,
        "limit": found.limit or None,
        "scores": {
            metric: {key: _number(value) for key, value in dataclasses.asdict(score).items()}
            for metric, score in cell.scores.items()
        },
        "libraries": library_versions(),
    }
    if data is not None:
        splits = data.splits(found.request.protocol.scheme)
        record["data"] = {"sha256": data.digest, "splits": {s.name: s.digest for s in splits}}
    return record


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_number(item) for item in value]


def cell_records(found: ProbeRun) -> list[dict[str, Any]]:
    """Records of all cells."""
    return [record_of(found, cell) for cell in found.cells]


def write_results(found: ProbeRun, folder: Path) -> list[Path]:
    """Write `TASK/REPRESENTATION--PROBE[--…].json` and, where measured, `.npz` beside it.

    The rest of the name says what is not the default: deformation, protocol, shuffled labels, limit. Names that cannot
    be file names as they are end in a digest. So nothing replaces the results of something else.

    The .npz has `ids`, `groups`, `targets`, `labels` and `predictions` (n_seeds, n_test, n_labels): enough to compute
    any other metric, or a paired test, without running anything again.
    """
    paths = []
    names = distinct({name: file_name(name) for name in found.request.representations})
    tasks = distinct({name: file_name(name) for name in found.request.tasks})
    request = found.request
    special = [file_name(request.protocol.name)] if request.protocol.name != DEFAULT_PROTOCOL else []
    special += ["shuffled"] if request.shuffle_labels else []
    special += [f"limit-{found.limit}"] if found.limit else []
    for cell in found.cells:
        parts = [names[cell.representation], cell.probe, *special]
        if cell.deformation:
            parts.insert(2, cell.deformation.replace(":", "-"))
        path = folder / tasks[cell.task] / f"{'--'.join(parts)}.json"
        write_atomic(path, json.dumps(record_of(found, cell), indent=2, sort_keys=True) + "\n")
        paths.append(path)
        if cell.predictions is not None:
            write_atomic(path.with_suffix(".npz"), _predictions(found, cell))
            paths.append(path.with_suffix(".npz"))
    return paths


def file_name(name: str) -> str:
    """A representation's or task's name as a file name: `npy:mine` is `npy-mine`, `npy:my/own` has a digest."""
    head, colon, rest = name.partition(":")
    plain = f"{head}-{rest}" if colon and "-" not in head else name
    safe = safe_name(plain)
    return safe if safe == plain else with_digest(safe, name)


def _predictions(found: ProbeRun, cell: ProbeCell) -> bytes:
    data = found.tasks[cell.task]
    rows = problem_of(data, found.request.protocol.scheme).test_rows
    ids = [data.clips[row].id for row in rows]
    kept = np.array([clip_id not in cell.left_out for clip_id in ids])
    file = io.BytesIO()
    np.savez_compressed(
        file,
        ids=np.array(ids)[kept],
        groups=np.array([data.clusters.of.get(clip_id, clip_id) for clip_id in ids])[kept],
        targets=data.targets[rows][kept],
        labels=np.array(data.info.labels),
        predictions=np.asarray(cell.predictions),
    )
    return file.getvalue()


def lines_of(found: ProbeRun) -> list[str]:
    """The run as lines for people: one per cell, in percent."""
    lines = []
    for cell in found.cells:
        name = f"{cell.representation} on {cell.task} ({cell.probe}"
        name += f", {cell.deformation})" if cell.deformation else ")"
        if cell.reason is not None:
            lines.append(f"{name}: not measured: {cell.reason}")
            continue
        shown = [
            f"{metric} {100 * s.mean:.1f} ± {100 * s.std:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]"
            for metric, s in cell.scores.items()
        ]
        flag = "  (trained on this data set)" if cell.contaminated else ""
        flag += "  (never improved)" if cell.never_improved else ""
        left_out = f"  ({sum(cell.failures.values())} clips left out)" if cell.failures else ""
        lines.append(f"{name}: {'  '.join(shown)}{flag}{left_out}")
    return lines
