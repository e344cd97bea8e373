"""Taking over an existing copy of a data set: archives as published, or unpacked files under their names.

Nothing in the copy is changed or moved. Files that have a published checksum must have it; what has none
must at least be there in full. Files are hard-linked where the file system allows, else copied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.datasets.audio_files import AUDIO_SUFFIXES
from benchmarks.datasets.records import HIDDEN, Member, Published, read_record, write_record
from benchmarks.fetch.corpora.corpus import Archive, Corpus, Matcher
from benchmarks.fetch.sources import Item
from benchmarks.fetch.transfer import is_right

_BLOCK = 1 << 20


def walk(folder: Path) -> Iterator[Path]:
    """All plain files below a folder, without those of hidden folders, in sorted order."""
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


def digests(path: Path, algorithm: str | None) -> tuple[str, str | None]:
    """(sha256, digest by `algorithm`) of a file, read once."""
    first = hashlib.sha256()
    other = hashlib.new(algorithm, usedforsecurity=False) if algorithm not in (None, "sha256") else None
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            first.update(block)
            if other is not None:
                other.update(block)
    return first.hexdigest(), other.hexdigest() if other is not None else first.hexdigest()


def adopt(
    corpus: Corpus,
    archives: Sequence[Archive],
    published: Published,
    source: Path | None,
    folder: Path,
    tell: Callable[[str], None],
) -> dict[str, Path]:
    """Record what is there already, in an existing copy or in the data set's own folder.

    Args:
        corpus, archives, published: What is wanted.
        source: The existing copy; None looks into `folder` only, for data that was put there by hand.
        folder: Of the data set.
        tell: Given lines for people.

    Returns:
        File name -> path of archives' parts found in the copy, checked where a checksum is published.

    Raises:
        ValueError: The copy is not a folder.
    """
    if source is not None and not source.is_dir():
        raise ValueError(f"no such folder: {source}")
    waiting = [archive for archive in archives if read_record(folder, archive.name) is None]
    if not waiting:
        return {}
    if not published:
        return _offered(waiting, source, tell) | _adopt_groups(waiting, source, folder, tell)
    found = _find(published, source or folder)
    damaged = corpus.damaged(folder)
    offered = _offered(waiting, source, tell)
    for archive in waiting:
        if all(part.path in offered for part in archive.parts):
            continue
        wanted = [path for path in published if archive.holds(path) and path not in damaged]
        there = [path for path in wanted if path in found]
        if not there:
            continue
        if len(there) < len(wanted):
            tell(
                f"  {archive.name}: {len(wanted) - len(there)} of its {len(wanted)} files are not in the copy"
            )
            continue
        there += [path for path in damaged if archive.holds(path) and path in found]
        members, wrong = _check(there, found, published)
        if wrong:
            tell(f"  {archive.name}: not adopted, {len(wrong)} files are others, the first is {wrong[0]}")
            continue
        for member in members:
            link_or_copy(found[member.path], folder / member.path)
        write_record(folder, archive.name, members)
        tell(f"  {archive.name}: adopted {len(members)} files")
    return offered


def _offered(
    archives: Sequence[Archive], source: Path | None, tell: Callable[[str], None]
) -> dict[str, Path]:
    """Parts of archives that the copy has under their published names."""
    if source is None:
        return {}
    wanted = {part.path: part for archive in archives for part in archive.parts}
    found: dict[str, Path] = {}
    for path in walk(source):
        part: Item | None = wanted.get(path.name)
        if part is None or path.name in found:
            continue
        if is_right(path, part.expected):
            found[path.name] = path
        else:
            tell(f"  {path}: not adopted, it is not the published file")
    return found


def _find(published: Published, root: Path) -> dict[str, Path]:
    """Published path -> file in the copy."""
    match = Matcher(published)
    found: dict[str, Path] = {}
    for path in walk(root):
        relative = path.relative_to(root).as_posix()
        target = match(relative)
        if target is not None and (target not in found or relative.endswith(target)):
            found[target] = path
    return found


def _check(
    paths: Sequence[str], found: Mapping[str, Path], published: Published
) -> tuple[list[Member], list[str]]:
    """Members with their digests, and what is wrong with those that have another than the published one."""
    members, wrong = [], []
    for path in paths:
        expected = published[path]
        algorithm, _, wanted = expected.partition(":") if expected else (None, "", "")
        sha256, actual = digests(found[path], algorithm)
        if expected and actual != wanted:
            wrong.append(f"{found[path]} ({algorithm} is {actual}, published is {wanted})")
        members.append(Member(path, found[path].stat().st_size, sha256))
    return members, wrong


def _adopt_groups(
    archives: Sequence[Archive], source: Path | None, folder: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """Adopt unpacked folders where no list of files is published: they are taken as they are."""
    if source is None:
        return {}
    groups: dict[str, list[Archive]] = {}
    for archive in archives:
        sample = archive.keep("x.wav")
        if sample is not None:
            groups.setdefault(sample.rpartition("/")[0], []).append(archive)
    for group, members_of in groups.items():
        name = group.rpartition("/")[2]
        roots = [
            path for path in [source, *sorted(source.rglob(name))] if path.name == name and path.is_dir()
        ]
        root = next((path for path in roots if HIDDEN not in path.parts), None)
        if root is None:
            continue
        from m2l.io.folders import find_files  # loads libsndfile

        found = find_files(root, AUDIO_SUFFIXES)
        members = []
        for path in found.files:
            target = f"{group}/{path.relative_to(root).as_posix()}"
            link_or_copy(path, folder / target)
            members.append(Member(target, path.stat().st_size, digests(path, None)[0]))
        if not members:
            continue
        # One record holds the files; the others say that their archives need not be fetched.
        for position, archive in enumerate(members_of):
            write_record(folder, archive.name, members if position == 0 else [])
        others = f"; left out: {found}" if found.left_out else ""
        tell(
            f"  {name}: adopted {len(members)} files; no list is published to tell whether that is all{others}"
        )
    return {}
