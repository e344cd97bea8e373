"""A report's folder: made whole, and replaced only where this command made it.

The marker `report.json` lists every file with its digest. Files that it does not list belong to somebody else and
are kept; a listed file that was changed since stops the command.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import m2l
from m2l.io.atomic import _is_running

#: The file that says a folder is a report, and which of its files are the report's.
MARKER = "report.json"
_KIND = "m2l report"


def marker_of(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    """The marker's contents for a report of some files."""
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    record = {**about, "kind": _KIND, "made_by": f"m2l {m2l.__version__}", "files": listed}
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()


def check_target(folder: Path) -> None:
    """Refuse to write over anything that is not a report.

    Raises:
        FileExistsError: the folder holds other things, or a report that somebody changed.
        NotADirectoryError: the target, or a part of its path, is a file.
    """
    for part in (folder, *folder.parents):
        if part.is_dir():
            break
        if part.exists():
            raise NotADirectoryError(f"{part} is a file; a report is a folder: choose another with -o")
    if folder.is_dir():
        _own_files(folder)


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a report beside `folder` and put it in its place at once: a reader sees the old one or the new.

    Files of other origin that lie in an older report are kept.

    Args:
        files: relative path -> contents, the marker among them.
        folder: where; a link is followed.

    Raises:
        FileExistsError, NotADirectoryError: as `check_target`, or a file of other origin has the name of one
            of the report's.
    """
    check_target(folder)
    folder = Path(os.path.realpath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder)
    own = _own_files(folder) if folder.is_dir() else set()
    others = [name for name in _files_below(folder) if name not in own]
    for name in others:
        if name in files:
            raise FileExistsError(f"{folder / name} does not belong to the report: choose another folder with -o")
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{_prefix(folder)}{os.getpid()}-", suffix=".part"))
    try:
        made.chmod(0o755)
        for name, content in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name in others:
            _also_at(folder / name, made / name)
        if folder.exists():
            _exchange(made, folder)
        else:
            made.rename(folder)
            return
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _remove_files(made, own | set(others))


def _own_files(folder: Path) -> set[str]:
    """Relative paths of the report's files that exist; empty for an empty folder.

    Raises:
        FileExistsError: the folder holds files without the marker of a report, or a listed file was changed.
    """
    with os.scandir(folder) as entries:
        if next(entries, None) is None:
            return set()
    try:
        record = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        listed = {str(name): str(digest) for name, digest in record["files"].items()}
        known = record["kind"] == _KIND
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known, listed = False, {}
    if not known:
        raise FileExistsError(f"{folder} is not empty and is not a report: choose another folder with -o")
    found = {MARKER}
    for name, digest in listed.items():
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/"):
            raise FileExistsError(f"{folder / MARKER} lists {name!r}, which is not a file of a report")
        path = folder / name
        if any((folder / parent).is_symlink() for parent in [*PurePosixPath(name).parents][:-1]):
            continue  # the report never makes a link to a folder
        if not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_file() or _digest(path) != digest:
            raise FileExistsError(f"{path} was changed since the report was made: choose another folder with -o")
        found.add(name)
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files_below(folder: Path) -> list[str]:
    """Relative paths of all files and links below a folder; empty if it does not exist."""
    found = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            found.append(Path(place, name).relative_to(folder).as_posix())
    return found


def _also_at(source: Path, target: Path) -> None:
    """The same file under a second path: one more link to it, or a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(made: Path, folder: Path) -> None:
    """Swap two folders in one step; where the system cannot, in renames that `_recover` takes back after a kill."""
    if _swap(made, folder):
        return
    old = made.with_suffix(".old")
    folder.rename(old)
    try:
        made.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    old.rename(made)


def _prefix(folder: Path) -> str:
    return f".{folder.name[:40]}-"


def _recover(folder: Path) -> None:
    """What a killed run left beside: an old report goes back to its place, anything half made is removed."""
    for left in sorted(folder.parent.glob(f"{glob.escape(_prefix(folder))}[0-9]*-*")):
        if _is_running(left.name[len(_prefix(folder)) :].partition("-")[0]):
            continue
        if left.suffix == ".old" and not folder.exists():
            left.rename(folder)
        elif left.suffix in (".old", ".part") and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


def _swap(first: Path, second: Path) -> bool:
    """Linux and macOS exchange two paths in one system call; whether that worked."""
    here, exchange = -100, 2  # AT_FDCWD; RENAME_EXCHANGE and RENAME_SWAP have the same value
    with suppress(AttributeError, OSError, TypeError):
        system = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(first), os.fsencode(second)
        if hasattr(system, "renameat2"):
            return bool(system.renameat2(here, names[0], here, names[1], exchange) == 0)
        return bool(system.renamex_np(*names, exchange) == 0)
    return False


def _remove_files(folder: Path, names: set[str]) -> None:
    """Remove the files that are known, and the folders that are empty then; the rest was put there meanwhile."""
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
    for place, _, _ in sorted(os.walk(folder), key=lambda found: -len(found[0])):
        with suppress(OSError):
            os.rmdir(place)
