"""Files with their addresses, checksums and licenses; and the data sets of single files among them.

Data sets that come in archives are in `benchmarks.fetch.corpora.catalog`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from benchmarks.datasets.audio_files import audio_info
from benchmarks.datasets.locations import manifest
from benchmarks.fetch.download import Expected
from benchmarks.registry import UnknownNameError


@dataclass(frozen=True)
class Item:
    """One file.

    Attributes:
        path: Where it goes, relative to the root of the data.
        urls: Addresses, in the order they are tried.
        expected: Size and digest.
    """

    path: str
    urls: tuple[str, ...]
    expected: Expected


@dataclass(frozen=True)
class Source:
    """A data set that can be fetched.

    Attributes:
        name: As in `m2l-bench fetch NAME`.
        title: One line.
        license: License of the data.
        size: Bytes to download; None where it is not known beforehand.
        items: Lists the files.
        finish: Called with the root when all files are there (unpacking).
        ready: Whether the finished data set is already below a root.
    """

    name: str
    title: str
    license: str
    size: int | None
    items: Callable[[], list[Item]]
    finish: Callable[[Path], None] | None = None
    ready: Callable[[Path], bool] | None = None


def mirrored(url: str) -> str:
    """Send an address to `M2L_FETCH_MIRROR`, if that is set: MIRROR/HOST/PATH."""
    mirror = os.environ.get("M2L_FETCH_MIRROR")
    if not mirror:
        return url
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}{query}"


def github_urls(source: str) -> tuple[str, ...]:
    """Addresses of `github:OWNER/REPO@COMMIT:PATH`: the raw file, and where large files (LFS) are kept.

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
    """A check that a file sounds as long, at the same rate and in as many channels, as the manifest says."""

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
    """Files of a manifest: by digest where the source's is known, else by what they decode to."""
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


def published_bytes(name: str) -> int | None:
    """Sum of the sizes of a manifest's files, if they are all known."""
    rows = manifest(name)
    return sum(int(row["bytes"]) for row in rows) if all(row["published"] == "yes" for row in rows) else None


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "open",
            "71 openly licensed music tracks by 17 artists",
            "CC0, CC-BY, CC-BY-SA (per track)",
            published_bytes("open_music.csv"),
            lambda: manifest_items("open_music.csv"),
        ),
        Source(
            "open-speech",
            "181 sentences of one German speaker (FLAC)",
            "CC0-1.0",
            published_bytes("open_speech.csv"),
            lambda: manifest_items("open_speech.csv"),
        ),
    )
}


def find_source(name: str) -> Source:
    """Return a source by name.

    Raises:
        UnknownNameError: No such source.
    """
    if name not in SOURCES:
        raise UnknownNameError("data set to fetch", name, SOURCES)
    return SOURCES[name]
