"""The audio files below a folder, and what was left out: one way to list a folder for every command and data set.

Links to folders are followed. A name with the suffix of audio that is not in the list is never dropped silently:
it is counted under a reason, and so are pipes, devices, broken links, and folders that link back to one they lie in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from m2l.io.sound import FORMATS

#: Suffixes of audio that libsndfile does not read; such files are counted, others (covers, playlists) are no audio.
OTHER_AUDIO = frozenset(
    [
        ".m4a",
        ".m4b",
        ".mp4",
        ".aac",
        ".wma",
        ".ape",
        ".wv",
        ".mpc",
        ".tta",
        ".dsf",
        ".dff",
        ".ac3",
        ".eac3",
        ".dts",
        ".mka",
        ".webm",
        ".alac",
        ".amr",
        ".ra",
        ".mid",
        ".midi",
    ]
)


@dataclass(frozen=True)
class Found:
    """Files in sorted order, and what was left out: reason -> paths."""

    files: tuple[Path, ...]
    left_out: Mapping[str, tuple[Path, ...]]

    def __str__(self) -> str:
        """What was left out in one line, such as "2 not a readable format (.m4a), 1 not a regular file"."""
        return ", ".join(f"{len(paths)} {reason}" for reason, paths in sorted(self.left_out.items()))


def find_files(folder: str | os.PathLike[str], suffixes: Iterable[str] = FORMATS) -> Found:
    """All files below `folder` with one of `suffixes`, links to folders followed.

    Names that begin with a dot are ignored, as `ls` does.

    Args:
        folder: where to look.
        suffixes: in small letters, with the dot.

    Returns:
        The files sorted by path, and what looks like audio and was left out, with the reason.

    Raises:
        OSError: if `folder` itself cannot be listed.
    """
    wanted = frozenset(suffixes)
    files: list[Path] = []
    left_out: dict[str, list[Path]] = {}

    def leave_out(reason: str, path: Path) -> None:
        left_out.setdefault(reason, []).append(path)

    def visit(place: Path, above: frozenset[tuple[int, int]]) -> None:
        for name in sorted(os.listdir(place)):
            if name.startswith("."):
                continue
            path = place / name
            suffix = path.suffix.lower()
            audible = suffix in wanted or suffix in OTHER_AUDIO
            try:
                found = path.stat()
            except OSError as error:
                if path.is_symlink():  # whether to a song or an album, no one can tell
                    leave_out("broken link", path)
                elif audible:
                    leave_out(error.strerror or str(error), path)
                continue
            identity = (found.st_dev, found.st_ino)
            if stat.S_ISDIR(found.st_mode):
                if identity in above:
                    leave_out("link to a folder that it lies in", path)
                    continue
                try:
                    visit(path, above | {identity})
                except OSError as error:
                    leave_out(f"folder that cannot be listed ({error.strerror or error})", path)
            elif suffix in wanted:
                if stat.S_ISREG(found.st_mode):
                    files.append(path)
                else:
                    leave_out("not a regular file (a pipe or device)", path)
            elif audible:
                leave_out(f"not a readable format ({suffix})", path)

    root = Path(folder)
    status = root.stat()
    visit(root, frozenset({(status.st_dev, status.st_ino)}))
    return Found(tuple(sorted(files)), {reason: tuple(paths) for reason, paths in left_out.items()})
