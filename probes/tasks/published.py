"""Tasks of the literature on `FolderTask`: each says where its files lie and reads their published annotations.

Nothing here is downloaded: `m2l-bench fetch NAME --from DIR` takes a copy of the data as its authors publish it.
Metrics and splits are those of MARBLE (Yuan et al., NeurIPS 2023) and JukeMIR (Castellon et al., ISMIR 2021) where
they are published with the data; a class says where it had to choose.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.datasets.base import DataNotFoundError, PublishedSize
from probes.tasks.base import TaskDataError, TaskInfo, find_folder
from probes.tasks.folder import FolderTask
from probes.tasks.label_tables import Rows, read_table

_AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".au")


class PublishedTask(FolderTask):
    """A task over a data set in its published layout.

    Args:
        root: folder of the data set; default the one that `M2L_DATA` or `m2l-bench fetch` has.
        complete: hold the number of files of each part to the published one; False for an excerpt.
        batch_size: items per training step.

    Subclasses give the attributes below, and `rows`.

    Attributes:
        name, title, dataset, license, citation, source: as in `TaskInfo`.
        of: kind of the task.
        label: column of labels.
        by: what groups are called; intervals count them, folds keep them whole. "" for none.
        folders: names of the data set's folder.
        counts: files in train, valid and test as published; () where that is not known.
    """

    name = title = dataset = license = citation = source = ""
    of, label_column, by = "multiclass", "label", ""
    folders: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    def __init__(self, root: str | Path | None = None, *, complete: bool = True, batch_size: int = 64) -> None:
        super().__init__(
            kind=self.of, label=self.label_column, group=self.by or "group", name=self.name, batch_size=batch_size
        )
        self.root, self.complete = root, complete

    def rows(self, folder: Path) -> Rows:
        """Rows with file (relative to `folder`), the column of labels, split, and (with `by`) the group."""
        raise NotImplementedError

    @cached_property
    def info(self) -> TaskInfo:
        """What is known of the task; without labels while the data is missing."""
        try:
            labels = self._labels()
        except (DataNotFoundError, TaskDataError):
            labels = ()
        return TaskInfo(
            self.name, "1", self.title, self.of, labels, self.dataset, self.license, self.citation, self.source,
            self._about[3],
        )  # fmt: skip

    @cached_property
    def _folder(self) -> Path:
        return find_folder(self.folders, self.root, self.source)

    @property
    def _file(self) -> Path:
        return self._folder

    @cached_property
    def _read(self) -> tuple[list[str], Rows]:
        rows = self.rows(self._folder)
        found = Counter(row["split"] for row in rows)
        if self.complete and self.counts and tuple(found[part] for part in ("train", "valid", "test")) != self.counts:
            shown = ", ".join(f"{found[part]} {part}" for part in ("train", "valid", "test"))
            wanted = "/".join(map(str, self.counts))
            raise TaskDataError(f"{self._folder}: {shown}; published are {wanted} (complete=False takes an excerpt)")
        return ["file", self.label_column, self.group, "split"], rows


def held_out(name: str, of: int, below: int) -> bool:
    """Whether a name's digest falls into `below` of `of` parts: a random choice that is the same everywhere."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % of < below


def found_audio(folder: Path, *stems: str) -> str:
    """The first of several paths without suffix that is an audio file, relative to `folder`; else the first as WAV."""
    paths = (f"{stem}{suffix}" for stem in stems for suffix in _AUDIO)
    return next((path for path in paths if (folder / path).is_file()), f"{stems[0]}.wav")


def _size(data: str, clips: int, seconds: float, source: str) -> PublishedSize:
    return PublishedSize(data, clips, seconds, source, f"m2l-bench fetch {data} --from DIR")


class GiantStepsKey(PublishedTask):
    """Keys of electronic dance music: trained on giantsteps-mtg-key, tested on the 604 tracks of giantsteps-key.

    Training tracks are those with one key and full confidence (C = 2), as in JukeMIR: 1,159. Validation is 16 in 116 of
    them by a digest of the id; JukeMIR's is by the artist, which neither data set gives.
    """

    name, title, of, label_column = "giantsteps-key", "GiantSteps key", "key", "key"
    dataset, folders = "giantsteps-key", ("giantsteps",)
    license = "annotations as published; the previews are Beatport's"
    citation = "Knees et al.: Two data sets for tempo estimation and key detection in EDM, ISMIR 2015"
    source = "github.com/GiantSteps: giantsteps-key-dataset and giantsteps-mtg-key-dataset"
    published = _size("giantsteps", 1763, 120.0, "1,159 + 604 excerpts of two minutes")

    def rows(self, folder: Path) -> Rows:
        """Tracks of both data sets, which lie beside each other under the names of their repositories."""
        mtg, test = folder / "giantsteps-mtg-key-dataset", folder / "giantsteps-key-dataset"
        _, annotated = read_table(mtg / "annotations" / "annotations.txt")
        rows = []
        for row in annotated:
            key = row["MANUAL KEY"].strip()
            if row["C"].strip() != "2" or "/" in key:
                continue
            split = "valid" if held_out(row["ID"], 116, 16) else "train"
            file = found_audio(folder, f"{mtg.name}/audio/{row['ID']}.LOFI")
            rows.append({"file": file, "key": key, "split": split})
        files = sorted((test / "annotations" / "key").glob("*.key"))
        if not files:
            raise DataNotFoundError(f"no files {test / 'annotations' / 'key'}/*.key; {self.source}")
        for path in files:
            file = found_audio(folder, f"{test.name}/audio/{path.stem}")
            rows.append({"file": file, "key": path.read_text(encoding="utf-8").strip(), "split": "test"})
        tested = sum(row["split"] == "test" for row in rows)
        if self.complete and (len(rows) - tested, tested) != (1159, 604):
            raise TaskDataError(
                f"{folder}: {len(rows) - tested} training and {tested} test tracks; published are 1159 and 604 "
                "(complete=False takes an excerpt)"
            )
        return rows


class _NSynth(PublishedTask):
    """Notes of four seconds, 16 kHz; the instruments of training are in neither validation nor test."""

    dataset, folders, by = "nsynth", ("nsynth",), "instrument"
    license = "CC BY 4.0"
    citation = "Engel et al.: Neural audio synthesis of musical notes with WaveNet autoencoders, ICML 2017"
    source = "magenta.tensorflow.org/datasets/nsynth (nsynth-{train,valid,test}.jsonwav.tar.gz)"
    counts = (289_205, 12_678, 4_096)
    published = _size("nsynth", 305_979, 4.0, "305,979 notes")

    def rows(self, folder: Path) -> Rows:
        """Notes of the three archives."""
        rows = []
        for split in ("train", "valid", "test"):
            table = folder / f"nsynth-{split}" / "examples.json"
            if not table.is_file():
                raise DataNotFoundError(f"no file {table}; the data is published at {self.source}")
            notes: dict[str, Any] = json.loads(table.read_text(encoding="utf-8"))
            for name, note in sorted(notes.items()):
                file = f"nsynth-{split}/audio/{name}.wav"
                about = {"file": file, "split": split, "instrument": str(note["instrument_str"])}
                rows.append(about | {"label": self.label_of(note)})
        return rows

    def label_of(self, note: dict[str, Any]) -> str:
        """The class of a note of examples.json."""
        raise NotImplementedError


class NSynthPitch(_NSynth):
    """MIDI pitch; micro F1 is the accuracy of the literature."""

    name, title = "nsynth-pitch", "NSynth pitch"

    def label_of(self, note: dict[str, Any]) -> str:
        """The MIDI number, of three digits."""
        return f"{int(note['pitch']):03d}"


class NSynthInstrument(_NSynth):
    """Families of instruments; micro F1 is the accuracy of the literature.

    Test has no synth lead, so that this class counts 0 in the macro mean.
    """

    name, title = "nsynth-instrument", "NSynth instrument"

    def label_of(self, note: dict[str, Any]) -> str:
        """The family."""
        return str(note["instrument_family_str"])


class GTZAN(PublishedTask):
    """Genres by the fault-filtered split: no artist on two sides, no repetition, no distortion.

    The data has a folder per genre below `genres` (or `genres_original`), and beside it the three lists
    `train_filtered.txt`, `valid_filtered.txt` and `test_filtered.txt` of lines such as `blues/blues.00029.wav`.
    """

    name, title, dataset, folders = "gtzan", "GTZAN genre", "gtzan", ("gtzan", "GTZAN")
    license = "unknown (excerpts of published recordings)"
    citation = (
        "Tzanetakis and Cook 2002; faults: Sturm 2013; split: Kereliuk, Sturm and Larsen, Deep Learning and Music "
        "Adversaries, 2015"
    )
    source = "genres.tar.gz (marsyas.info); lists: github.com/jongpillee/music_dataset_split, GTZAN_split"
    counts = (443, 197, 290)
    published = _size("gtzan", 930, 30.0, "930 of 1,000 excerpts of 30 s are in the filtered split")

    def rows(self, folder: Path) -> Rows:
        """Lines of the lists."""
        place = next((name for name in ("genres", "genres_original") if (folder / name).is_dir()), "genres")
        rows = []
        for split in ("train", "valid", "test"):
            path = folder / f"{split}_filtered.txt"
            if not path.is_file():
                raise DataNotFoundError(f"no list {path}; it is published at {self.source}")
            for line in filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())):
                stem = line.rpartition(".")[0]
                rows.append(
                    {"file": found_audio(folder, f"{place}/{stem}"), "label": line.partition("/")[0], "split": split}
                )
        return rows


class _Emo(PublishedTask):
    """Means over listeners of one of two values, 1 to 9, for excerpts of 45 s.

    Test is the evaluation set of MediaEval 2013; of its development set the songs of a tenth of the artists are
    validation. JukeMIR and MARBLE divide by artist at random in a way that is not published with the data, so that
    figures of theirs are near, not equal.
    """

    of, by, dataset, folders = "regression", "artist", "emomusic", ("emomusic", "EMO")
    strict_folds = True
    license = "for research (songs of the Free Music Archive, CC)"
    citation = "Soleymani et al.: 1000 songs for emotional analysis of music, CrowdMM 2013"
    source = "cvml.unige.ch/databases/emoMusic (annotations.tar.gz, clips_45sec.tar.gz)"
    published = _size("emomusic", 744, 45.0, "744 songs without duplicates, 619 of development and 125 of evaluation")

    def rows(self, folder: Path) -> Rows:
        """Songs of `annotations/songs_info.csv` with the values of `annotations/static_annotations.csv`."""
        songs, values = (
            {row["song_id"].strip(): row for row in _stripped(read_table(folder / "annotations" / name)[1])}
            for name in ("songs_info.csv", "static_annotations.csv")
        )
        rows = []
        for song in sorted(songs.keys() & values.keys(), key=int):
            artist = songs[song]["Artist"].strip() or f"song {song}"
            tested = songs[song]["Mediaeval 2013 set"].strip() == "evaluation"
            split = "test" if tested else "valid" if held_out(artist, 10, 1) else "train"
            file = found_audio(folder, f"clips_45seconds/{song}", f"clips_45sec/clips_45seconds/{song}")
            value = values[song][self.label_column]
            rows.append({"file": file, "artist": artist, "split": split, self.label_column: value})
        if self.complete and len(rows) != 744:
            raise TaskDataError(f"{folder}: {len(rows)} songs; published are 744 (complete=False takes an excerpt)")
        return rows


def _stripped(rows: Rows) -> Rows:
    return [{key.strip(): value.strip() for key, value in row.items()} for row in rows]


class EmoArousal(_Emo):
    """How excited the music is."""

    name, title, label_column = "emo-arousal", "EMO arousal", "mean_arousal"


class EmoValence(_Emo):
    """How positive the music is."""

    name, title, label_column = "emo-valence", "EMO valence", "mean_valence"


class _Jamendo(PublishedTask):
    """Tags of full tracks; split 0, in which no artist is on two sides. Intervals count artists."""

    of, label_column, by = "multilabel", "tags", "artist"
    dataset, folders = "mtg-jamendo", ("mtg-jamendo", "mtg-jamendo-dataset")
    license = "Creative Commons, per track (metadata CC BY-NC-SA 4.0)"
    citation = "Bogdanov et al.: The MTG-Jamendo dataset for automatic music tagging, ICML 2019 workshop"
    source = "github.com/MTG/mtg-jamendo-dataset (data/splits/split-0, audio or audio-low)"
    subset = ""

    def rows(self, folder: Path) -> Rows:
        """Tracks of the three lists of a subset; they end in tags, one a column."""
        rows = []
        for split, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
            path = folder / "data" / "splits" / "split-0" / f"autotagging_{self.subset}-{name}.tsv"
            if not path.is_file():
                raise DataNotFoundError(f"no list {path}; it is published at {self.source}")
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            if head.split("\t")[:5] != ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION"]:
                raise TaskDataError(f"{path}: columns {head!r}; expected TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, …")
            for line in filter(None, lines):
                _, artist, _, track, _, *tags = line.split("\t")
                stem = track.rpartition(".")[0]
                file = found_audio(folder, f"audio/{stem}", f"audio-low/{stem}.low", f"audio/{stem}.low")
                rows.append({"file": file, "artist": artist, "split": split, "tags": ";".join(tags)})
        return rows


class JamendoTop50(_Jamendo):
    """The fifty most frequent tags."""

    name, title, subset = "jamendo-top50", "MTG-Jamendo top 50 tags", "top50tags"
    published = _size("mtg-jamendo-splits", 54_380, 240.0, "54,380 tracks, about four minutes each")


class JamendoInstrument(_Jamendo):
    """Instruments."""

    name, title, subset = "jamendo-instrument", "MTG-Jamendo instrument", "instrument"
    published = _size("mtg-jamendo-splits", 25_135, 240.0, "25,135 tracks, about four minutes each")


class JamendoMood(_Jamendo):
    """Moods and themes."""

    name, title, subset = "jamendo-mood", "MTG-Jamendo mood and theme", "moodtheme"
    published = _size("mtg-jamendo-splits", 18_486, 240.0, "18,486 tracks, about four minutes each")
