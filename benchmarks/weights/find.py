"""Finding weights on this machine, verifying them, and naming the command that gets them.

Look-up order: explicit path, our cache (`CACHE/weights/NAME/`), the model hub's own cache, an installed
wheel (its files are read, the package is never imported). Nothing is downloaded here: that is
`benchmarks.fetch.weights`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from pathlib import Path

from benchmarks.registry import UnknownNameError
from benchmarks.weights.table import WEIGHTS, WeightFile, WeightSource
from m2l.io.cache import cache_dir, in_hub_cache
from m2l.io.digest import known_sha256

#: Licenses that allow any use, in any version and spelling.
_FREE = ("mit", "apache", "bsd", "isc", "cc0", "cc by 4", "cc by 3", "cc by sa", "unlicense", "lgpl", "mpl")


class WeightsNotFoundError(FileNotFoundError):
    """The weights are not on this machine; `command` gets them."""

    def __init__(self, name: str, looked: list[str], command: str) -> None:
        super().__init__(f"weights {name!r} not found: {'; '.join(looked)}. To get them: {command}")
        self.name, self.looked, self.command = name, looked, command


class WeightsCorruptError(ValueError):
    """A file of weights whose size or sha256 is not the published one."""


def fetch_command(source: WeightSource) -> str:
    """The command that gets weights, with the option that accepts a restrictive license where one is needed."""
    return f"m2l-bench fetch {source.name}" + (" --accept-license" if restriction(source.license) else "")


def restriction(license: str) -> str | None:
    """How a license restricts use; None for those that allow any."""
    words = re.sub(r"[^a-z0-9]+", " ", license.lower()).strip()
    if "nc" in words.split() or "non commercial" in words or "noncommercial" in words:
        return "not for commercial use"
    if not words or words in ("not stated", "unknown", "none"):
        return "no license is stated, so all rights are reserved"
    return None if words.startswith(_FREE) else "read its terms before use"


def weight_source(name: str) -> WeightSource:
    """The table's entry.

    Raises:
        UnknownNameError: no weights have that name; the message gives the nearest.
    """
    if name not in WEIGHTS:
        raise UnknownNameError("weights", name, WEIGHTS)
    return WEIGHTS[name]


def find_weight(name: str, explicit: str | os.PathLike[str] | None = None) -> Path:
    """Path of the weights: a file, or the folder of several files.

    Args:
        name: entry of the table (`benchmarks.weights.table`).
        explicit: a file (or folder, for several files) to use instead; it is not verified against the table.

    Raises:
        UnknownNameError: the table has no such entry.
        WeightsNotFoundError: they are not on this machine; the message says where it looked and what gets them.
        WeightsCorruptError: a file has the wrong size.
    """
    source = weight_source(name)
    command = fetch_command(source)
    if explicit is not None:
        path = Path(explicit).expanduser()
        if path.is_dir():
            path = path / source.files[0].basename if len(source.files) == 1 else path
        needed = [path] if len(source.files) == 1 else [path / file.basename for file in source.files]
        absent = [str(p) for p in needed if not p.is_file()]
        if absent:
            raise WeightsNotFoundError(name, [f"no file {', '.join(absent)} (given explicitly)"], command)
        return path
    looked = []
    for label, folder in _places(source):
        if folder is None:
            looked.append(label)
            continue
        absent = [file.basename for file in source.files if not (folder / file.basename).is_file()]
        if not absent:
            for file in source.files:
                _check_size(folder / file.basename, file)
            return folder / source.files[0].basename if len(source.files) == 1 else folder
        looked.append(f"no {', '.join(absent)} in {label}")
    if source.kind == "wheel":
        package, version = source.location
        command += f", or pip install --no-deps {package}=={version}"
    raise WeightsNotFoundError(name, looked, command)


def has_weight(name: str, explicit: str | os.PathLike[str] | None = None) -> tuple[bool, str]:
    """Whether the weights are here and are the published ones, and the reason if not."""
    try:
        weight_digest(name, explicit)
    except (WeightsNotFoundError, WeightsCorruptError) as error:
        return False, str(error)
    return True, ""


def weight_digest(name: str, explicit: str | os.PathLike[str] | None = None) -> str:
    """sha256 that identifies the weights: of the file, or of the files' digests in the table's order.

    Raises:
        WeightsCorruptError: a file found by look-up is not the published one.
        WeightsNotFoundError: as `find_weight`.
    """
    source = weight_source(name)
    path = find_weight(name, explicit)
    paths = [path] if len(source.files) == 1 else [path / file.basename for file in source.files]
    digests = [known_sha256(p) for p in paths]
    if explicit is None:
        for p, file, found in zip(paths, source.files, digests, strict=True):
            if file.sha256 is not None and found != file.sha256:
                raise WeightsCorruptError(f"{p}: sha256 {found}, published is {file.sha256}")
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _places(source: WeightSource) -> list[tuple[str, Path | None]]:
    """(description, folder) in the order of look-up; without a folder, the description says why."""
    ours = cache_dir() / "weights" / source.name
    places: list[tuple[str, Path | None]] = [(str(ours), ours)]
    if source.kind == "hub" and (folder := _hub_folder(source)) is not None:
        places.append(("the model hub's cache", folder))
    if source.kind == "wheel":
        folder = _wheel_folder(source)
        package = source.location[0]
        label = f"the installed wheel {package}" if folder else f"wheel {package} is not installed"
        places.append((label, folder))
    return places


def _hub_folder(source: WeightSource) -> Path | None:
    """Folder of the snapshot in the hub's cache that holds the first file, at the pinned commit or at main."""
    repository, revision = source.location
    found = in_hub_cache(repository, source.files[0].path, dict.fromkeys((revision or "main", "main")))
    return None if found is None else found.parent


def _wheel_folder(source: WeightSource) -> Path | None:
    """Folder of the files in site-packages, found through the wheel's record; the package is not imported."""
    try:
        distribution = importlib.metadata.distribution(source.location[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(source.files[0].path))).parent


def _check_size(path: Path, file: WeightFile) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise WeightsCorruptError(f"{path} has {size} bytes, the published file has {file.size}")
