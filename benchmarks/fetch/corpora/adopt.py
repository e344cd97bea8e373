"""Adopting an existing copy of a data set: archives as published, or unpacked files under their names.

Nothing in the copy is changed or moved. Files with a published checksum must match it; what has none must at
least be complete. Files are hard-linked if the file system allows it, else copied.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES
from benchmarks.datasets.records import HIDDEN, Member, Published, write_record
from benchmarks.fetch.corpora.corpus import Archive, Matcher
from benchmarks.fetch.expected import is_right
from benchmarks.fetch.transfer import Item, say
from m2l.io.digest import file_digest, file_sha256
from m2l.io.folders import find_files


def walk(folder: Path) -> Iterator[Path]:
    """All plain files below a folder but those of hidden folders, in sorted order."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root) / name
            if path.is_file() and not name.startswith("."):
                yield path


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file under another name: a hard link, else a copy beside its place and a rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".m2l-") as temporary:
        beside = Path(temporary) / "file"
        try:
            os.link(source.resolve(), beside)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, beside)
        os.replace(beside, target)


def differs(path: Path, expected: str | None) -> tuple[str, str | None]:
    """(sha256 of a file, how it differs from its published checksum, or None)."""
    algorithm, _, wanted = (expected or "").partition(":")
    sha256 = file_sha256(path)
    if not expected:
        return sha256, None
    actual = sha256 if algorithm == "sha256" else file_digest(path, algorithm)
    return sha256, f"{algorithm} is {actual}, published is {wanted}" if actual != wanted else None


def adopt_items(items: Sequence[Item], source: Path, folder: Path) -> None:
    """Take plain files from anywhere in an existing copy, if they are the expected ones."""
    by_name: dict[str, list[Path]] = {}
    for path in walk(source):
        by_name.setdefault(path.name, []).append(path)
    for item in items:
        candidates = by_name.get(Path(item.path).name, ())
        found = next((path for path in candidates if is_right(path, item.expected)), None)
        if found is not None:
            link_or_copy(found, folder / item.path)


def adopt(
    wanted: Sequence[Archive],
    published: Published,
    damaged: Collection[str],
    source: Path | None,
    folder: Path,
    fresh: bool = False,
) -> dict[str, Path]:
    """Record what exists already, in an existing copy or in the data set's own folder.

    Args:
        wanted: Archives without a record.
        published: Files that they consist of, if such a list is published.
        damaged: Those of them that are published damaged.
        source: The existing copy; None looks into `folder` only, for data that was put there by hand.
        folder: Of the data set.
        fresh: Whether to take archives only, not unpacked files.

    Returns:
        Part -> its file in the copy, verified if a checksum is published.

    Raises:
        ValueError: The copy is not a folder.
    """
    if source is not None and not source.is_dir():
        raise ValueError(f"no such folder: {source}")
    if not wanted:
        return {}
    # Archives as published.
    offered = _offered(wanted, source) if source is not None else {}
    rest = [a for a in wanted if not fresh and not all(part.path in offered for part in a.parts)]
    # Unpacked files: as they are if no list of them is published, else each archive's files, verified.
    if not published:
        if source is not None:
            _adopt_groups(rest, source, folder)
        return offered
    found = _find(published, source or folder)
    for archive in rest:
        needed = archive.files(published, damaged)
        absent = sum(path not in found for path in needed)
        if absent == len(needed):
            continue
        if absent:
            say(f"  {archive.name}: {absent} of its {len(needed)} files are not in the copy")
            continue
        members, wrong = [], []
        for path in [*needed, *(path for path in damaged if archive.holds(path) and path in found)]:
            sha256, reason = differs(found[path], published[path])
            wrong += [f"{found[path]} ({reason})"] if reason else []
            members.append(Member(path, found[path].stat().st_size, sha256))
        if wrong:
            say(f"  {archive.name}: not adopted, {len(wrong)} files differ, the first is {wrong[0]}")
            continue
        for member in members:
            link_or_copy(found[member.path], folder / member.path)
        write_record(folder, archive.name, members)
        say(f"  {archive.name}: adopted {len(members)} files")
    return offered


def _offered(archives: Sequence[Archive], source: Path) -> dict[str, Path]:
    """Parts of archives that the copy has under their published names."""
    parts = [part for archive in archives for part in archive.parts]
    exact = {part.path: part for part in parts if "*" not in part.path}
    patterns = [part for part in parts if "*" in part.path]
    found: dict[str, Path] = {}
    for path in walk(source):
        part = exact.get(path.name) or next((p for p in patterns if fnmatch.fnmatch(path.name, p.path)), None)
        if part is None or part.path in found:
            continue
        if is_right(path, part.expected):
            found[part.path] = path
        else:
            say(f"  {path}: not adopted, it is not the published file")
    return found


def _find(published: Published, root: Path) -> Mapping[str, Path]:
    """Published path -> file in the copy."""
    match = Matcher(published)
    found: dict[str, Path] = {}
    for path in walk(root):
        relative = path.relative_to(root).as_posix()
        target = match(relative)
        if target is not None and (target not in found or relative.endswith(target)):
            found[target] = path
    return found


def _adopt_groups(archives: Sequence[Archive], source: Path, folder: Path) -> None:
    """Adopt unpacked folders as they are, if no list of files is published."""
    groups: dict[str, list[Archive]] = {}
    for archive in archives:
        groups.setdefault(archive.prefix, []).append(archive)
    for prefix, members_of in groups.items():
        name = Path(prefix).name
        roots = [p for p in [source, *sorted(source.rglob(name))] if p.name == name and p.is_dir()]
        root = next((path for path in roots if HIDDEN not in path.parts), None)
        found = find_files(root, AUDIO_SUFFIXES) if root is not None else None
        if root is None or found is None or not found.files:
            continue
        members = []
        for path in found.files:
            target = f"{prefix}/{path.relative_to(root).as_posix()}"
            link_or_copy(path, folder / target)
            members.append(Member(target, path.stat().st_size, file_sha256(path)))
        # One record lists the files; the others say that their archives are not needed.
        for position, archive in enumerate(members_of):
            write_record(folder, archive.name, members if position == 0 else [])
        others = f"; left out: {found}" if found.left_out else ""
        say(f"  {name}: adopted {len(members)} files; no list is published to tell whether that is all{others}")
