"""Which outputs of a folder are done, and from which source: the record that lets a run go on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: In the output folder: a line of JSON per finished output.
RECORD_NAME = ".m2l-done.jsonl"


@dataclass(frozen=True)
class Source:
    """A source as the record knows it.

    `path` is where it was named, `real` the file behind all links (empty for a pipe, which has no place).
    `digest` reads its content; it is asked only where names do not settle whether two sources are one.
    """

    path: str
    real: str
    digest: Callable[[], str]


class Record:
    """The outputs of a folder: a file of JSON lines, two for each output.

    The first, without a size, says that an output is ours to write; the second that it is complete. It counts as
    done if it is there, has the recorded size, and was made from the same source by the same weights and
    settings. A line cut short by a kill is ignored: that output is made again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / RECORD_NAME
        self._lines: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError, RecursionError):
                    entry = json.loads(line)
                    self._lines[entry["output"]] = entry

    def is_done(self, name: str, key: str) -> bool:
        """Whether the output exists as recorded under this key."""
        entry = self._lines.get(name, {})
        try:
            return bool(entry.get("key") == key and entry.get("size") == (self._folder / name).stat().st_size)
        except OSError:
            return False

    def is_ours(self, name: str) -> bool:
        """Whether an earlier run wrote this output, or was about to."""
        return name in self._lines

    def other_source(self, name: str, source: Source) -> str | None:
        """The path of the file that the output was made from, if that is not `source`; None if it is.

        A source is the same if it is the same file behind all links, if it has the same content (a folder that was
        moved or copied), or if it has the place of one that exists no more. A file that was changed where it lies
        is the same source.
        """
        entry = self._lines.get(name, {})
        path, real, content = (str(entry.get(field) or "") for field in ("source", "real", "content"))
        if not path or (real and real == source.real):
            return None
        if source.real and path == source.path and not os.path.lexists(real):
            return None
        return None if content and content == source.digest() else path

    def is_from(self, name: str, source: Source) -> bool:
        """Whether the record names this place as the output's source."""
        entry = self._lines.get(name, {})
        return (entry.get("source"), entry.get("real")) == (source.path, source.real)

    def begin(self, name: str, source: Source) -> None:
        """Note an output that is about to be written. Raises `OSError` if the record cannot be."""
        self._add({"output": name, "source": source.path, "real": source.real})

    def finish(self, name: str, source: Source, key: str) -> None:
        """Note an output that is complete. Raises `OSError` if source or record cannot be read or written."""
        self._add(
            {
                "output": name,
                "source": source.path,
                "real": source.real,
                "content": source.digest(),
                "key": key,
                "size": (self._folder / name).stat().st_size,
            }
        )

    def _add(self, entry: dict[str, Any]) -> None:
        self._lines[entry["output"]] = entry
        # A leading newline ends a line that a kill may have cut.
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry))


def record_above(target: Path) -> tuple[Record | None, str]:
    """The record of the folder run that made `target`, if one did, and the target's name in it."""
    path = Path(os.path.abspath(target))
    for folder in path.parents:
        if (folder / RECORD_NAME).is_file():
            record, name = Record(folder), str(path.relative_to(folder))
            return (record, name) if record.is_ours(name) else (None, name)
    return None, ""


def content_digest(path: str | os.PathLike[str]) -> str:
    """Digest of a file's bytes. Raises `OSError` if it cannot be read."""
    state = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            state.update(block)
    return state.hexdigest()


def job_key(source: Path, settings: dict[str, Any], content: str | None = None) -> str:
    """Digest of what an output depends on: the source (name, size, time of change), weights and settings.

    A source without a size and a time of its own, a pipe, is known by its `content` instead.
    """
    if content is None:
        status = source.stat()
        facts: list[Any] = [status.st_size, status.st_mtime_ns]
    else:
        facts = [content]
    parts = [os.fsencode(source.name).hex(), *facts, sorted(settings.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
