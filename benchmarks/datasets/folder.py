"""Any folder of audio as a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, FileLoader
from benchmarks.datasets.base import Clip, DataNotFoundError, digest_of, file_sha256, select_split


class FolderDataset:
    """The audio files of a folder, in sorted order, one clip each or cut into excerpts.

    Files are listed by name only: a damaged one becomes a clip whose `load()` raises, so that it shows up
    in a table as a failure with its reason instead of ending the run or vanishing from the count. Folders
    named train, valid and test directly under `path` become splits.

    Args:
        path: The folder.
        name: How results call it; the folder's name by default.
        seconds: Read at most this much of each file (None: all of it).
        start: Skip this much of each file, in seconds.
        recursive: Whether to descend into sub-folders (hidden ones are always skipped).
        licence: Shown beside the results.
        citation: Shown beside the results.

    Raises:
        DataNotFoundError: No such folder, or no audio file in it.
    """

    version = "1"
    splits = ("train", "valid", "test")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        seconds: float | None = None,
        start: float = 0.0,
        recursive: bool = True,
        licence: str = "unknown",
        citation: str = "",
    ) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise DataNotFoundError(f"no such folder: {self.path}")
        if start < 0 or (seconds is not None and seconds <= 0):
            raise ValueError(f"folder excerpts: start {start!r} s, length {seconds!r} s")
        self.name = name or self.path.resolve().name
        self.seconds, self.start, self.recursive = seconds, start, recursive
        self.licence, self.citation = licence, citation

    def clips(self, split: str | None = None) -> list[Clip]:
        """List one clip per audio file; see the class. Hashes every file (the digest is its content)."""
        found = [self._clip(path) for path in sorted(self._files())]
        if not found:
            kinds = " ".join(AUDIO_SUFFIXES)
            raise DataNotFoundError(f"no audio file in {self.path} (looked for {kinds})")
        return select_split(found, split, self.splits, self.name)

    def _files(self) -> Iterator[Path]:
        for folder, folders, files in os.walk(self.path):
            folders[:] = sorted(f for f in folders if self.recursive and not f.startswith("."))
            for file in files:
                if not file.startswith(".") and Path(file).suffix.lower() in AUDIO_SUFFIXES:
                    yield Path(folder) / file

    def _clip(self, path: Path) -> Clip:
        relative = path.relative_to(self.path).as_posix()
        try:
            content = file_sha256(path)
        except OSError as error:  # e.g. no permission: reported by load(), like any other damage
            content = f"unreadable: {error.strerror}"
        top = relative.split("/")[0] if "/" in relative else None
        return Clip(
            id=relative,
            dataset=self.name,
            digest=digest_of("file", content, self.start, self.seconds),
            labels={"file": relative},
            source=relative,
            loader=FileLoader(str(path), self.start, self.seconds),
            split=top if top in self.splits else None,
            licence=self.licence,
        )
