"""Records of made-up runs, for the tests of the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.gate.policy import metric_of
from benchmarks.gate.record import CellRecord, Record
from benchmarks.statistics.corpus import corpus_distance

TITLES = {"si_sdr": ("SI-SDR", 2), "visqol": ("ViSQOL", 2), "fad:vggish": ("FAD", 3), "kad:vggish": ("KAD", 3)}


def clip_names(count: int) -> list[str]:
    return [f"clip{i:02d}" for i in range(count)]


def tracks(sizes: Sequence[int]) -> dict[str, str]:
    """The group of each clip: the first `sizes[0]` clips are of "track0", and so on."""
    names = [f"track{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return dict(zip(clip_names(len(names)), names, strict=True))


def record(cells: Mapping[str, Mapping[str, CellRecord]], **changes: Any) -> Record:
    """A record of some cells; `changes` replace its other fields."""
    systems = dict.fromkeys(system for rows in cells.values() for system in rows)
    values: dict[str, Any] = {
        "suite": "tiny",
        "clips_sha256": "abc",
        "seed": 0,
        "metrics": {m: {"title": TITLES[m][0], "digits": TITLES[m][1]} for m in cells},
        "systems": {name: {} for name in systems},
        "cells": cells,
        "about": {"m2l": "0.1.0", "libraries": {"numpy": "2"}},
    }
    assert all(metric_of(metric) for metric in cells)
    return Record(**{**values, **changes})


def pairs(scores: Sequence[float] | np.ndarray, failures: Mapping[str, str] | None = None) -> CellRecord:
    """A cell of per-clip scores; NaN where a clip has none."""
    values = {clip: float(x) for clip, x in zip(clip_names(len(scores)), scores, strict=True) if x == x}
    mean = float(np.mean(list(values.values()))) if values else None
    return CellRecord(mean, scores=values, failures=failures or {})


def corpus(
    reference: Sequence[np.ndarray], outputs: Sequence[np.ndarray], groups: Mapping[str, str] | None = None
) -> CellRecord:
    """A cell of a Fréchet distance, measured as the benchmark does."""
    clips = clip_names(len(outputs))
    labels = [(groups or {}).get(clip, clip) for clip in clips]
    found = corpus_distance("fad", reference, outputs, groups=labels, seed=0, level=0.95)
    return CellRecord(
        found["value"], replicates=tuple(found["replicates"]), replicates_of=found["replicates_of"], clips=tuple(clips)
    )


def si_sdr_record(scores: Sequence[float] | np.ndarray, **changes: Any) -> Record:
    """One system, one metric."""
    return record({"si_sdr": {"codec": pairs(scores)}}, **changes)
