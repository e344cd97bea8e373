"""Downloads that are all there or not there: resumed, checked, and renamed into place.

A download is written to NAME.part beside its destination, with NAME.part.json saying what it is a part
of. Interrupted, it goes on from there on the next call, if the server can and the file is still the same
one (strong ETag); otherwise it starts again. Only a complete file with the right checksum gets its name.

Where no checksum is known beforehand, one that the server states (`Content-MD5`, as blob stores do) is held
to. A server that trickles is dropped and asked for the rest again; one that is busy is given the time it asks
for (`Retry-After`).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.message
import errno
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_BLOCK = 1 << 18
_LONGEST_PAUSE = 300.0
_PROGRESS = 1 << 20
_OFFLINE = ("M2L_OFFLINE", "HF_HUB_OFFLINE")


class FetchError(OSError):
    """A download that did not succeed; the message says why, and that what was received is kept."""


class LocalError(FetchError):
    """Something on this machine is in the way (space, permission, another process): no mirror helps."""


class NoConnectionError(FetchError):
    """The host could not be reached at all: other files of it will not fare better."""


class ChecksumError(FetchError):
    """A complete download that is not the file it should be; it has been deleted."""


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand.

    Attributes:
        size: In bytes.
        digest: "sha256:HEX" or "md5:HEX".
        check: Called with the complete file before it is renamed; raises ValueError to refuse it.
    """

    size: int | None = None
    digest: str | None = None
    check: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Patience:
    """When a connection that does send something is given up as too slow, and asked for the rest again.

    Attributes:
        seconds: Length of the window that is looked at.
        bytes_per_second: What has to arrive in it on average.
    """

    seconds: float = 60.0
    bytes_per_second: float = 1000.0


def offline() -> str | None:
    """Name of the environment variable that forbids downloads, if one is set."""
    return next(
        (name for name in _OFFLINE if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")), None
    )


def download(
    url: str,
    dest: Path,
    expected: Expected | None = None,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    retries: int = 4,
    timeout: float = 30.0,
    pause: Callable[[float], None] = time.sleep,
    patience: Patience | None = None,
) -> Path:
    """Download a file.

    Args:
        url: http(s) address.
        dest: Where it goes; its folder is made.
        expected: Size and digest to hold it to.
        progress: Called with the bytes received so far and the total (None: unknown).
        retries: How often in a row a broken connection or a busy server (5xx, 429) is tried again.
        timeout: Of the connection, in seconds.
        pause: Waits between attempts.
        patience: What counts as too slow; None for the default.

    Returns:
        `dest`.

    Raises:
        ChecksumError: The complete file has another size or digest, or `expected.check` refuses it.
        NoConnectionError: The host cannot be reached.
        FetchError: A broken connection, an HTTP error, no space left, offline, or another process is at it.
    """
    expected = expected or Expected()
    if variable := offline():
        raise LocalError(f"{url}: downloads are switched off ({variable} is set)")
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(f"{dest.name}.part")
    with _only_one(part):
        stitched = _all_of_it(url, part, expected, progress, retries, timeout, pause, patience or Patience())
        try:
            _verify(url, part, expected)
        except ChecksumError:
            if not stitched:
                raise
            # What was kept from before may have been damaged on this disk: once more, from the start.
            _all_of_it(url, part, expected, progress, retries, timeout, pause, patience or Patience())
            _verify(url, part, expected)
        os.replace(part, dest)
        _state_of(part).unlink(missing_ok=True)
    return dest


def _all_of_it(
    url: str,
    part: Path,
    expected: Expected,
    progress: Callable[[int, int | None], None] | None,
    retries: int,
    timeout: float,
    pause: Callable[[float], None],
    patience: Patience,
) -> bool:
    """Receive until the partial file is complete; returns whether some of it was there before."""
    had_some = _size(part) > 0
    attempt = 0
    while True:
        before = _size(part)
        try:
            _receive(url, part, expected, progress, timeout, patience)
            return had_some
        except (OSError, http.client.HTTPException) as error:
            asked = _retry_after(error)
            if failure := _fatal(error, url, part, last=attempt >= retries, again=attempt > 0):
                raise failure from error
        pause(min(max(2.0**attempt, asked), _LONGEST_PAUSE) if asked else min(2.0**attempt, 30.0))
        # A transfer of hundreds of GB breaks more often than `retries`: only failures in a row count.
        attempt = 0 if _size(part) >= before + _PROGRESS else attempt + 1


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _retry_after(error: Exception) -> float:
    """Seconds that a busy server asks to wait; 0 where it says nothing, or a date."""
    value = error.headers.get("Retry-After") if isinstance(error, urllib.error.HTTPError) else None
    return float(value) if value and value.strip().isdigit() else 0.0


def _fatal(error: Exception, url: str, part: Path, *, last: bool, again: bool) -> FetchError | None:
    """What to raise for an error, or None if another attempt may help. `again`: not the first attempt."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        busy = error.code >= 500 or error.code == 429
        return None if busy and not last else FetchError(f"{url}: HTTP {error.code} {error.reason}")
    if isinstance(error, urllib.error.URLError):  # no response at all, as without a network
        return NoConnectionError(f"{url}: {error.reason}; is there a network?") if again or last else None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return LocalError(f"{part}: {error.strerror} (what was received is kept)")
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return LocalError(f"{part}: {error.strerror}")
    if not last:
        return None
    return FetchError(f"{url}: {error}; {_size(part)} bytes are kept, run again to go on")


@contextlib.contextmanager
def _only_one(part: Path) -> Iterator[None]:
    """Hold a lock beside the partial file: two processes must not write into it at once."""
    try:
        import fcntl
    except ImportError:  # not on Windows: there the second process fails to rename
        yield
        return
    path = part.with_name(f".{part.name}.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have removed the file between our open and our lock.
        if os.fstat(handle).st_ino != path.stat().st_ino:
            raise BlockingIOError
    except OSError as error:
        os.close(handle)
        raise LocalError(f"{part}: another process is downloading it") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def begun_from(dest: Path) -> str | None:
    """Address of a download to `dest` that was begun and not finished."""
    state = _state(dest.with_name(f"{dest.name}.part"))
    return state.get("url") if state else None


def _state(part: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(_state_of(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def _resume_point(url: str, part: Path, expected: Expected) -> tuple[int, str | None]:
    """How much of the part can be kept, and the ETag it belongs to."""
    state, size = _state(part), _size(part)
    if state is None:
        return 0, None
    if state.get("digest") != expected.digest:
        return 0, None
    if state.get("url") == url:
        # Without an ETag or a digest nothing would notice that the two halves are of different files.
        return (size, state.get("etag")) if state.get("etag") or expected.digest else (0, None)
    return (size if expected.digest else 0), None  # a mirror of the same file; its digest will tell


def _receive(
    url: str,
    part: Path,
    expected: Expected,
    progress: Callable[[int, int | None], None] | None,
    timeout: float,
    patience: Patience,
) -> None:
    """Append what is missing to the partial file; raises OSError if the connection ends early."""
    have, etag = _resume_point(url, part, expected)
    if expected.size is not None and have >= expected.size:
        if have == expected.size:
            return
        have = 0
    headers = {"User-Agent": "m2l-bench", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag:
            headers["If-Range"] = etag
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        part.unlink(missing_ok=True)  # longer than the file is now: start again
        _state_of(part).unlink(missing_ok=True)
        raise ConnectionError("the partial file does not fit the file on the server") from error
    with response:
        resumed = response.status == 206 and _range_start(response.headers) == have
        if not resumed:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        _check_room(part, total, have)
        tag = response.headers.get("ETag", "")
        state = {
            "url": url,
            "digest": expected.digest,
            "etag": tag if tag.startswith('"') else None,
            "stated": _stated_digest(response.headers, whole=not resumed),
        }
        if not resumed:
            part.unlink(missing_ok=True)  # never a new state beside an old part
        _state_of(part).write_text(json.dumps(state), encoding="utf-8")
        with open(part, "ab") as file:
            have = _copy(response, file, have, total, progress, patience)
    if total is not None and have < total:
        raise ConnectionError(f"connection closed after {have} of {total} bytes")


def _stated_digest(headers: email.message.Message, *, whole: bool) -> str | None:
    """Digest of the whole file as the server states it, if it does.

    `Content-MD5` (RFC 1864) is that of the body sent, so it counts for a whole file only; Azure's blob
    store repeats that of the whole file in a header of its own with every part.
    """
    value = headers.get("x-ms-blob-content-md5") or (headers.get("Content-MD5") if whole else None)
    try:
        digest = base64.b64decode(value or "", validate=True)
    except (binascii.Error, ValueError):
        return None
    return f"md5:{digest.hex()}" if len(digest) == 16 else None


def _range_start(headers: email.message.Message) -> int:
    """First byte of a partial response, from `Content-Range: bytes FIRST-LAST/TOTAL`."""
    first = headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdigit() else -1


def _check_room(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise OSError(errno.ENOSPC, f"{total - have} bytes are needed and {free} are free on this disk")


def _copy(
    source: Any,
    file: IO[bytes],
    have: int,
    total: int | None,
    progress: Callable[[int, int | None], None] | None,
    patience: Patience,
) -> int:
    if progress:
        progress(have, total)
    since, at_start = time.monotonic(), have
    # `read1` returns what has arrived: `read` would wait for a whole block from a server that trickles.
    while block := source.read1(_BLOCK):
        file.write(block)
        have += len(block)
        if progress:
            progress(have, total)
        if (elapsed := time.monotonic() - since) >= patience.seconds:
            if have - at_start < patience.bytes_per_second * elapsed:
                file.flush()
                raise ConnectionError(f"only {have - at_start} bytes in {elapsed:.0f} s")
            since, at_start = time.monotonic(), have
    file.flush()
    os.fsync(file.fileno())
    return have


def digest_of_file(path: Path, algorithm: str) -> str:
    """Hex digest of a file by an algorithm's name, as in "md5"."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def mismatch(path: Path, expected: Expected) -> str | None:
    """Say why a file is not the expected one, or None if it is."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"{size} bytes, expected {expected.size}"
    if expected.digest:
        algorithm, _, wanted = expected.digest.partition(":")
        actual = digest_of_file(path, algorithm)
        if actual != wanted.lower():
            return f"{algorithm} is {actual}, expected {wanted.lower()}"
    if expected.check:
        try:
            expected.check(path)
        except ValueError as error:
            return str(error)
    return None


def _verify(url: str, part: Path, expected: Expected) -> None:
    if not part.exists():  # an empty file on the server
        part.touch()
    reason = mismatch(part, expected)
    if reason is None and expected.digest is None and (stated := _stated_before(part)):
        reason = mismatch(part, Expected(digest=stated))
    if reason:
        part.unlink()
        _state_of(part).unlink(missing_ok=True)
        raise ChecksumError(f"{url}: {reason}; the download was deleted")


def _stated_before(part: Path) -> str | None:
    """Digest that the server stated with the file, from the state beside the partial file."""
    value = (_state(part) or {}).get("stated")
    return value if isinstance(value, str) else None
