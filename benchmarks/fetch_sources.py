"""What `m2l-bench fetch` can get: files with their addresses, checksums and licences."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from benchmarks.datasets.audio_files import audio_info
from benchmarks.datasets.locations import manifest
from benchmarks.download import Expected, FetchError
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
        licence: Licence of the data.
        size: Bytes to download; None where it is not known beforehand.
        items: Lists the files.
        finish: Called with the root when all files are there (unpacking).
        ready: Whether the finished data set is already below a root.
    """

    name: str
    title: str
    licence: str
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


TINYSOL_NOTES = 2913
_TINYSOL = "https://zenodo.org/records/3685367/files"


def _tinysol_items() -> list[Item]:
    return [
        Item(
            "tinysol/annotation/TinySOL_metadata.csv",
            (f"{_TINYSOL}/TinySOL_metadata.csv?download=1",),
            Expected(317576, "md5:a86c9bb115f69e61f2f25872e397fc4a"),
        ),
        Item(
            "tinysol/TinySOL.tar.gz",
            (f"{_TINYSOL}/TinySOL.tar.gz?download=1",),
            Expected(None, "md5:36030a7fe389da86c3419e5ee48e3b7f"),
        ),
    ]


def _tinysol_ready(root: Path) -> bool:
    audio = root / "tinysol" / "audio"
    return (root / "tinysol" / "annotation" / "TinySOL_metadata.csv").is_file() and audio.is_dir() and (
        sum(1 for _ in audio.rglob("*.wav")) == TINYSOL_NOTES
    )  # fmt: skip


def _tinysol_finish(root: Path) -> None:
    """Unpack into the layout that mirdata's index names: audio/FAMILY/INSTRUMENT/ordinario/NOTE.wav."""
    archive = root / "tinysol" / "TinySOL.tar.gz"
    unpack(archive, root / "tinysol" / "audio", lambda folder: _family_folder(folder))
    archive.unlink()


def _family_folder(unpacked: Path) -> Path:
    """The folder with the four families, wherever in the archive it is; all notes must be in it."""
    found = next((path.parent for path in sorted(unpacked.rglob("Brass")) if path.is_dir()), None)
    count = sum(1 for _ in found.rglob("*.wav")) if found else 0
    if found is None or count != TINYSOL_NOTES:
        raise FetchError(f"TinySOL.tar.gz has {count} notes where {TINYSOL_NOTES} are expected")
    return found


def unpack(archive: Path, dest: Path, choose: Callable[[Path], Path] = lambda folder: folder) -> None:
    """Unpack a tar archive beside `dest` and rename: `dest` is complete or not there.

    Args:
        archive: Any compression that tarfile reads.
        dest: The folder to make; an existing one is replaced.
        choose: Picks the folder to keep out of what was unpacked.

    Raises:
        FetchError: The archive is damaged, or has members that would land outside of it.
    """
    part = dest.with_name(f"{dest.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                    raise FetchError(
                        f"{archive}: refusing member {member.name!r} (not a plain file inside the archive)"
                    )
                if hasattr(tarfile, "data_filter"):
                    tar.extract(member, part, filter="data")
                else:
                    tar.extract(member, part)
        kept = choose(part)
        shutil.rmtree(dest, ignore_errors=True)
        os.replace(kept, dest)
    except (tarfile.TarError, EOFError) as error:
        raise FetchError(f"{archive}: cannot be unpacked ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
        Source(
            "tinysol",
            "TinySOL: 2,913 recorded notes of 14 instruments",
            "CC-BY-4.0",
            None,
            _tinysol_items,
            _tinysol_finish,
            _tinysol_ready,
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
