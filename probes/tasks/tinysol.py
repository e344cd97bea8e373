"""TinySOL: pitch class and instrument of 2,913 single notes, with the official five folds.

Batches hold 64 notes: mir_ref's 1,083 would leave nothing of the 582 test notes, since it drops the last incomplete
batch. Under mir_ref-1, fold 0 validates, fold 1 tests and folds 2-4 train (mirdata exposes the folds, and mir_ref
takes the first rotation only). The strict scheme is the mean over all five rotations, as the data set's
authors recommend.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.datasets.base import DataNotFoundError, PublishedSize
from probes.metrics import PITCH_CLASSES
from probes.tasks.base import (
    TaskData,
    TaskDataError,
    TaskInfo,
    audio_clip,
    data_folder,
    find_file,
    find_folder,
    k_fold_splits,
    require_files,
)
from probes.tasks.labeled import note_clusters

SOURCE = "Zenodo record 3685367 (TinySOL.tar.gz, TinySOL_metadata.csv); index: mirdata's tinysol_index_6.0.json"
METADATA, INDEX = "TinySOL_metadata.csv", "tinysol_index_6.0.json"
FOLD_COUNTS = {0: 583, 1: 582, 2: 583, 3: 582, 4: 583}
INSTRUMENTS = (
    "Accordion",
    "Alto Saxophone",
    "Bass Tuba",
    "Bassoon",
    "Cello",
    "Clarinet in Bb",
    "Contrabass",
    "Flute",
    "French Horn",
    "Oboe",
    "Trombone",
    "Trumpet in C",
    "Viola",
    "Violin",
)
CITATION = "Cella, Ghisi, Lostanlen, Lévy, Fineberg, Maresz: OrchideaSOL, ICMC 2020; TinySOL 6.0"


class _TinySOL:
    """Args:
    root: folder with `audio/Brass/…`; default `M2L_DATA/tinysol`.
    audio: whether the audio has to be there.
    complete: hold counts to the published ones; False for an excerpt of the data.
    """

    published = PublishedSize(
        "tinysol",
        clips=2913,
        seconds=10.0,
        source="Zenodo 3685367 has 2,913 notes; lengths are not published: 10 s as an upper guess",
        command="m2l-bench fetch tinysol",
    )
    info: TaskInfo
    asks = ""

    def __init__(self, root: str | Path | None = None, *, audio: bool = True, complete: bool = True) -> None:
        self.root, self.audio, self.complete = root, audio, complete

    def load(self) -> TaskData:
        """Read the metadata table, bind audio, check counts and folds.

        Raises:
            DataNotFoundError: metadata or audio are missing.
            TaskDataError: unknown labels, or counts that are not the published ones.
        """
        if self.audio or self.root is not None:
            folder = find_folder(("tinysol", "TinySOL"), self.root, SOURCE)
        else:
            folder = data_folder()
        beside = [folder, folder / "annotation", folder.parent / "metadata", folder / "metadata"]
        metadata = find_file(METADATA, beside, SOURCE)
        checksums = self._checksums(beside)
        with open(metadata, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        audio_folder = folder / "audio" if (folder / "audio").is_dir() else folder
        paths = [audio_folder / row["Path"] for row in rows]
        if self.audio:
            require_files(paths, "audio files", SOURCE)
        ids = [Path(row["Path"]).stem for row in rows]
        clips = [
            audio_clip(
                note,
                "tinysol",
                path,
                md5=checksums.get(note),
                labels={"pitch": row["Pitch"], "instrument": row["Instrument (in full)"]},
                license=self.info.license,
            )
            for note, path, row in zip(ids, paths, rows, strict=True)
        ]
        names = [self._label(row) for row in rows]
        if unknown := sorted(set(names) - set(self.info.labels)):
            raise TaskDataError(f"{metadata}: unknown label {unknown[0]!r}")
        targets = np.array([self.info.labels.index(name) for name in names], dtype=np.int64)
        folds = {note: int(row["Fold"]) for note, row in zip(ids, rows, strict=True)}
        counts = dict(sorted(Counter(folds.values()).items()))
        if self.complete and counts != FOLD_COUNTS:
            raise TaskDataError(f"{metadata}: folds hold {counts} notes, published are {FOLD_COUNTS}")
        rotations = k_fold_splits(folds)
        clusters = note_clusters(clips, self.asks)
        data = TaskData(self.info, clips, targets, {"mir_ref": rotations[:1], "strict": rotations}, clusters=clusters)
        if self.complete:
            data.check()
        return data

    def _label(self, row: dict[str, str]) -> str:
        raise NotImplementedError

    @staticmethod
    def _checksums(folders: list[Path]) -> dict[str, str]:
        """Note -> published MD5 from mirdata's index, or nothing without an index."""
        try:
            index = find_file(INDEX, folders, SOURCE)
        except DataNotFoundError:
            return {}
        return {note: entry["audio"][1] for note, entry in json.loads(index.read_text())["tracks"].items()}


class TinySOLPitch(_TinySOL):
    """Pitch class (12) of a note: its pitch without the octave."""

    __doc__ = f"{__doc__}\n\n{_TinySOL.__doc__}"
    info = TaskInfo(
        name="tinysol-pitch",
        version="1",
        title="TinySOL pitch class",
        kind="multiclass",
        labels=PITCH_CLASSES,
        dataset="tinysol",
        license="CC BY 4.0",
        citation=CITATION,
        source=SOURCE,
        batch_size=64,
    )

    asks = "pitch_class"

    def _label(self, row: dict[str, str]) -> str:
        return row["Pitch"].rstrip("0123456789")


class TinySOLInstrument(_TinySOL):
    """Instrument (14) of a note."""

    __doc__ = f"{__doc__}\n\n{_TinySOL.__doc__}"
    info = TaskInfo(
        name="tinysol-instrument",
        version="1",
        title="TinySOL instrument",
        kind="multiclass",
        labels=INSTRUMENTS,
        dataset="tinysol",
        license="CC BY 4.0",
        citation=CITATION,
        source=SOURCE,
        batch_size=64,
    )

    asks = "instrument"

    def _label(self, row: dict[str, str]) -> str:
        return row["Instrument (in full)"]
