"""MagnaTagATune, 50 tags: the split of Won et al. 2020, rebuilt from its rule and held against a stored list.

The rule: folders 0-b train, c validates, d-f test; clips with at least one of the 50 tags; without the three
clips whose audio is missing or corrupt. That gives 15,247 / 1,529 / 4,332. The list stored beside this
module (jongpillee/music_dataset_split) has 15,244 training clips: it also leaves out three that are shorter
than 29.1 s. They are training clips here, as in Won's list, and the loader requires exactly three of them.

Up to 140 test clips are by one artist (4,332 by 75), so intervals count artists, which are read off the paths.
"""

from __future__ import annotations

import base64
import csv
import json
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.base import PublishedSize
from probes.tasks.base import (
    Clusters,
    Split,
    TaskData,
    TaskDataError,
    TaskInfo,
    audio_clip,
    find_file,
    find_folder,
    require_files,
)

SOURCE = "mirg.city.ac.uk/datasets/magnatagatune (annotations_final.csv, mp3.zip.001-003)"
#: Audio that is missing (35644, empty file) or does not decode (55753, 57881).
CORRUPT = frozenset({35644, 55753, 57881})
PARTS = {**dict.fromkeys("0123456789ab", "train"), "c": "validation", **dict.fromkeys("def", "test")}
#: With the clips that have none of the 50 tags: Pons et al. without the corrupt ones; mean prevalence, and
#: with it average precision, is about a fifth lower than on Won's split.
ALL_COUNTS = {"train": 18706, "validation": 1825, "test": 5329}


@cache
def stored() -> dict[str, Any]:
    """The table beside this module: tags, counts, and the stored list of clip ids per part."""
    table = json.loads(Path(__file__).with_name("magnatagatune.json").read_text())
    for part, text in table.pop("bitmaps").items():
        bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype=np.uint8))
        table.setdefault("ids", {})[part] = np.flatnonzero(bits).tolist()
    return table


class MagnaTagATune:
    """Autotagging with the 50 most frequent tags.

    Args:
        root: folder with `annotations_final.csv` and the audio folders `0` … `f` (or `mp3/0` …);
            default `M2L_DATA/magnatagatune`.
        audio: whether the audio has to be there.
        complete: hold counts and ids to the published split; False for an excerpt of the data.
    """

    published = PublishedSize(
        "magnatagatune",
        clips=25860,
        seconds=29.1,
        source="25,863 clips of 29.1 s, 3 of them corrupt",
        command="m2l-bench fetch magnatagatune",
    )

    def __init__(self, root: str | Path | None = None, *, audio: bool = True, complete: bool = True) -> None:
        self.root, self.audio, self.complete = root, audio, complete
        self.info = TaskInfo(
            name="magnatagatune",
            version="1",
            title="MagnaTagATune",
            kind="multilabel",
            labels=tuple(sorted(stored()["tags"])),
            dataset="magnatagatune",
            license="CC BY-NC-SA 3.0",
            citation="Law, West, Mandel, Bay, Downie: Evaluation of algorithms using games, ISMIR 2009; "
            "split: Won, Ferraro, Bogdanov, Serra: Evaluation of CNN-based automatic music tagging models, "
            "SMC 2020",
            source=SOURCE,
            batch_size=1083,
        )

    def load(self) -> TaskData:
        """Read annotations, rebuild the split and check it (see the module).

        Raises:
            DataNotFoundError: annotations or audio are missing.
            TaskDataError: columns are missing, or counts or clips are not those of the published split.
        """
        folder = find_folder(("magnatagatune", "MagnaTagATune", "mtt"), self.root, SOURCE)
        annotations = find_file("annotations_final.csv", [folder], SOURCE)
        rows, targets = self._read(annotations)
        audio_folder = folder / "mp3" if (folder / "mp3").is_dir() else folder
        paths = [audio_folder / path for _, path in rows]
        if self.audio:
            require_files(paths, "audio files", SOURCE)
        clips = [
            audio_clip(
                str(clip_id),
                "magnatagatune",
                file,
                md5=None,
                labels={"path": path},
                license=self.info.license,
                seconds=self.published.seconds,
            )
            for (clip_id, path), file in zip(rows, paths, strict=True)
        ]
        tagged = [i for i in range(len(rows)) if targets[i].any()]
        won, everything = self._split("won", rows, tagged), self._split("all-clips", rows, range(len(rows)))
        if self.complete:
            check_published(won)
            counts = {part: len(getattr(everything, part)) for part in ALL_COUNTS}
            if counts != ALL_COUNTS:
                raise TaskDataError(f"all clips divide into {counts}, published are {ALL_COUNTS}")
        groups = {str(clip_id): artist(path) for clip_id, path in rows}
        data = TaskData(
            self.info,
            clips,
            targets,
            {"mir_ref": [won], "strict": [without_test_artists(won, groups)], "all-clips": [everything]},
            groups,
            clusters=Clusters(groups, "clips", "artists"),
            notes=(
                "artists are the first part of a clip's file name",
                "audio is 16 kHz: nothing above 8 kHz",
                "of the 75 test artists 45 are also in train; the strict split trains without them",
            ),
        )
        data.check()
        return data

    def _read(self, annotations: Path) -> tuple[list[tuple[int, str]], np.ndarray]:
        """(clip id, path) and 0/1 targets of all clips that are not corrupt; columns found by name."""
        with open(annotations, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t")
            columns = set(reader.fieldnames or ())
            needed = {"clip_id", "mp3_path", *self.info.labels}
            if missing := sorted(needed - columns):
                raise TaskDataError(f"{annotations}: no column {', '.join(map(repr, missing))}")
            rows, targets = [], []
            for line in reader:
                if int(line["clip_id"]) in CORRUPT:
                    continue
                rows.append((int(line["clip_id"]), line["mp3_path"]))
                targets.append([line[tag] == "1" for tag in self.info.labels])
        if not rows:
            raise TaskDataError(f"{annotations} has no clips")
        return rows, np.array(targets, dtype=np.uint8)

    def _split(self, name: str, rows: list[tuple[int, str]], chosen: Iterable[int]) -> Split:
        parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for number in chosen:
            clip_id, path = rows[number]
            part = PARTS.get(path[:1].lower())
            if part is None or path[1:2] != "/":
                raise TaskDataError(f"clip {clip_id}: path {path!r} does not begin with a folder 0-f")
            parts[part].append(str(clip_id))
        return Split(name, *(tuple(parts[part]) for part in ("train", "validation", "test")))


def check_published(split: Split) -> None:
    """Hold a split against the counts of Won et al. and the stored list of ids.

    Raises:
        TaskDataError: counts differ, or clips do.
    """
    table = stored()
    counts = {part: len(getattr(split, part)) for part in table["won_counts"]}
    if counts != table["won_counts"]:
        raise TaskDataError(f"the split has {counts} clips, published are {table['won_counts']}")
    for part, extra in (("train", 3), ("validation", 0), ("test", 0)):
        ours, listed = {int(i) for i in getattr(split, part)}, set(table["ids"][part])
        if listed - ours or len(ours - listed) != extra:
            raise TaskDataError(
                f"{part}: {len(listed - ours)} clips of the stored list are absent, "
                f"{len(ours - listed)} are new (expected {extra})"
            )


def artist(path: str) -> str:
    """The artist part of a path such as `f/artist-album-03-title-0-29.mp3`."""
    return path.split("/")[-1].split("-")[0]


def without_test_artists(split: Split, groups: dict[str, str]) -> Split:
    """The split without those train and validation clips whose artist is in the test part."""
    tested = {groups[i] for i in split.test}
    return Split(
        f"{split.name}-artist-disjoint",
        tuple(i for i in split.train if groups[i] not in tested),
        tuple(i for i in split.validation if groups[i] not in tested),
        split.test,
    )
