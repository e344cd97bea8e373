"""Records of what was fetched: which files each archive of a data set left on this machine.

A finished archive leaves `FOLDER/.m2l/records/ARCHIVE.csv` with the path, size and sha256 of each of its files.
The record is written last, so an archive without one does not count, whatever files lie around.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets.clip_files import nfc as nfc
from m2l.io.atomic import write_atomic

#: Path below the data set's folder -> "md5:HEX" or "sha256:HEX", or None where no checksum is published.
Published = Mapping[str, "str | None"]
#: Folder, inside that of a data set, for records and for work in progress.
HIDDEN = ".m2l"


@dataclass(frozen=True)
class Member:
    """A fetched file: path relative to the data set's folder, size in bytes, sha256."""

    path: str
    size: int
    sha256: str


def record_path(folder: Path, archive: str) -> Path:
    """Path of an archive's record."""
    return folder / HIDDEN / "records" / f"{archive}.csv"


def write_record(folder: Path, archive: str, members: Sequence[Member]) -> None:
    """Record that an archive is complete, and what came out of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "bytes", "sha256"))
    writer.writerows((member.path, member.size, member.sha256) for member in members)
    write_atomic(record_path(folder, archive), text.getvalue())


def read_record(folder: Path, archive: str) -> list[Member] | None:
    """What came out of an archive, or None if it is not complete."""
    try:
        text = record_path(folder, archive).read_text(encoding="utf-8")
    except OSError:
        return None
    rows = csv.DictReader(text.splitlines())
    return [Member(row["path"], int(row["bytes"]), row["sha256"]) for row in rows]


def read_records(folder: Path) -> dict[str, Member]:
    """All recorded files by path."""
    found: dict[str, Member] = {}
    for path in sorted((folder / HIDDEN / "records").glob("*.csv")):
        found.update({member.path: member for member in read_record(folder, path.stem) or ()})
    return found


def records_digest(folder: Path) -> str:
    """sha256 over the path and sha256 of all recorded files, sorted: equal digests mean equal data."""
    lines = sorted(f"{member.sha256}  {member.path}\n" for member in read_records(folder).values())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
