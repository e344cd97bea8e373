"""Pitch class and instrument on the open notes: rendered from recorded samples, in TinySOL's shape.

A SoundFont re-pitches a few recordings per instrument, so instruments are far easier to tell apart than in
TinySOL; the table says "rendered".
"""

from __future__ import annotations

from typing import Any

from benchmarks.datasets import create_dataset
from probes.metrics import PITCH_CLASSES
from probes.tasks.base import TaskData, TaskInfo
from probes.tasks.labeled import labeled_task, note_clusters
from probes.tasks.tinysol import INSTRUMENTS

NOTES = (
    "rendered from a SoundFont of recorded samples: sanity, not a TinySOL result",
    "the data set's folds, which mir_ref-1 uses, put dynamics of one note on both sides; strict-1 does not",
)


class _OpenNotes:
    """Args:
    options: of the data set `open-notes`.
    """

    info: TaskInfo
    label = ""

    def __init__(self, **options: Any) -> None:
        self.dataset = create_dataset("open-notes", **options)

    def load(self) -> TaskData:
        """Notes with labels and folds; see `labeled_task`.

        Raises:
            DataNotFoundError: the notes are not on this machine.
        """
        clips = self.dataset.clips()
        return labeled_task(
            self.info,
            clips,
            lambda clip: str(clip.labels[self.label]),
            group=lambda clip: str(clip.labels["group"]),
            folds="grouped",
            notes=NOTES,
            clusters=note_clusters(clips, self.label),
        )


def _info(name: str, title: str, labels: tuple[str, ...]) -> TaskInfo:
    return TaskInfo(
        name=name,
        version="1",
        title=title,
        kind="multiclass",
        labels=labels,
        dataset="open-notes",
        license="MIT (FluidR3 SoundFont)",
        citation="FluidR3_GM SoundFont 3.1, Frank Wen and contributors; rendered with FluidSynth",
        source="data set open-notes",
        batch_size=64,
    )


class OpenPitch(_OpenNotes):
    """Pitch class of rendered notes."""

    info = _info("open-pitch", "Open notes (rendered) pitch class", PITCH_CLASSES)
    label = "pitch_class"


class OpenInstrument(_OpenNotes):
    """Instrument of rendered notes."""

    info = _info("open-instrument", "Open notes (rendered) instrument", INSTRUMENTS)
    label = "instrument"
