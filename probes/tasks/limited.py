"""A part of a task, for a quick look (`--limit N`): the first clips of each part of each split, of all classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from probes.tasks.base import Split, TaskData


def limited(data: TaskData, scheme: str, limit: int) -> TaskData:
    """The task with at most `limit` clips in each of train, validation and test; more only if there are more classes.

    Clips are taken class by class in turn (tag by tag), in the order of the split, so that every class that a part has
    stays in it. The data and its splits have digests of their own: nothing of the whole task is taken for it. Where
    nothing is left out, it is the task itself.

    Args:
        data: the whole task.
        scheme: the splits that are kept.
        limit: clips per part, at least 1.
    """
    splits = [
        Split(split.name, *(_first(data, part, limit) for part in (split.train, split.validation, split.test)))
        for split in data.splits(scheme)
    ]
    kept = {clip_id for split in splits for clip_id in (*split.train, *split.validation, *split.test)}
    if all(len(kept_part) == len(whole) for kept_part, whole in _parts(splits, data.splits(scheme))):
        return data
    rows = [number for number, clip in enumerate(data.clips) if clip.id in kept]
    part = dataclasses.replace(
        data,
        clips=[data.clips[row] for row in rows],
        targets=data.targets[rows],
        schemes={scheme: splits},
        groups=None if data.groups is None else {i: g for i, g in data.groups.items() if i in kept},
        notes=(*data.notes, f"only the first clips of each part (limit {limit})"),
    )
    part.check()
    return part


def _parts(ours: Sequence[Split], whole: Sequence[Split]) -> list[tuple[Sequence[str], Sequence[str]]]:
    names = ("train", "validation", "test")
    return [(getattr(a, name), getattr(b, name)) for a, b in zip(ours, whole, strict=True) for name in names]


def _first(data: TaskData, ids: Sequence[str], limit: int) -> tuple[str, ...]:
    """The ids that are kept, in their order."""
    if len(ids) <= limit or data.info.kind == "regression":
        return tuple(ids[:limit])
    targets = data.targets[data.rows(ids)]
    if targets.ndim == 1:
        turn = np.zeros(len(ids), dtype=np.int64)  # how many of its class came before each
        for label in np.unique(targets):
            of_label = np.flatnonzero(targets == label)
            turn[of_label] = np.arange(len(of_label))
        order = np.lexsort((np.arange(len(ids)), turn))
        chosen = order[: max(limit, len(np.unique(targets)))]
    else:
        chosen = _cover(targets, limit)
    return tuple(ids[number] for number in sorted(chosen.tolist()))


def _cover(targets: np.ndarray, limit: int) -> np.ndarray:
    """Rows of 0/1 targets: for every tag a clip with it and one without, then the first clips that are left."""
    chosen: dict[int, None] = {}
    for column in targets.T:
        for value in (1, 0):
            rows = np.flatnonzero(column == value)
            if len(rows) and not any(column[row] == value for row in chosen):
                chosen[int(rows[0])] = None
    for row in range(len(targets)):
        if len(chosen) >= limit:
            break
        chosen.setdefault(row, None)
    return np.array(list(chosen), dtype=np.int64)
