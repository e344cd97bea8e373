"""Openly licensed recordings: music (split by artist) and speech, described by manifests of this package.

The audio is not part of the package: it is read from `M2L_DATA`, or from the cache after
`m2l-bench fetch open`. Every clip carries its artist, license and source.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.datasets.audio_files import FileLoader
from benchmarks.datasets.base import Clip, check_split, digest_of, select_split
from benchmarks.datasets.locations import content_digest, find_file, find_roots, manifest

SPEECH_SUFFIXES = (".flac", ".ogg")  # as published, and as in re-encoded copies


def file_clip(
    path: Path,
    *,
    dataset: str,
    id: str,
    expected: str | None,
    labels: dict[str, Any],
    row: dict[str, str],
    start: float = 0.0,
    seconds: float | None = None,
    split: str | None = None,
    group: str = "",
) -> Clip:
    """A clip of a file that a manifest describes.

    The digest is that of the bytes on disk. Where they are not the expected ones (or not there), the clip
    is listed all the same, and `load()` raises, so that the count of a table shows what is missing.
    """
    content = content_digest(path)
    wrong = expected is not None and content is not None and not content.startswith(expected)
    return Clip(
        id=id,
        dataset=dataset,
        digest=digest_of("file", content or "missing", start, seconds),
        labels=labels,
        source=row["source"],
        # The file has just been hashed, so `load` reads it again only to say what is wrong with it.
        loader=FileLoader(str(path), start, seconds, exact=seconds is not None, sha256=expected if wrong else None),
        split=split,
        seconds=seconds if seconds is not None else float(row["seconds"]),
        license=row["license"],
        group=group,
    )


class OpenMusic:
    """Excerpts of 10 s from 71 tracks by 17 artists, train and test disjoint by artist.

    Narrow: mostly game soundtracks, most training tracks by one artist, few voices.

    Args:
        split: What `clips()` lists when it is asked for no split: "test" (the default), "train" or "all".
        root: Folder to look in; by default `M2L_DATA`, then the cache.
    """

    name = "open"
    version = "1"
    license = "CC0, CC-BY and CC-BY-SA (per clip)"
    citation = "Openly licensed music from public repositories; artists and sources per clip"
    notice = "Real recordings under open licenses; artist, license and source of each are in the manifest."
    splits = ("train", "test")
    group_name = "track"

    def __init__(self, split: str = "test", root: str | os.PathLike[str] | None = None) -> None:
        check_split(split, self.splits, self.name)
        self.split, self.root = split, root

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the excerpts of a split, in the order of the manifest.

        Raises:
            DataNotFoundError: The music is not on this machine.
        """
        roots = find_roots("music", self.name, self.root)
        tracks = {row["path"]: row for row in manifest("open_music.csv")}
        clips = []
        for position in manifest("open_music_clips.csv"):
            row = tracks[position["path"]]
            start, seconds = float(position["start"]), float(position["seconds"])
            name = row["path"].removeprefix("music/")
            clips.append(
                file_clip(
                    find_file(roots, row["path"], row["sha256"]),
                    dataset=self.name,
                    id=f"{name}@{start:g}",
                    expected=row["sha256"],
                    labels={
                        "artist": row["artist"],
                        "title": row["title"],
                        "genre": row["genre"],
                        "image": position["image"],
                        "bandwidth_khz": float(position["bandwidth_khz"]),
                        "codec": row["codec"],
                        "kbps": int(row["kbps"]),
                    },
                    row=row,
                    start=start,
                    seconds=seconds,
                    split=row["split"],
                    group=name,
                )
            )
        return select_split(clips, split or self.split, self.splits, self.name)


class OpenSpeech:
    """Sentences of one German speaker (CC0).

    Published as FLAC. A re-encoded Ogg Vorbis copy is accepted in its place (the published file is taken
    where both exist); `labels["codec"]` says which one was read, and so does the digest.

    Args:
        root: Folder to look in; by default `M2L_DATA`, then the cache.
    """

    name = "open-speech"
    version = "1"
    license = "CC0-1.0"
    citation = "Kerstin, German voice dataset (rhasspy/dataset-voice-kerstin)"
    notice = "Real recordings of one speaker."
    splits = ("test",)

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = root

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the sentences, in the order of the manifest.

        Raises:
            DataNotFoundError: The speech is not on this machine.
        """
        roots = find_roots("speech", self.name, self.root)
        clips = []
        for row in manifest("open_speech.csv"):
            stored = Path(row["path"])
            copies = [find_file(roots, str(stored.with_suffix(suffix))) for suffix in SPEECH_SUFFIXES]
            path = next((copy for copy in copies if copy.is_file()), roots[0] / stored)
            known = row["sha256"] if path.suffix == stored.suffix else None
            clips.append(
                file_clip(
                    path,
                    dataset=self.name,
                    id=stored.stem,
                    expected=known,
                    labels={
                        "speaker": row["speaker"],
                        "language": row["language"],
                        "sex": row["sex"],
                        "text": row["text"],
                        "codec": path.suffix.lstrip("."),
                    },
                    row=row,
                    split="test",
                )
            )
        return select_split(clips, split, self.splits, self.name)
