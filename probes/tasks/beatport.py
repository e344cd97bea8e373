"""Beatport EDM keys: 1,272 of 1,486 tracks, 24 classes, mir_ref's random split by explicit ids.

Keys and split ids are stored beside this module, so that a new scikit-learn cannot reshuffle them. The
filter behind them is mir_ref's: one key per track, two words, not "other"; flats become sharps. Three tracks
whose label ends in a blank ("C# major ", "B major ") fall through it by accident and stay out.

Batches hold 64 tracks: mir_ref's 1,083 would leave nothing of 1,017 training and 128 test tracks, since it drops the
last incomplete batch. Intervals count artists (see `artist_groups`): the 128 test tracks are by 123.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.base import DataNotFoundError, PublishedSize
from m2l.io.digest import file_digest
from probes.metrics import KEYS
from probes.tasks.base import (
    Clusters,
    Split,
    TaskData,
    TaskDataError,
    TaskInfo,
    UnionFind,
    audio_clip,
    data_folder,
    find_file,
    find_folder,
    grouped_folds,
    k_fold_splits,
    require_files,
)

SOURCE = "Zenodo record 1101082 (audio.zip, keys.zip); index: mirdata's beatport_key_index_1.0.0.json"
INDEX = "beatport_key_index_1.0.0.json"
FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}


@cache
def stored() -> dict[str, Any]:
    """Keys by name -> track ids, and the ids of mir_ref's validation and test tracks."""
    return json.loads(Path(__file__).with_name("beatport.json").read_text())


@cache
def stored_keys() -> dict[str, str]:
    """Track id -> key, in the numerical order of the ids (mirdata's order)."""
    keys = {track: key for key, tracks in stored()["keys"].items() for track in tracks}
    return dict(sorted(keys.items(), key=lambda item: int(item[0])))


def parse_label(text: str) -> str | None:
    """A track's key as mir_ref reads its label file, or None where it drops the track.

    Multiple keys ("A minor | C major"), modal labels ("F other"), "X", "unknown", and labels that are not
    exactly two words when divided at single blanks are dropped.
    """
    words = text.strip("\r\n").split(" ")
    if "|" in text or len(words) != 2 or "other" in text:
        return None
    tonic, mode = words
    tonic = FLATS.get(tonic, tonic).replace("#_", "#")
    return f"{tonic} {mode}" if f"{tonic} {mode}" in KEYS else None


class Beatport:
    """Key estimation on two-minute excerpts of electronic dance music.

    Args:
        root: folder with `audio/` and `keys/`; default `M2L_DATA/beatport_key`.
        index: mirdata's index file; default beside the data, or in `M2L_DATA/metadata`.
        audio: whether the audio has to be there.
        complete: hold tracks and labels to the stored table; False for an excerpt of the data.
    """

    published = PublishedSize(
        "beatport",
        clips=1272,
        seconds=120.0,
        source="Zenodo 1101082: 1,272 of 1,486 two-minute excerpts have one key",
        command="m2l-bench fetch beatport",
    )

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        index: str | Path | None = None,
        audio: bool = True,
        complete: bool = True,
    ) -> None:
        self.root, self.index, self.audio, self.complete = root, index, audio, complete
        self.info = TaskInfo(
            name="beatport",
            version="1",
            title="Beatport key",
            kind="key",
            labels=KEYS,
            dataset="beatport_key",
            license="CC BY-SA 4.0 (annotations; the previews are Beatport's)",
            citation="Faraldo, Jordà, Herrera: A multi-profile method for key estimation in EDM, AES 2017; "
            "split: mir_ref",
            source=SOURCE,
            batch_size=64,
        )

    def load(self) -> TaskData:
        """Bind audio to keys, and check label files against index and stored table.

        Raises:
            DataNotFoundError: index, label files or audio are missing.
            TaskDataError: a label file has another checksum, or says another key than the stored table.
        """
        if self.audio or self.root is not None:
            folder = find_folder(("beatport_key", "beatport"), self.root, SOURCE)
        else:
            folder = data_folder()
        tracks = self._read_index(folder)
        keys = self._keys(folder, tracks)
        paths = {track: folder / tracks[track]["audio"][0] for track in keys}
        if self.audio:
            require_files(list(paths.values()), "audio files", SOURCE)
        clips = [
            audio_clip(
                track,
                "beatport_key",
                paths[track],
                md5=tracks[track]["audio"][1],
                labels={"key": key},
                license=self.info.license,
                seconds=self.published.seconds,
            )
            for track, key in keys.items()
        ]
        targets = np.array([KEYS.index(key) for key in keys.values()], dtype=np.int64)
        groups = artist_groups({track: tracks[track]["audio"] for track in keys})
        strict = k_fold_splits(grouped_folds(list(keys), targets, groups), "artist-fold")
        data = TaskData(
            self.info,
            clips,
            targets,
            {"mir_ref": [self._split(keys)], "strict": strict},
            groups,
            clusters=Clusters(groups, "tracks", "artists"),
            notes=("the same 1,486 recordings as giantsteps-mtg-key: the two are one task",),
        )
        if self.complete:
            data.check()
        return data

    def _read_index(self, folder: Path) -> dict[str, Any]:
        if self.index is not None:
            path = Path(self.index)
            if not path.is_file():
                raise DataNotFoundError(f"no file {path}; {SOURCE}")
        else:
            beside = [folder, folder.parent / "metadata", folder / "metadata"]
            path = find_file(INDEX, beside, SOURCE)
        tracks: dict[str, Any] = json.loads(path.read_text())["tracks"]
        return tracks

    def _keys(self, folder: Path, tracks: Mapping[str, Any]) -> dict[str, str]:
        """Track id -> key of the tracks used; label files, where there are any, are read and compared."""
        table = stored_keys()
        if not (folder / "keys").is_dir():
            if self.root is not None or self.audio:
                raise DataNotFoundError(f"no folder {folder / 'keys'}; the data is published at {SOURCE}")
            return {track: key for track, key in table.items() if track in tracks}
        keys: dict[str, str] = {}
        for track in sorted(tracks, key=int):
            name, md5 = tracks[track]["key"]
            path = folder / name
            if not path.is_file():
                raise DataNotFoundError(f"no label file {path}; the data is published at {SOURCE}")
            if (found := file_digest(path, "md5")) != md5:
                raise TaskDataError(f"{path}: MD5 is {found}, published is {md5}")
            key = parse_label(path.read_text(encoding="utf-8"))
            if key is not None:
                keys[track] = key
        if self.complete and keys != table:
            wrong = sorted(set(keys.items()) ^ set(table.items()))[0]
            raise TaskDataError(
                f"{len(keys)} tracks have a single key, the stored table has {len(table)}; "
                f"track {wrong[0]} ({wrong[1]}) differs"
            )
        return keys

    def _split(self, keys: Mapping[str, str]) -> Split:
        validation = tuple(i for i in stored()["validation"] if i in keys)
        test = tuple(i for i in stored()["test"] if i in keys)
        held_out = {*validation, *test}
        return Split("mir_ref-seed42", tuple(i for i in keys if i not in held_out), validation, test)


def artist_groups(audio: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Track id -> group, for splits in which no artist and no recording is on both sides.

    Tracks belong together when they share an artist (of a list of artists), a title without its remix
    suffix, or the very same file (equal MD5).

    Args:
        audio: track id -> (file name, MD5), as mirdata's index has them:
            `audio/100066 Lindstrom - Monsteer (Original Mix).mp3`.
    """
    components = UnionFind()
    for track, (name, md5) in audio.items():
        components.join(f"track {track}", f"md5 {md5}")
        artists, _, title = re.sub(r"^\d+ ", "", Path(name).stem).partition(" - ")
        for one in re.split(r"\s*(?:,|&|\bfeat\.?|\bft\.?|\bvs\.?)\s+", artists):
            if one.strip():
                components.join(f"track {track}", f"artist {one.strip().lower()}")
        components.join(f"track {track}", f"title {artists.lower()} {re.sub(r'[(].*', '', title).lower()}")
    return {track: components.find(f"track {track}") for track in audio}
