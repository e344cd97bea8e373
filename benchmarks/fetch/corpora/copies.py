"""Data sets that are not downloaded here: `m2l-bench fetch NAME --from DIR` takes a copy into the folder of the data.

Their publishers ask for a form, or give no checksums. A copy may be unpacked or in the archives as published; its
parts may lie anywhere below DIR. Nothing in it is changed; files are linked where the file system allows it.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets.locations import root_with
from benchmarks.fetch.archives import ArchiveError, unpack
from benchmarks.fetch.corpora.adopt import link_or_copy, walk
from benchmarks.fetch.options import Options
from benchmarks.fetch.transfer import outcome, say


@dataclass(frozen=True)
class Copy:
    """A data set of which a copy is taken.

    Attributes:
        name: as in `m2l-bench fetch NAME`.
        folder: below the root of the data, where the loaders look.
        title, license, origin: for people.
        parts: folders and files that it consists of, each with the names it may have.
        below: where they lie in `folder`.
        archives: patterns of the names of archives that hold them.
    """

    name: str
    folder: str
    title: str
    license: str
    origin: str
    parts: tuple[tuple[str, ...], ...]
    below: str = ""
    archives: tuple[str, ...] = ()


COPIES: dict[str, Copy] = {
    copy.name: copy
    for copy in (
        Copy(
            "giantsteps",
            "giantsteps",
            "GiantSteps key: 604 excerpts to test on, and the MTG set to train on",
            "annotations as published; the previews are Beatport's",
            "github.com/GiantSteps (clone both repositories, run audio_dl.sh in each)",
            (("giantsteps-key-dataset",), ("giantsteps-mtg-key-dataset",)),
        ),
        Copy(
            "nsynth",
            "nsynth",
            "NSynth: 305,979 notes of 1,006 instruments",
            "CC BY 4.0",
            "magenta.tensorflow.org/datasets/nsynth (the json/wav files)",
            (("nsynth-train",), ("nsynth-valid",), ("nsynth-test",)),
            archives=("nsynth-*.jsonwav.tar.gz",),
        ),
        Copy(
            "gtzan",
            "gtzan",
            "GTZAN: 930 excerpts of ten genres, in the fault-filtered split",
            "unknown (excerpts of published recordings)",
            "genres.tar.gz of marsyas.info; lists of github.com/jongpillee/music_dataset_split, GTZAN_split",
            (("genres", "genres_original"), *((f"{part}_filtered.txt",) for part in ("train", "valid", "test"))),
            archives=("genres.tar.gz",),
        ),
        Copy(
            "emomusic",
            "emomusic",
            "EMO: 744 songs with arousal and valence",
            "for research (songs of the Free Music Archive, CC)",
            "cvml.unige.ch/databases/emoMusic",
            (("annotations",), ("clips_45seconds", "clips_45sec")),
            archives=("annotations.tar.gz", "clips_45sec.tar.gz"),
        ),
        Copy(
            "mtg-jamendo-splits",
            "mtg-jamendo",
            "MTG-Jamendo: the lists of tags and splits (its audio: fetch mtg-jamendo)",
            "CC BY-NC-SA 4.0",
            "github.com/MTG/mtg-jamendo-dataset, data/splits",
            (("splits",),),
            below="data",
        ),
    )
}


def fetch_copy(copy: Copy, options: Options) -> dict[str, Any]:
    """Take a copy of a data set.

    Returns:
        name, dest, summary, failed (messages), fetched and present (counts of parts).
    """
    folder = root_with(copy.folder, options.data) / copy.folder
    say(f"{copy.name}: {copy.title}. License: {copy.license}. From {copy.origin} into {folder}")
    place = folder / copy.below
    missing = [names for names in copy.parts if options.overwrite or not _present(place, names)]
    here = len(copy.parts) - len(missing)
    if options.dry_run:
        return outcome(copy.name, folder, f"would take {len(missing)} parts of a copy (--from DIR)", present=here)
    if missing and options.source is None:
        reason = f"{copy.name}: not downloaded here; get it from {copy.origin}, and give its folder with --from DIR"
        return outcome(copy.name, folder, f"{here} of {len(copy.parts)} parts present", [reason], present=here)
    failed = []
    if missing and options.source is not None:
        if not options.source.is_dir():
            return outcome(copy.name, folder, "nothing taken", [f"no such folder: {options.source}"], present=here)
        failed = _take(copy, missing, options.source, place)
    left = [names for names in missing if not _present(place, names)]
    failed += [f"{copy.name}: {' or '.join(names)} is not in the copy" for names in left]
    done = len(missing) - len(left)
    return outcome(copy.name, folder, f"{done} parts taken, {here} present", failed, fetched=done, present=here)


def _present(place: Path, names: tuple[str, ...]) -> bool:
    return any((place / name).is_file() or _has_files(place / name) for name in names)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and next(walk(folder), None) is not None


def _take(copy: Copy, missing: list[tuple[str, ...]], source: Path, place: Path) -> list[str]:
    """Unpack the copy's archives and link its files; returns what failed."""
    failed = []
    for path in walk(source):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in copy.archives):
            try:
                unpack(path, place)
            except (ArchiveError, OSError) as error:
                failed.append(f"{copy.name}: {error}")
    for names in missing:
        roots = [source, *sorted(source.rglob("*"))] if not _present(place, names) else []
        found = next((path for path in roots if path.name in names and (path.is_file() or _has_files(path))), None)
        if found is None:
            continue
        files = [found] if found.is_file() else list(walk(found))
        for path in files:
            link_or_copy(path, place / found.name if found.is_file() else place / found.name / path.relative_to(found))
        say(f"  {found.name}: {len(files)} files")
    return failed
