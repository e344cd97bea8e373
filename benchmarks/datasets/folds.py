"""Cross-validation folds as splits: how the five folds of TinySOL (and of sets in its shape) are used."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.datasets.base import Clip, check_split

N_FOLDS = 5
# The single split of mir_ref: fold 0 validates, fold 1 tests, the rest trains.
SPLIT_OF_FOLD = ("valid", "test", "train", "train", "train")
FOLD_NAMES = tuple(f"fold{i}" for i in range(N_FOLDS))


def select_fold(clips: Sequence[Clip], split: str | None, dataset: str) -> list[Clip]:
    """Keep a split: `train`, `valid`, `test`, or one fold by name (`fold0` … `fold4`).

    Clips carry their fold in `labels["fold"]`.

    Raises:
        ValueError: There is no such split.
    """
    check_split(split, ("train", "valid", "test", *FOLD_NAMES), dataset)
    if split in FOLD_NAMES:
        return [clip for clip in clips if clip.labels["fold"] == FOLD_NAMES.index(str(split))]
    return [clip for clip in clips if split in (None, "all", clip.split)]
