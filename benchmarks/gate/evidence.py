"""What the clips of a pinned cell and of the same cell now say about the change between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.gate.record import CellRecord, Record
from benchmarks.metrics.base import Metric
from benchmarks.statistics.intervals import percentile_interval
from benchmarks.statistics.replicates import JACKKNIFE, replicate_error, t_half_width
from benchmarks.statistics.significance import bootstrap_error, bootstrap_means

_LEVEL = 0.95


@dataclass(frozen=True)
class Evidence:
    """The change of a cell (`current - baseline`) with its 95 % interval, and the clips behind it.

    `effect` and `error` are the change and its standard error on the scale of the test: the metric's own, or,
    with an `offset`, log(value + offset), where `start` is the baseline's value.
    """

    n: int
    change: float
    effect: float
    error: float
    low: float = math.nan
    high: float = math.nan
    clips: tuple[tuple[str, float], ...] = ()
    start: float = 0.0
    offset: float | None = None

    def on_scale(self, change: float) -> float:
        """A change of the metric as an effect on the scale of the test."""
        if self.offset is None:
            return change
        return math.log((self.start + change + self.offset) / (self.start + self.offset))

    def from_scale(self, effect: float) -> float:
        """The inverse of `on_scale`."""
        return effect if self.offset is None else (self.start + self.offset) * math.expm1(effect)


def evidence_of(
    pinned: CellRecord,
    cell: CellRecord,
    policy: Metric,
    tolerance: float,
    records: tuple[Record, Record],
    resamples: int,
) -> tuple[Evidence | None, str]:
    """What the clips say, and why that is not the whole pinned set."""
    if pinned.draws and not cell.draws:
        return None, "no bootstrap draws: the table's .draws.json is missing or belongs to another run"
    gone = [clip for clip in pinned.clip_ids if clip not in set(cell.clip_ids)]
    gap = ""
    if gone:
        why = next((cell.failures[clip] for clip in gone if clip in cell.failures), "")
        shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        gap = f"{len(gone)} of {len(pinned.clip_ids)} clips are missing: {shown}{f' ({why})' if why else ''}"
    if pinned.scores:
        common = [clip for clip in pinned.scores if clip in cell.scores]
        return (_pair_evidence(pinned, cell, common, policy, resamples) if common else None), gap
    assert pinned.value is not None
    assert cell.value is not None
    if not pinned.draws:  # a distance without an interval, a point, a probe: judged by its tolerance alone
        change = policy.clamp(cell.value) - policy.clamp(pinned.value)
        return Evidence(pinned.n or len(pinned.clips), change, change, math.nan), gap
    before, now = records
    if cell.clips != pinned.clips:
        return None, gap or f"measured on {len(cell.clips)} clips, {len(pinned.clips)} are pinned"
    if (before.seed, len(pinned.draws)) != (now.seed, len(cell.draws)):
        return None, (
            f"other bootstrap draws: {len(cell.draws)} of seed {now.seed}, pinned {len(pinned.draws)} of "
            f"seed {before.seed}"
        )
    return _corpus_evidence(pinned, cell, tolerance), gap


def _pair_evidence(
    pinned: CellRecord, cell: CellRecord, common: Sequence[str], policy: Metric, resamples: int
) -> Evidence:
    """Mean difference over the common clips, on the clamped scale."""
    pair = (np.array([scores[clip] for clip in common]) for scores in (pinned.scores, cell.scores))
    before, now = (np.clip(values, *policy.gate_limits) for values in pair)
    shifts = now - before
    order = np.argsort(shifts if policy.higher_is_better else -shifts, kind="stable")
    clips = tuple((common[i], float(shifts[i])) for i in order)
    n, change = len(shifts), float(shifts.mean())
    if n < 2:
        return Evidence(n, change, change, math.nan, clips=clips)
    means = bootstrap_means(shifts, resamples)
    low, high = percentile_interval(means, _LEVEL)
    return Evidence(n, change, change, bootstrap_error(means, n), low, high, clips)


def _corpus_evidence(pinned: CellRecord, cell: CellRecord, offset: float) -> Evidence:
    """Change of a distance, replicate by replicate, with each clip's pull on it."""
    assert pinned.value is not None
    assert cell.value is not None
    n = len(pinned.clips)
    # Unbiased distances (KAD) may be slightly negative, which means 0.
    values = ((pinned.value, *pinned.draws), (cell.value, *cell.draws))
    before, now = (np.maximum(np.array(row, dtype=np.float64), 0.0) for row in values)
    effects = np.log(now + offset) - np.log(before + offset)
    effect, shifts = float(effects[0]), effects[1:]
    # A clip's pull is what the change loses without it; blocks of several clips have none.
    pull = shifts.mean() - shifts if len(shifts) == n else np.zeros(0)
    clips = tuple((pinned.clips[i], float(pull[i])) for i in np.argsort(-pull, kind="stable"))
    error, freedom = replicate_error(shifts, JACKKNIFE)
    found = Evidence(n, cell.value - pinned.value, effect, error, clips=clips, start=float(before[0]), offset=offset)
    half = t_half_width(error, freedom, _LEVEL)
    return replace(found, low=found.from_scale(effect - half), high=found.from_scale(effect + half))
