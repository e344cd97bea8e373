"""What the published model was trained on: MTG-Jamendo (music) and the clean speech of DNS Challenge 4.

To train on them, pass the manifests that `m2l-bench fetch` wrote beside them, each with its weight (with equal
weights both are drawn equally often, as in the paper); files keep their native 44.1 and 48 kHz:

    m2l train --data DIR/mtg-jamendo/training.csv=1 --data DIR/dns4/training.csv=1 …

The classes here list the same files as clips, for statistics, contamination checks, and evaluation on
what a model has seen. Digests come from the records of the fetch: nothing is hashed again.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, FileLoader
from benchmarks.datasets.base import Clip, DataNotFoundError, digest_of, select_split
from benchmarks.datasets.locations import find_roots
from benchmarks.datasets.records import read_records

TRACK_TABLE = "raw_30s.tsv"


class _Fetched:
    """Files of a fetched data set as clips.

    Args:
        root: Root of the data; by default `M2L_DATA`, then the cache.
        seconds: Read at most this much of each file (None: all of it).
        start: Skip this much of each file, in seconds.
    """

    name = ""
    version = "1"
    license = ""
    citation = ""
    splits: tuple[str, ...] = ()

    def __init__(
        self, root: str | os.PathLike[str] | None = None, *, seconds: float | None = None, start: float = 0.0
    ) -> None:
        if start < 0 or (seconds is not None and seconds <= 0):
            raise ValueError(f"{self.name} excerpts: start {start!r} s, length {seconds!r} s")
        self.root, self.seconds, self.start = root, seconds, start

    def folder(self) -> Path:
        """Folder of the data set.

        Raises:
            DataNotFoundError: It is not on this machine.
        """
        return find_roots(self.name, self.name, self.root)[0] / self.name

    def _recorded(self, folder: Path) -> dict[str, str]:
        """Path -> sha256 of the audio files of all complete archives."""
        found = {
            path: member.sha256
            for path, member in sorted(read_records(folder).items())
            if PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES
        }
        if not found:
            raise DataNotFoundError(
                f"nothing of {self.name} was fetched completely into {folder}; to get it: m2l-bench fetch {self.name}"
            )
        return found

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the files, sorted by path.

        Raises:
            DataNotFoundError: No file has been fetched.
            ValueError: The data set has no such split.
        """
        folder = self.folder()
        facts = self._facts(folder)
        found = [
            Clip(
                id=path,
                dataset=self.name,
                digest=digest_of("file", sha256, self.start, self.seconds),
                labels=facts.get(path, {}) | self._labels(path),
                source=path,
                loader=FileLoader(str(folder / path), self.start, self.seconds),
                seconds=self.seconds or facts.get(path, {}).get("duration"),
                license=self.license,
            )
            for path, sha256 in self._recorded(folder).items()
        ]
        return select_split(found, split, self.splits, self.name)

    def _facts(self, folder: Path) -> dict[str, dict[str, Any]]:
        return {}

    def _labels(self, path: str) -> dict[str, Any]:
        return {}


class MTGJamendo(_Fetched):
    """Full tracks with artist, album and tags.

    Args:
        root: Root of the data; by default `M2L_DATA`, then the cache.
        seconds: Read at most this much of each file (None: all of it).
        start: Skip this much of each file, in seconds.
    """

    name = "mtg-jamendo"
    license = "Creative Commons, per track"
    citation = "Bogdanov, Won, Tovstogan, Porter, Serra: The MTG-Jamendo dataset, ICML 2019 workshop"

    def _facts(self, folder: Path) -> dict[str, dict[str, Any]]:
        table = folder / TRACK_TABLE
        return {f"audio/{path}": facts for path, facts in read_tracks(table)} if table.is_file() else {}


def read_tracks(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, facts) of each track of raw_30s.tsv; a track has as many tag columns as it has tags.

    Raises:
        ValueError: Columns are missing, or a row is too short; the message names the line.
    """
    with open(table, newline="", encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t")
        header = next(rows, [])
        if header[:5] != ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION"]:
            raise ValueError(f"{table}: columns are {header[:5]}")
        for number, row in enumerate(rows, start=2):
            try:
                track, artist, album, path, duration = row[:5]
                facts = {"track": track, "artist": artist, "album": album, "duration": float(duration)}
            except ValueError as error:
                raise ValueError(f"{table}, line {number}: {error}") from error
            yield path, facts | {"tags": row[5:]}


class DNS4Clean(_Fetched):
    """Clean full-band speech (and singing) in nine groups.

    Args:
        root: Root of the data; by default `M2L_DATA`, then the cache.
        seconds: Read at most this much of each file (None: all of it).
        start: Skip this much of each file, in seconds.
    """

    name = "dns4"
    license = "CC BY 4.0 (repository); that of the recordings varies by source"
    citation = "Dubey et al.: ICASSP 2022 Deep Noise Suppression Challenge"

    def _labels(self, path: str) -> dict[str, Any]:
        return {"group": path.split("/")[1]}
