"""MusicCaps: 5,521 clips of 10 s from videos, as far as they are still available.

The list (`musiccaps-public.csv`) is published, the audio is not: `m2l-bench fetch musiccaps` cuts the clips
out of the videos and records in `manifest.csv` what became of each. Numbers measured on the available clips come
with their count and the manifest's digest, because another year's copy is another data set.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.datasets.audio_files import FileLoader
from benchmarks.datasets.base import Clip, DataNotFoundError, PublishedSize, digest_of, select_split
from benchmarks.datasets.locations import find_roots
from m2l.io.atomic import write_atomic

CLIPS, EVALUATION, SECONDS = 5521, 2858, 10.0
LIST, MANIFEST, AUDIO = "musiccaps-public.csv", "manifest.csv", "audio"
#: sha256 over "ytid start_s end_s" lines, sorted: the segments, whatever happens to captions and columns.
SEGMENTS_SHA256 = "9f7aa39134646bbbdc4188bc2c360d5505562ba230927491d34bd65572b6258b"
STATUSES = (
    "ok",  # present, 10 s, at its native rate
    "gone",  # removed, terminated, unavailable
    "private",  # or for members
    "blocked",  # in this country
    "age-restricted",  # needs an account
    "wrong length",  # the video ends before the clip does, or changed
    "failed",  # the network or the tool; worth another try
)
FINAL = frozenset(STATUSES) - {"failed"}
_TOLERANCE = 0.05  # seconds


@dataclass(frozen=True)
class Segment:
    """A row of the list.

    Attributes:
        ytid: The video.
        start, end: In seconds.
        caption: In English.
        aspects: Short descriptions, as a Python list in text.
        evaluation: Whether it belongs to AudioSet's evaluation part.
        balanced: Whether it belongs to the genre-balanced thousand.
    """

    ytid: str
    start: float
    end: float
    caption: str
    aspects: str
    evaluation: bool
    balanced: bool


@dataclass(frozen=True)
class ClipStatus:
    """What became of a clip; `path` is relative to the data set's folder, and empty unless it is "ok"."""

    ytid: str
    status: str
    path: str = ""
    sample_rate: int = 0
    channels: int = 0
    seconds: float = 0.0
    bytes: int = 0
    sha256: str = ""
    detail: str = ""


def read_list(path: Path, *, complete: bool = True) -> list[Segment]:
    """Read the published list.

    Args:
        path: `musiccaps-public.csv`.
        complete: Whether it has to have the published clips and segments.

    Raises:
        ValueError: Columns, ids or times are not as published; the message names the row.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        needed = {"ytid", "start_s", "end_s", "caption", "aspect_list", "is_audioset_eval"}
        if missing := sorted(needed - set(reader.fieldnames or ())):
            raise ValueError(f"{path}: no column {', '.join(map(repr, missing))}")
        segments = [_segment(path, number, row) for number, row in enumerate(reader, start=2)]
    repeated = [ytid for ytid, count in Counter(s.ytid for s in segments).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: {repeated[0]!r} is listed twice")
    if complete:
        if len(segments) != CLIPS:
            raise ValueError(f"{path}: {len(segments)} clips, published are {CLIPS}")
        if (found := segments_sha256(segments)) != SEGMENTS_SHA256:
            raise ValueError(f"{path}: segments have sha256 {found}, published are {SEGMENTS_SHA256}")
    return segments


def _segment(path: Path, number: int, row: Mapping[str, str]) -> Segment:
    try:
        start, end = float(row["start_s"]), float(row["end_s"])
    except (TypeError, ValueError):
        raise ValueError(f"{path}, line {number}: times {row['start_s']!r} to {row['end_s']!r}") from None
    if not re.fullmatch(r"[A-Za-z0-9_-]{11}", row["ytid"]):
        raise ValueError(f"{path}, line {number}: {row['ytid']!r} is not an id of 11 characters")
    if start < 0 or end - start != SECONDS:
        raise ValueError(f"{path}, line {number}: the clip goes from {start} to {end} s, expected 10 s")
    return Segment(
        row["ytid"],
        start,
        end,
        row["caption"],
        row["aspect_list"],
        row["is_audioset_eval"] == "True",
        row.get("is_balanced_subset") == "True",
    )


def segments_sha256(segments: Sequence[Segment]) -> str:
    """Digest of which seconds of which videos."""
    lines = sorted(f"{s.ytid} {s.start:.0f} {s.end:.0f}\n" for s in segments)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, ClipStatus]:
    """Status of every clip that was tried; empty without a manifest.

    Raises:
        ValueError: The manifest is not one of ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    found = {}
    for number, row in enumerate(csv.DictReader(path.read_text(encoding="utf-8").splitlines()), start=2):
        try:
            status = ClipStatus(
                row["ytid"],
                row["status"],
                row["path"],
                int(row["sample_rate"]),
                int(row["channels"]),
                float(row["seconds"]),
                int(row["bytes"]),
                row["sha256"],
                row["detail"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: not a row of this manifest ({error})") from error
        if status.status not in STATUSES:
            raise ValueError(f"{path}, line {number}: unknown status {status.status!r}")
        found[status.ytid] = status
    return found


def write_manifest(folder: Path, statuses: Mapping[str, ClipStatus]) -> None:
    """Write the manifest, sorted by id."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ClipStatus)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(statuses[ytid]) for ytid in sorted(statuses))
    write_atomic(folder / MANIFEST, text.getvalue())


def manifest_digest(statuses: Mapping[str, ClipStatus]) -> str:
    """sha256 over id and sha256 of the "ok" clips, sorted: what a number depends on.

    Why the others are missing is left out: it changes with the day and the country.
    """
    lines = sorted(f"{s.ytid} {s.sha256}\n" for s in statuses.values() if s.status == "ok")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def status_counts(statuses: Mapping[str, ClipStatus]) -> Counter[str]:
    """How many clips have each status."""
    return Counter(status.status for status in statuses.values())


def has_length(seconds: float) -> bool:
    """Whether a clip is as long as it should be."""
    return abs(seconds - SECONDS) <= _TOLERANCE


class MusicCaps:
    """The available clips.

    Args:
        root: Root of the data; by default `M2L_DATA`, then the cache.
        split: What `clips()` lists without a split of its own: "all" (the default), "eval" or "train", which are
            AudioSet's parts.
        complete: Whether the list has to be the published one; False for an excerpt of it.
    """

    name = "musiccaps"
    version = "1"
    license = "captions CC BY-SA 4.0; audio: its uploaders'"
    citation = "Agostinelli et al.: MusicLM: Generating music from text, 2023"
    splits = ("eval", "train")
    published = PublishedSize(
        "musiccaps",
        clips=5521,
        seconds=SECONDS,
        source="Agostinelli et al. 2023: 5,521 clips of 10 s",
        command="m2l-bench fetch musiccaps",
    )

    def __init__(
        self, root: str | os.PathLike[str] | None = None, split: str = "all", *, complete: bool = True
    ) -> None:
        self.root, self.split, self.complete = root, split, complete

    def _read(self) -> tuple[Path, list[Segment], dict[str, ClipStatus]]:
        folder = find_roots(self.name, self.name, self.root)[0] / self.name
        if not (folder / LIST).is_file():
            raise DataNotFoundError(f"no file {folder / LIST}; to get it: m2l-bench fetch musiccaps")
        return folder, read_list(folder / LIST, complete=self.complete), read_manifest(folder)

    def coverage(self) -> str:
        """Which part of the data set the numbers are based on, for a line under the table."""
        _, segments, statuses = self._read()
        counts = status_counts(statuses)
        untried = len(segments) - len(statuses)
        lost = [f"{counts[name]} {name}" for name in STATUSES if name != "ok" and counts[name]]
        lost += [f"{untried} not tried"] if untried else []
        return (
            f"MusicCaps: {counts['ok']:,} of {len(segments):,} clips"
            + (f" ({', '.join(lost)})" if lost else "")
            + f"; manifest {manifest_digest(statuses)[:16]}"
        )

    def clips(self, split: str | None = None) -> list[Clip]:
        """List the clips whose status is "ok", in the order of the published list.

        A file that has disappeared is listed all the same, and its `load()` raises.

        Raises:
            DataNotFoundError: No list, or no clip at all.
            ValueError: List or manifest are damaged.
        """
        folder, segments, statuses = self._read()
        found = []
        for segment in segments:
            status = statuses.get(segment.ytid)
            if status is None or status.status != "ok":
                continue
            found.append(
                Clip(
                    id=segment.ytid,
                    dataset=self.name,
                    digest=digest_of("file", status.sha256, 0.0, None),
                    labels={
                        "caption": segment.caption,
                        "aspects": segment.aspects,
                        "balanced": segment.balanced,
                        "sample_rate": status.sample_rate,
                    },
                    source=f"https://www.youtube.com/watch?v={segment.ytid}&t={segment.start:.0f}",
                    loader=FileLoader(str(folder / status.path), sha256=status.sha256),
                    split="eval" if segment.evaluation else "train",
                    seconds=status.seconds,
                    license="its uploader's",
                )
            )
        if not found:
            raise DataNotFoundError(f"no clip of MusicCaps in {folder}; to get them: m2l-bench fetch musiccaps")
        return select_split(found, split or self.split, self.splits, self.name)
