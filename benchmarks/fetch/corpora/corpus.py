"""A data set that comes in archives: what is published, and how it maps to files on this machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES
from benchmarks.datasets.records import Published, nfc
from benchmarks.fetch.transfer import Item


@dataclass(frozen=True)
class Archive:
    """One archive as published, possibly in parts.

    Attributes:
        name: Names its record.
        parts: Its files. Their paths are file names, or patterns of names for files that we do not download.
        prefix: Folder of its files, below that of the data set.
    """

    name: str
    parts: tuple[Item, ...]
    prefix: str

    def holds(self, path: str) -> bool:
        """Whether a published path comes out of this archive."""
        return path.startswith(f"{self.prefix}/")

    def files(self, published: Published, damaged: Collection[str]) -> list[str]:
        """Published paths that have to come out of this archive."""
        return [path for path in published if self.holds(path) and path not in damaged]

    def keeper(self, published: Published) -> Callable[[str], str | None]:
        """Maps members to their destinations: published files to their paths, others to None.

        Without a list of published files, audio is kept, relative to the folder named as the prefix ends.
        """
        if published:
            return Matcher(path for path in published if self.holds(path))

        def keep(path: str) -> str | None:
            parts, group = PurePosixPath(path).parts, PurePosixPath(self.prefix).name
            if PurePosixPath(path).suffix.lower() not in AUDIO_SUFFIXES:
                return None
            inner = parts[parts.index(group) + 1 :] if group in parts else parts[-1:]
            return "/".join((self.prefix, *inner))

        return keep


@dataclass(frozen=True)
class Corpus:
    """A data set that comes in archives.

    Attributes:
        name: As in `m2l-bench fetch NAME`.
        folder: Below the root of the data, where the loaders look.
        title, license, origin, citation: For people.
        items: Plain files, with paths below `folder`.
        archives: Lists the archives, once the plain files are present.
        published: Lists the files that have to come out of them, with their checksums; empty if no such list is
            published.
        count: How many there are.
        damaged: Lists published paths that are known to be missing, empty or undecodable.
        transfer_bytes, unpacked_bytes: As published, or None.
        sample_rates: Those that the audio may have, in Hz.
        train: Folder of what `m2l train` uses, if it is training data.
        official: Commands of its publisher that download it, if we do not; `{folder}` is a folder of the user's.
        notes: What one should know before.
    """

    name: str
    folder: str
    title: str
    license: str
    origin: str
    citation: str
    items: tuple[Item, ...]
    archives: Callable[[Path], list[Archive]]
    published: Callable[[Path], dict[str, str | None]]
    count: int | None
    damaged: Callable[[Path], frozenset[str]] = lambda folder: frozenset()
    transfer_bytes: int | None = None
    unpacked_bytes: int | None = None
    sample_rates: tuple[int, ...] = ()
    train: str | None = None
    official: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Matcher:
    """Finds the published path of a file from elsewhere: by its name, then by the folders it is in.

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
