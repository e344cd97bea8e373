"""Tasks over data sets of `benchmarks.datasets` whose clips carry their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.datasets.base import Clip
from probes.tasks.base import Clusters, Split, TaskData, TaskDataError, TaskInfo, grouped_folds, k_fold_splits


def labeled_task(
    info: TaskInfo,
    clips: Sequence[Clip],
    label: Callable[[Clip], str | Sequence[str]],
    *,
    group: Callable[[Clip], str] | None = None,
    folds: str = "",
    notes: tuple[str, ...] = (),
    clusters: Clusters | None = None,
) -> TaskData:
    """A task whose targets are read off the clips.

    Args:
        info: the task.
        clips: with `split` "train", "valid" or "test".
        label: name of a clip's class, or its tags.
        group: what must not be divided between train and test.
        folds: what the strict scheme rotates over: "labels" are the clips' own `labels["fold"]`, "grouped"
            five new folds that keep groups whole; empty, it is the one split.
        notes, clusters: see `TaskData`.

    Raises:
        TaskDataError: a label that `info.labels` does not have, an unknown split, or a leak.
    """
    column = {name: number for number, name in enumerate(info.labels)}
    multilabel = info.kind == "multilabel"
    targets = np.zeros((len(clips), len(column)) if multilabel else len(clips), dtype=np.int64)
    for row, clip in enumerate(clips):
        found = label(clip)
        for name in [found] if isinstance(found, str) else found:
            if name not in column:
                raise TaskDataError(f"task {info.name!r}: clip {clip.id!r} has the unknown label {name!r}")
            targets[(row, column[name]) if multilabel else row] = 1 if multilabel else column[name]
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for clip in clips:
        if clip.split not in parts:
            raise TaskDataError(f"task {info.name!r}: clip {clip.id!r} has split {clip.split!r}")
        parts[clip.split].append(clip.id)
    single = [Split("single", tuple(parts["train"]), tuple(parts["valid"]), tuple(parts["test"]))]
    groups = {clip.id: group(clip) for clip in clips} if group is not None else None
    strict = single
    if folds == "labels":
        strict = k_fold_splits({clip.id: int(clip.labels["fold"]) for clip in clips})
    elif folds == "grouped":
        assert groups is not None, "grouped folds need groups"
        strict = k_fold_splits(grouped_folds([clip.id for clip in clips], targets, groups), "grouped-fold")
    data = TaskData(info, clips, targets, {"mir_ref": single, "strict": strict}, groups, notes, clusters or Clusters())
    data.check()
    return data


def note_clusters(clips: Sequence[Clip], label: str) -> Clusters:
    """What the intervals of a score on single notes count.

    A score of pitch is a claim about instruments: a representation follows the pitch of some and fails on others, and
    all notes of one instrument share its timbre. So the instruments are what was sampled, however many notes each
    plays. A score of instruments cannot take them for its samples, since they are the classes; there a group is what
    is nearly the same sound: the notes of one instrument at one MIDI pitch, at other dynamics or on other strings.

    Args:
        clips: notes with `labels["instrument"]` and `labels["pitch"]` ("C#4", one name per MIDI pitch).
        label: what the task asks for: "pitch_class" or "instrument".
    """
    if label == "pitch_class":
        return Clusters({clip.id: str(clip.labels["instrument"]) for clip in clips}, "notes", "instruments")
    groups = {clip.id: f"{clip.labels['instrument']} {clip.labels['pitch']}" for clip in clips}
    return Clusters(groups, "notes", "pairs of instrument and pitch")
