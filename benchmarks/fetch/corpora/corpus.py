"""A data set that comes in archives: what is published, and how it maps to files on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmarks.datasets.records import Published, nfc
from benchmarks.fetch.sources import Item


@dataclass(frozen=True)
class Archive:
    """One archive as published, possibly in parts.

    Attributes:
        name: As published; names its record.
        parts: Its files; their paths are file names.
        keep: Where a member goes, below the data set's folder; None leaves it out.
        holds: Whether a published path comes out of this archive.
        transfer_bytes: Size of the download, as far as known.
        unpacked_bytes: Size of what comes out, as far as known.
    """

    name: str
    parts: tuple[Item, ...]
    keep: Callable[[str], str | None]
    holds: Callable[[str], bool]
    transfer_bytes: int | None = None
    unpacked_bytes: int | None = None


@dataclass(frozen=True)
class Corpus:
    """A data set that comes in archives.

    Attributes:
        name: As in `m2l-bench fetch NAME`.
        folder: Below the root of the data; the loaders look there.
        title, license, origin, citation: For people.
        items: Plain files, with paths below `folder`.
        archives: Lists the archives, once the plain files are there.
        published: Lists the files that have to come out of them, with their checksums; empty where no such
            list is published.
        count: How many there are.
        damaged: Lists published paths that are known to be missing, empty or undecodable.
        transfer_bytes, unpacked_bytes: As published, or None.
        sample_rates: What the audio may have, in Hz.
        train: Folder of what `m2l train` uses, if it is training data.
        notes: What one should know before.
    """

    name: str
    folder: str
    title: str
    license: str
    origin: str
    citation: str
    items: tuple[Item, ...]
    archives: Callable[[Path, Published], list[Archive]]
    published: Callable[[Path], dict[str, str | None]]
    count: int | None
    damaged: Callable[[Path], frozenset[str]] = lambda folder: frozenset()
    transfer_bytes: int | None = None
    unpacked_bytes: int | None = None
    sample_rates: tuple[int, ...] = ()
    train: str | None = None
    notes: tuple[str, ...] = ()


class Matcher:
    """Finds the published path that a file found somewhere else is: by name, then by the folder it is in.

    Args:
        published: Paths to match against.
    """

    def __init__(self, published: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = {}
        for path in published:
            self._by_name.setdefault(nfc(PurePosixPath(path).name), []).append(path)

    def __call__(self, path: str) -> str | None:
        """The published path of a member or file, or None."""
        found = self._by_name.get(nfc(PurePosixPath(path).name), [])
        if len(found) < 2:
            return found[0] if found else None
        parts = PurePosixPath(nfc(path)).parts

        def shared(candidate: str) -> int:
            """How many components agree, counted from the end."""
            theirs = PurePosixPath(nfc(candidate)).parts
            pairs = zip(reversed(parts), reversed(theirs), strict=False)
            return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(parts), len(theirs)))

        scores = [shared(candidate) for candidate in found]
        best = max(scores)
        return found[scores.index(best)] if scores.count(best) == 1 else None


def keep_published(published: Published, holds: Callable[[str], bool]) -> Callable[[str], str | None]:
    """For `Archive.keep`: members that are published files go where those belong, others stay out."""
    return Matcher(path for path in published if holds(path))
