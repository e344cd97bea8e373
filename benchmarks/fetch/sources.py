"""Data sets of single files, with addresses and checksums from the manifests of this package.

Data sets that come in archives are in `benchmarks.fetch.corpora.catalog`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from benchmarks.datasets.audio_files import audio_info
from benchmarks.datasets.locations import data_roots, fetched_root, manifest
from benchmarks.fetch.expected import Expected
from benchmarks.fetch.options import Options
from benchmarks.fetch.transfer import Item, human, missing_items, outcome, say, transfer


@dataclass(frozen=True)
class Source:
    """A data set of single files.

    Attributes:
        name: As in `m2l-bench fetch NAME`.
        title: One line.
        license: License of the data.
        size: Bytes to download; None if unknown.
        items: Lists the files.
    """

    name: str
    title: str
    license: str
    size: int | None
    items: Callable[[], list[Item]]


def github_urls(source: str) -> tuple[str, ...]:
    """Addresses of `github:OWNER/REPO@COMMIT:PATH`: the raw file, and the place of large files (LFS).

    Raises:
        ValueError: Not of that form.
    """
    place, colon, path = source.removeprefix("github:").partition(":")
    repository, at, commit = place.partition("@")
    if not (source.startswith("github:") and colon and at and path and repository.count("/") == 1):
        raise ValueError(f"source {source!r} is not of the form github:OWNER/REPO@COMMIT:PATH")
    tail = f"{repository}/{commit}/{quote(path)}"
    return f"https://raw.githubusercontent.com/{tail}", f"https://media.githubusercontent.com/media/{tail}"


def same_audio(row: dict[str, str], tolerance: float = 0.05) -> Callable[[Path], None]:
    """A check that a file has the sample rate, channels and length that the manifest states."""

    def check(path: Path) -> None:
        rate, channels, seconds = audio_info(path)
        found = f"{rate} Hz, {channels} channels, {seconds:.3f} s"
        wanted = f"{row['sample_rate']} Hz, {row['channels']} channels, {row['seconds']} s"
        if (rate, channels) != (int(row["sample_rate"]), int(row["channels"])) or (
            abs(seconds - float(row["seconds"])) > tolerance
        ):
            raise ValueError(f"it has {found}; expected {wanted}")

    return check


def manifest_items(name: str) -> list[Item]:
    """Files of a manifest, expected by the digest of the source if it is known, else by what they decode to."""
    items = []
    for row in manifest(name):
        if row["published"] == "yes":
            path, expected = row["path"], Expected(int(row["bytes"]), f"sha256:{row['sha256']}")
        else:
            suffix = PurePosixPath(row["source"]).suffix
            path = str(PurePosixPath(row["path"]).with_suffix(suffix))
            expected = Expected(check=same_audio(row))
        items.append(Item(path, github_urls(row["source"]), expected))
    return items


def _source(name: str, title: str, license: str, table: str) -> Source:
    rows = manifest(table)
    known = all(row["published"] == "yes" for row in rows)
    size = sum(int(row["bytes"]) for row in rows) if known else None
    return Source(name, title, license, size, lambda: manifest_items(table))


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _source(
            "open",
            "71 openly licensed music tracks by 17 artists",
            "CC0, CC-BY, CC-BY-SA (per track)",
            "open_music.csv",
        ),
        _source("open-speech", "181 sentences of one German speaker (FLAC)", "CC0-1.0", "open_speech.csv"),
    )
}


def fetch_source(source: Source, options: Options) -> dict[str, Any]:
    """Fetch the missing files of a data set. Without `options.data`, files below `M2L_DATA` count as present.

    Returns:
        name, dest, summary, failed (messages), fetched and present (counts).
    """
    root = options.data or fetched_root()
    items = source.items()
    todo = list(items) if options.overwrite else missing_items(items, data_roots(options.data))
    sizes = [item.expected.size for item in todo]
    size = sum(s or 0 for s in sizes) if None not in sizes else None
    say(f"{source.name}: {source.title}. License: {source.license}.")
    say(f"  {len(todo)} of {len(items)} files to fetch ({human(size)}) into {root}")
    present = len(items) - len(todo)
    if options.dry_run:
        summary = f"would fetch {len(todo)} files ({human(size)})"
        return outcome(source.name, root, summary, present=present)
    failed = transfer(source.name, todo, root, size, options.jobs)
    done = len(todo) - len(failed)
    summary = f"{done} files fetched, {present} already present"
    if failed:
        summary += f", {len(failed)} failed (run again to resume)"
    return outcome(source.name, root, summary, failed, fetched=done, present=present)
