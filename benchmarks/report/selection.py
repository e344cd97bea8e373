"""Which clips go on the listening page: those that systems find hardest and easiest, and ordinary ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.report.wording import ordinal

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Choice:
    """A clip and why it was chosen."""

    clip: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Pick:
    clip: str
    reason: str


def choose(
    scores: Scores, titles: Mapping[str, str], systems: Sequence[str], clip_ids: Sequence[str], count: int
) -> list[Choice]:
    """The clips to show, in the order they were found.

    For each metric the clips are ordered by their mean rank over the systems, so that one system's large
    numbers do not decide. Worst, best and median clips of every metric are taken in turn until there are
    enough; clips without any score come last.

    Args:
        scores: metric -> system -> clip -> score, higher is better.
        titles: metric -> heading.
        systems: the systems whose scores count.
        clip_ids: all clips, in order.
        count: how many to choose; all there are if there are fewer.

    Raises:
        ValueError: count < 1.
    """
    if count < 1:
        raise ValueError(f"the number of clips must be at least 1, got {count}")
    known = set(clip_ids)
    lists = []
    for metric, by_system in scores.items():
        used = {name: by_system[name] for name in systems if name in by_system}
        order = [clip for clip in hardest_first(used) if clip in known]
        if order:
            lists += _picks(order, titles.get(metric, metric), len(used))
    reasons: dict[str, list[str]] = {}
    for pick in _in_turn(lists):
        if pick.clip in reasons or len(reasons) < count:
            reasons.setdefault(pick.clip, []).append(pick.reason)
    for clip in _spread(clip_ids):
        if len(reasons) < count:
            reasons.setdefault(clip, [])
    return [Choice(clip, tuple(found[:3])) for clip, found in reasons.items()]


def hardest_first(by_system: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Clips that all systems have, by mean rank over systems, lowest scores first; ties by name."""
    finite = [{clip: value for clip, value in values.items() if math.isfinite(value)} for values in by_system.values()]
    finite = [values for values in finite if values]
    if not finite:
        return []
    clips = sorted(set.intersection(*(set(values) for values in finite)))
    if not clips:
        return []
    ranks = np.mean([rankdata([values[clip] for clip in clips]) for values in finite], axis=0)
    return [clips[index] for index in np.lexsort((np.arange(len(clips)), ranks))]


def rankdata(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank (scipy.stats takes two seconds to import)."""
    _, group, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group], dtype=np.float64)


def _picks(order: Sequence[str], title: str, n_systems: int) -> list[list[_Pick]]:
    """Worst, best and median clips of one metric, each list from the most to the least telling."""
    n = len(order)
    over = f"by mean rank of {n_systems} systems" if n_systems > 1 else "of the one system"
    half = max(1, n // 3)
    middle = sorted(range(n), key=lambda index: (abs(index - (n - 1) / 2), index))

    def place(index: int, word: str) -> str:
        return f"{word if index == 0 else f'{ordinal(index + 1)} {word}'} {title} of {n} clips, {over}"

    return [
        [_Pick(order[i], place(i, "lowest")) for i in range(half)],
        [_Pick(order[n - 1 - i], place(i, "highest")) for i in range(half)],
        [_Pick(order[i], f"median {title}, {ordinal(i + 1)} of {n} clips {over}") for i in middle[:half]],
    ]


def _in_turn(lists: Sequence[Sequence[_Pick]]) -> Iterator[_Pick]:
    for index in range(max((len(part) for part in lists), default=0)):
        for part in lists:
            if index < len(part):
                yield part[index]


def _spread(clip_ids: Sequence[str]) -> list[str]:
    """All clips, each as far from those before it as a simple stride allows: first, middle, quarters, ..."""
    found: list[str] = []
    step = max(1, 1 << (max(len(clip_ids), 1) - 1).bit_length())
    while step >= 1:
        found += [clip_ids[i] for i in range(0, len(clip_ids), step) if clip_ids[i] not in found]
        step //= 2
    return found
