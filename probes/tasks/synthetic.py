"""The four tasks of Table 1 on embedded synthetic music: same shapes, no downloads, minutes on two cores.

They show that the protocol works and rank representations by what they hear in simple material; they are
no substitute for the real data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.datasets import Clip, create_dataset
from probes.metrics import KEYS, PITCH_CLASSES
from probes.tasks.base import Clusters, TaskData, TaskInfo
from probes.tasks.labeled import labeled_task, note_clusters

LICENSE = "CC0-1.0 (generated)"
CITATION = "Synthetic music of the m2l benchmark suite"
SOURCE = "generated from integer seeds"


def _info(name: str, title: str, kind: str, labels: tuple[str, ...], dataset: str, batch_size: int) -> TaskInfo:
    return TaskInfo(name, "1", title, kind, labels, dataset, LICENSE, CITATION, SOURCE, batch_size)


class SyntheticTags:
    """Tags of short pieces; artists disjoint between train, validation and test.

    Args:
        size: clips, a multiple of 100.
        seconds: length of each.
        options: further options of the data set `synthetic-tags`.

    The vocabulary is the data set's tags that occur, and are absent, in every part of the split.
    """

    def __init__(self, size: int = 200, seconds: float = 2.5, **options: Any) -> None:
        self.dataset = create_dataset("synthetic-tags", size=size, seconds=seconds, **options)
        self._clips = self.dataset.clips()
        parts = [[set(c.labels["tags"]) for c in self._clips if c.split == s] for s in ("train", "valid", "test")]
        self.tags = tuple(
            tag
            for tag in self.dataset.tags  # type: ignore[attr-defined]
            if all(0 < sum(tag in tags for tags in part) < len(part) for part in parts)
        )
        self.info = _info("synthetic-tags", "Synthetic tags", "multilabel", self.tags, "synthetic-tags", 16)

    def load(self) -> TaskData:
        """Clips with 0/1 targets; see `labeled_task`."""
        return labeled_task(
            self.info,
            self._clips,
            lambda clip: [tag for tag in clip.labels["tags"] if tag in self.tags],
            group=lambda clip: str(clip.labels["artist"]),
            clusters=_artists(self._clips),
        )


class SyntheticKeys:
    """Key of short pieces, all 24 keys in every part.

    Args:
        size: tracks, a multiple of 24.
        seconds: length of each.
        options: further options of the data set `synthetic-keys`.
    """

    def __init__(self, size: int = 192, seconds: float = 3.0, **options: Any) -> None:
        self.dataset = create_dataset("synthetic-keys", size=size, seconds=seconds, **options)
        self.info = _info("synthetic-keys", "Synthetic keys", "key", KEYS, "synthetic-keys", 16)

    def load(self) -> TaskData:
        """Clips with keys; see `labeled_task`."""
        clips = self.dataset.clips()
        return labeled_task(
            self.info, clips, _key, group=lambda clip: str(clip.labels["artist"]), clusters=_artists(clips)
        )


def _artists(clips: Sequence[Clip]) -> Clusters:
    """Pieces of one artist share style and timbres: intervals count artists."""
    return Clusters({clip.id: str(clip.labels["artist"]) for clip in clips}, "clips", "artists")


def _key(clip: Clip) -> str:
    return str(clip.labels["key"])


class _SyntheticNotes:
    """Args:
    seconds: length of each note's clip.
    every: keep one pitch in `every`, staggered over the instruments (1 keeps all 619 notes).
    options: further options of the data set `synthetic-notes`.
    """

    info: TaskInfo

    def __init__(self, seconds: float = 0.8, every: int = 2, **options: Any) -> None:
        self.dataset = create_dataset("synthetic-notes", seconds=seconds, **options)
        self.every = every

    def _clips(self) -> list[Clip]:
        number = {name: i for i, name in enumerate(self.dataset.instruments)}  # type: ignore[attr-defined]
        return [
            clip
            for clip in self.dataset.clips()
            if (clip.labels["midi"] + number[clip.labels["instrument"]]) % self.every == 0
        ]

    def _load(self, label: str) -> TaskData:
        clips = self._clips()
        return labeled_task(
            self.info,
            clips,
            lambda clip: str(clip.labels[label]),
            group=lambda clip: str(clip.labels["group"]),
            folds="labels",
            clusters=note_clusters(clips, label),
        )


class SyntheticPitch(_SyntheticNotes):
    """Pitch class of single notes."""

    info = _info("synthetic-pitch", "Synthetic pitch class", "multiclass", PITCH_CLASSES, "synthetic-notes", 16)

    def load(self) -> TaskData:
        """Notes with pitch classes; see `labeled_task`."""
        return self._load("pitch_class")


class SyntheticInstrument(_SyntheticNotes):
    """Instrument of single notes."""

    def __init__(self, seconds: float = 0.8, every: int = 2, **options: Any) -> None:
        super().__init__(seconds, every, **options)
        instruments: tuple[str, ...] = self.dataset.instruments  # type: ignore[attr-defined]
        self.info = _info(
            "synthetic-instrument", "Synthetic instrument", "multiclass", instruments, "synthetic-notes", 16
        )

    def load(self) -> TaskData:
        """Notes with instruments; see `labeled_task`."""
        return self._load("instrument")
