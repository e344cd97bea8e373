"""What the clips of a pinned cell and of the same cell now say about the change between them.

Clips of a group (excerpts of one track) are not independent, so that the error of a change is that of a jackknife
which leaves out a group at a time, for means and for distances alike. It goes with Student's t with one degree of
freedom less than there are groups, where groups of unequal size count as fewer (`effective_groups`).

That was chosen by simulation (changes of 42 clips in 18, 11 or 8 groups, normal, with heavy tails or rare outliers,
intraclass correlation 0 and 0.8): how often p is below 1.25e-4, the first step of Holm's correction of 16 cells, as a
multiple of that:

                                       18 groups of 1-4   11 groups of 1-9   one group of 21, 7 of 3
  cluster-robust error, groups - 1     up to 1.9          up to 2.7          up to 7.6
  jackknife, groups - 1                up to 1.8          up to 2.4          up to 5.9
  jackknife, effective groups - 1      up to 1.2          up to 0.8          0.0

With groups of one size all three are the t test of the groups' means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.gate.record import CellRecord, Record
from benchmarks.metrics.base import Metric
from benchmarks.statistics.groups import Index, effective_groups, group_index, leave_out_blocks, left_out_means
from benchmarks.statistics.replicates import JACKKNIFE, replicate_error, t_half_width

_LEVEL = 0.95
#: What a distance is added to before its logarithm where a user tolerates no change at all.
_LEAST_OFFSET = 1e-9


@dataclass(frozen=True)
class Evidence:
    """The change of a cell (`current - baseline`) with its 95 % interval, and the clips behind it.

    `effect`, `error` and `freedom` are the change, its standard error and the degrees of freedom on the scale of the
    test: the metric's own, or, with an `offset`, log(value + offset), where `start` is the baseline's value. The error
    is NaN where nothing tells it (one group, no replicates).
    """

    n: int
    n_groups: int
    change: float
    effect: float
    error: float = math.nan
    freedom: float = 0.0
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
        if self.offset is None:
            return effect
        with np.errstate(over="ignore"):
            return (self.start + self.offset) * float(np.expm1(effect))


def evidence_of(
    pinned: CellRecord, cell: CellRecord, policy: Metric, tolerance: float, records: tuple[Record, Record]
) -> tuple[Evidence | None, str]:
    """What the clips say, and why that is not the whole pinned set."""
    if pinned.replicates and not cell.replicates:
        return None, "no replicates: the table's .replicates.json is missing or belongs to another run"
    gone = [clip for clip in pinned.clip_ids if clip not in set(cell.clip_ids)]
    gap = ""
    if gone:
        why = next((cell.failures[clip] for clip in gone if clip in cell.failures), "")
        shown = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        gap = f"{len(gone)} of {len(pinned.clip_ids)} clips are missing: {shown}{f' ({why})' if why else ''}"
    before, now = records
    if pinned.scores:
        common = [clip for clip in pinned.scores if clip in cell.scores]
        return (_pair_evidence(pinned, cell, common, policy, now) if common else None), gap
    assert pinned.value is not None
    assert cell.value is not None
    if not pinned.replicates:  # a distance without an interval, a point, a probe: judged by its tolerance alone
        change = policy.clamp(cell.value) - policy.clamp(pinned.value)
        n = pinned.n or len(pinned.clips)
        return Evidence(n, n, change, change), gap
    if cell.clips != pinned.clips:
        return None, gap or f"measured on {len(cell.clips)} clips, {len(pinned.clips)} are pinned"
    was, found = (_replicates_text(one, record) for one, record in ((pinned, before), (cell, now)))
    if was != found:
        return None, f"other replicates: {found}, pinned {was}"
    return _corpus_evidence(pinned, cell, max(tolerance, _LEAST_OFFSET), now), gap


def _replicates_text(cell: CellRecord, record: Record) -> str:
    """How the replicates of a cell were made; two cells compare replicate by replicate if it is the same."""
    groups = len(set(group_index(cell.clips, record.groups)))
    return f"{len(cell.replicates)} ({cell.replicates_of}) of {groups} groups, seed {record.seed}"


def _freedom(freedom: float, index: Index) -> float:
    """Degrees of freedom, no more than the effective number of groups leaves."""
    return min(freedom, effective_groups(index) - 1.0)


def _pair_evidence(
    pinned: CellRecord, cell: CellRecord, common: Sequence[str], policy: Metric, record: Record
) -> Evidence:
    """Mean difference over the common clips, on the clamped scale."""
    pair = (np.array([scores[clip] for clip in common]) for scores in (pinned.scores, cell.scores))
    before, now = (np.clip(values, *policy.gate_limits) for values in pair)
    shifts = now - before
    order = np.argsort(shifts if policy.higher_is_better else -shifts, kind="stable")
    clips = tuple((common[i], float(shifts[i])) for i in order)
    index = group_index(common, record.groups)
    n, n_groups, change = len(shifts), 1 + int(index.max()), float(shifts.mean())
    if n_groups < 2:
        return Evidence(n, n_groups, change, change, clips=clips)
    error, freedom = replicate_error(left_out_means(shifts, index), JACKKNIFE)
    return _bounded(Evidence(n, n_groups, change, change, error, _freedom(freedom, index), clips=clips))


def _corpus_evidence(pinned: CellRecord, cell: CellRecord, offset: float, record: Record) -> Evidence:
    """Change of a distance, replicate by replicate, with the pull of each group on it."""
    assert pinned.value is not None
    assert cell.value is not None
    values = ((pinned.value, *pinned.replicates), (cell.value, *cell.replicates))
    before, now = (np.array(row, dtype=np.float64) for row in values)
    scale: float | None = offset
    if pinned.value < -offset:  # the zero of this distance is not "the same" (kadtk's KAD): no logarithm
        effects, scale = now - before, None
    else:  # unbiased distances may be slightly negative, which means 0
        before, now = np.maximum(before, 0.0), np.maximum(now, 0.0)
        effects = np.log(now + offset) - np.log(before + offset)
    effect, shifts = float(effects[0]), effects[1:]
    index = group_index(cell.clips, record.groups)
    error, freedom = replicate_error(shifts, cell.replicates_of)
    # A group whose absence makes the change smaller pulls it up: the jackknife's influence of its block.
    pulls: list[tuple[str, float]] = []
    names = {int(number): record.groups.get(clip, clip) for clip, number in zip(cell.clips, index, strict=True)}
    pull = (len(shifts) - 1) * (shifts.mean() - shifts)
    blocks = leave_out_blocks(len(names), record.seed)
    if len(blocks) == len(shifts):  # else the file was changed by hand
        pairs = zip(blocks, pull, strict=True)
        pulls = [(names[int(number)], float(size)) for block, size in pairs for number in block]
    found = Evidence(
        len(cell.clips),
        1 + int(index.max()),
        cell.value - pinned.value,
        effect,
        error,
        _freedom(freedom, index),
        clips=tuple(sorted(pulls, key=lambda item: -item[1])),
        start=float(before[0]),
        offset=scale,
    )
    return _bounded(found)


def _bounded(found: Evidence) -> Evidence:
    """With the interval that Student's t gives on the scale of the test."""
    half = t_half_width(found.error, found.freedom, _LEVEL)
    return replace(found, low=found.from_scale(found.effect - half), high=found.from_scale(found.effect + half))
