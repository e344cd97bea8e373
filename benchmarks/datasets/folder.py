"""Any folder of audio as a data set."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES, FileLoader
from benchmarks.datasets.base import Clip, DataNotFoundError, digest_of, select_split
from benchmarks.datasets.clip_files import as_text, nfc
from m2l.io.digest import file_sha256
from m2l.io.folders import Found, find_files

if TYPE_CHECKING:
    from m2l.io.folders import Found

#: Read where it is in the folder: a CSV table with the columns `file` and `group`.
DEFAULT_TABLE = "clips.csv"


class FolderDataset:
    """The audio files of a folder, in sorted order, one clip each or cut into excerpts.

    Links to folders are followed. Files that look like audio but are not clips (a format that is not read, a broken
    link, a pipe) are counted on stderr and below the tables.

    Files are listed by name only: a damaged one becomes a clip whose `load()` raises, so that it shows up
    in a table as a failure with its reason instead of ending the run or vanishing from the count. Folders
    named train, valid and test directly under `path` become splits.

    A CSV table with the columns `file` (relative to the folder) and `group` says which files are not independent of
    each other: excerpts of one track, tracks of one artist. Intervals then resample groups. A file that it does not
    name, or names without a group, is on its own.

    Args:
        path: The folder.
        name: How results call it; the folder's name by default.
        seconds: Read at most this much of each file (None: all of it).
        start: Skip this much of each file, in seconds.
        recursive: Whether to descend into sub-folders (hidden ones are always skipped).
        table: The CSV table, relative to the folder; by default `clips.csv` where it exists and has both columns.
        group_folders: Whether the files of one sub-folder are a group, too, where the table names none.
        group_name: What captions call a group.
        license: Shown beside the results.
        citation: Shown beside the results.

    Raises:
        DataNotFoundError: No such folder or table, or no audio file in the folder.
        ValueError: The table lacks a column, or excerpts have an impossible length.
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
        table: str | os.PathLike[str] | None = None,
        group_folders: bool = False,
        group_name: str = "group",
        license: str = "unknown",
        citation: str = "",
    ) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise DataNotFoundError(f"no such folder: {self.path}")
        if start < 0 or (seconds is not None and seconds <= 0):
            raise ValueError(f"folder excerpts: start {start!r} s, length {seconds!r} s")
        self.name = name or as_text(self.path.resolve().name)
        self.seconds, self.start, self.recursive = seconds, start, recursive
        self.license, self.citation = license, citation
        self.group_folders, self.group_name = group_folders, group_name
        self._groups = self._read_groups(table)

    def clips(self, split: str | None = None) -> list[Clip]:
        """List one clip per audio file; see the class. Hashes every file (the digest is its content)."""
        found = [self._clip(path) for path in self._found.files]
        if strays := self._groups.keys() - {nfc(clip.id) for clip in found}:
            print(f"folder {self.path}: no such file, but a group: {min(strays)} ({len(strays)} such)", file=sys.stderr)
        if not found:
            kinds = " ".join(AUDIO_SUFFIXES)
            others = f"; left out: {self._found}" if self.left_out else ""
            raise DataNotFoundError(f"no audio file in {self.path} (looked for {kinds}{others})")
        return select_split(found, split, self.splits, self.name)

    @property
    def left_out(self) -> Mapping[str, tuple[Path, ...]]:
        """Files that look like audio but are not clips: reason -> paths."""
        return self._found.left_out

    def coverage(self) -> str | None:
        """What was left out, for a line under the table; None where nothing was."""
        if not self.left_out:
            return None
        count = sum(map(len, self.left_out.values()))
        files = len(self._found.files)
        return f"{self.name}: {files} of {files + count} files are clips; left out: {self._found}"

    @cached_property
    def _found(self) -> Found:
        try:
            found = find_files(self.path, AUDIO_SUFFIXES)
        except OSError as error:
            raise DataNotFoundError(f"cannot list {self.path}: {error.strerror or error}") from error
        if not self.recursive:
            here = [path for path in found.files if path.parent == self.path]
            others = {
                reason: tuple(path for path in paths if path.parent == self.path)
                for reason, paths in found.left_out.items()
            }
            found = Found(tuple(here), {reason: paths for reason, paths in others.items() if paths})
        if found.left_out:
            examples = ", ".join(paths[0].name for _, paths in sorted(found.left_out.items()))
            print(f"folder {self.path}: left out {found} (such as {examples})", file=sys.stderr)
        return found

    def _read_groups(self, table: str | os.PathLike[str] | None) -> dict[str, str]:
        """File (in composed Unicode) -> group, as far as the table says."""
        path = self.path / (DEFAULT_TABLE if table is None else table)
        if not path.is_file():
            if table is not None:
                raise DataNotFoundError(f"no such table: {path}")
            return {}
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            missing = {"file", "group"} - set(reader.fieldnames or ())
            if missing and table is not None:
                raise ValueError(f"{path}: no column {', '.join(map(repr, sorted(missing)))}")
            rows = [] if missing else list(reader)
        return {nfc(as_text(row["file"])): row["group"] for row in rows if row["file"] and row["group"]}

    def _clip(self, path: Path) -> Clip:
        relative = as_text(path.relative_to(self.path).as_posix())
        try:
            content = file_sha256(path)
        except OSError as error:  # e.g. no permission: reported by load(), like any other damage
            content = f"unreadable: {error.strerror}"
        top = relative.split("/")[0] if "/" in relative else None
        sub_folder = relative.rpartition("/")[0] if self.group_folders else ""
        return Clip(
            id=relative,
            dataset=self.name,
            digest=digest_of("file", content, self.start, self.seconds),
            labels={"file": relative},
            source=relative,
            loader=FileLoader(str(path), self.start, self.seconds),
            split=top if top in self.splits else None,
            license=self.license,
            group=self._groups.get(nfc(relative), sub_folder),
        )
