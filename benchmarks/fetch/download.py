"""Resumable downloads: a file is complete and verified, or it is not there.

pooch verifies a file and gives it its name; the transfer is ours, since files of several GB have to survive
broken connections. What has arrived stays in NAME.part beside the destination, and NAME.part.json says what it
is a part of. The next attempt, in the same run or a later one, asks for the rest if a strong ETag or a checksum
will show that both halves belong to one file; otherwise it starts again.

Where no checksum is known beforehand, one that the server states (`Content-MD5`, as blob stores do) is verified.
A connection that trickles is dropped and the rest is requested again; a busy server gets the time it asks for
(`Retry-After`).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.message
import errno
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

import pooch

import m2l
from benchmarks.fetch.expected import Expected, mismatch

_BLOCK = 1 << 18
#: Zenodo refuses the names that Python's libraries give themselves (403, since January 2026).
AGENT = {"User-Agent": f"m2l-bench/{m2l.__version__}", "Accept-Encoding": "identity"}
_LONGEST_PAUSE = 300.0
_PROGRESS = 1 << 20

#: Called with the bytes received so far and the total (None: unknown). It may raise to end the transfer.
Progress = Callable[[int, "int | None"], None]

pooch.get_logger().setLevel("WARNING")  # what is fetched is reported by the command


class FetchError(OSError):
    """A failed download; the message says why. What was received is kept."""


class LocalError(FetchError):
    """A problem of this machine (space, permission, another process) that no mirror solves."""


class NoConnectionError(FetchError):
    """The host cannot be reached at all: its other files would fail as well."""


class ChecksumError(FetchError):
    """A complete download that is not the expected file; it has been deleted."""


@dataclass(frozen=True)
class Patience:
    """When a connection that does send something counts as too slow.

    Attributes:
        seconds: Length of the window that is measured.
        bytes_per_second: Lowest accepted average within it.
    """

    seconds: float = 60.0
    bytes_per_second: float = 1000.0


def offline() -> str | None:
    """Name of the environment variable that forbids downloads, if one is set."""
    on = ("1", "true", "yes", "on")
    names = ("M2L_OFFLINE", "HF_HUB_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").lower() in on), None)


def download(
    url: str,
    dest: Path,
    expected: Expected | None = None,
    *,
    progress: Progress | None = None,
    retries: int = 4,
    timeout: float = 30.0,
    pause: Callable[[float], None] | None = None,
    patience: Patience | None = None,
) -> Path:
    """Download a file, resuming an earlier attempt.

    Args:
        url: http(s) address.
        dest: Destination; its folder is created.
        expected: Size and digest to verify.
        progress: Told of what arrives.
        retries: How often in a row a broken connection or a busy server (5xx, 429) is tried again.
        timeout: Of the connection, in seconds.
        pause: Waits between attempts; by default it sleeps.
        patience: What counts as too slow; None for the default.

    Returns:
        `dest`.

    Raises:
        ChecksumError: The complete file has another size or digest, or `expected.check` refuses it.
        NoConnectionError: The host cannot be reached.
        FetchError: A broken connection, an HTTP error, no space left, offline, or another process downloads it.
    """
    if variable := offline():
        raise LocalError(f"{url}: downloads are switched off ({variable} is set)")
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(dest, url, expected or Expected())
    # pooch works in a folder of its own, since it takes an existing file for the wanted one: the old file stays in
    # place until its successor is complete, and what a killed process leaves is found again.
    verified = dest.with_name(f".{dest.name}.verifying")

    def transfer(url: str, output: str, _: object) -> None:
        report = progress or (lambda received, total: None)
        _Transfer(part, report, retries, timeout, pause, patience or Patience()).run()
        part.hand_over(Path(output))

    with part.locked():
        try:
            while True:
                resumed = part.size > 0
                try:
                    pooch.retrieve(url, part.expected.digest, dest.name, verified, downloader=transfer)
                    break
                except ValueError as error:
                    part.discard()
                    if not resumed:
                        raise ChecksumError(f"{url}: {error}") from error
                    # What was kept may have been damaged on this disk: once more, from the start.
            os.replace(verified / dest.name, dest)
            part.discard()
        finally:
            shutil.rmtree(verified, ignore_errors=True)
    return dest


def begun_from(dest: Path) -> str | None:
    """Address of an unfinished download to `dest`."""
    return _Part(dest, "", Expected()).note.get("url")


class _Part:
    """What has arrived of a file so far, beside its destination, and a note of what it is a part of."""

    def __init__(self, dest: Path, url: str, expected: Expected) -> None:
        self.url, self.expected = url, expected
        self.path = dest.with_name(f"{dest.name}.part")
        self._note = dest.with_name(f"{dest.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def note(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def write_note(self, headers: email.message.Message, *, whole: bool) -> None:
        tag = headers.get("ETag", "")
        note = {
            "url": self.url,
            "digest": self.expected.digest,
            "etag": tag if tag.startswith('"') else None,  # a weak one does not vouch for bytes
            "stated": _stated_digest(headers, whole=whole),
        }
        self._note.write_text(json.dumps(note), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def resume_point(self) -> tuple[int, str | None]:
        """How much can be kept, and the ETag that it belongs to."""
        note, digest = self.note, self.expected.digest
        if not note or note.get("digest") != digest:
            return 0, None
        if note.get("url") == self.url:
            # Without an ETag or a digest nothing would reveal that the two halves are of different files.
            return (self.size, note.get("etag")) if note.get("etag") or digest else (0, None)
        return (self.size if digest else 0), None  # a mirror of the same file; its digest will tell

    def hand_over(self, output: Path) -> None:
        """Give the complete file to pooch, which verifies the digest.

        Raises:
            ValueError: The size, the server's own checksum or the check of content is another.
        """
        if not self.path.exists():  # the file on the server is empty
            self.path.touch()
        stated = None if self.expected.digest else self.note.get("stated")
        expected = Expected(self.expected.size, stated, self.expected.check)
        if reason := mismatch(self.path, expected):
            raise ValueError(f"{reason}; the download was deleted")
        output.unlink()
        try:
            os.link(self.path, output)  # so that nothing is lost when the verification is interrupted
        except OSError:
            os.replace(self.path, output)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the same part; never waits.

        Raises:
            LocalError: Another process holds it.
        """
        try:
            import fcntl
        except ImportError:  # Windows, where the second process fails to rename
            yield
            return
        path = self.path.with_name(f".{self.path.name}.lock")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LocalError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file between our open and our lock.
            if os.fstat(handle).st_ino != path.stat().st_ino:
                raise BlockingIOError
        except OSError as error:
            os.close(handle)
            raise LocalError(f"{self.path}: another process is downloading it") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)


def sleep(seconds: float, tick: Callable[[], object]) -> None:
    """Sleep in slices; `tick` is called between them and may raise."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
        tick()


@dataclass
class _Transfer:
    """One download, with its attempts."""

    part: _Part
    progress: Progress
    retries: int
    timeout: float
    pause: Callable[[float], None] | None
    patience: Patience

    def run(self) -> None:
        """Receive until the part is complete."""
        attempt = 0
        while True:
            before = self.part.size
            try:
                return self._receive()
            except (OSError, http.client.HTTPException) as error:
                asked = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
                if failure := self._fatal(error, attempt):
                    raise failure from error
            wait = min(2.0**attempt, 30.0)
            if asked.strip().isdigit():  # not a date
                wait = min(max(2.0**attempt, float(asked)), _LONGEST_PAUSE)
            self.pause(wait) if self.pause else sleep(wait, lambda: self.progress(self.part.size, None))
            # Large files break more often than `retries`: only failures in a row count.
            attempt = 0 if self.part.size >= before + _PROGRESS else attempt + 1

    def _fatal(self, error: Exception, attempt: int) -> FetchError | None:
        """What to raise for an error, or None if another attempt may help."""
        url, path, last = self.part.url, self.part.path, attempt >= self.retries
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            busy = error.code >= 500 or error.code == 429
            refused = "; the host refuses programs, or this one: a browser may get it, then --from" * (
                error.code == 403
            )
            return None if busy and not last else FetchError(f"{url}: HTTP {error.code} {error.reason}{refused}")
        if isinstance(error, urllib.error.URLError):  # no response at all, as without a network
            message = f"{url}: {error.reason}; is there a network?"
            return NoConnectionError(message) if attempt or last else None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return LocalError(f"{path}: {error.strerror} (what was received is kept)")
        if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
            return LocalError(f"{path}: {error.strerror}")
        kept = f"{self.part.size} bytes are kept, run again to resume"
        return FetchError(f"{url}: {error}; {kept}") if last else None

    def _receive(self) -> None:
        """Append what is missing to the part; raises OSError if the connection ends early."""
        part, size = self.part, self.part.expected.size
        have, etag = part.resume_point()
        if size is not None and have >= size:
            if have == size:
                return
            have = 0
        headers = dict(AGENT)
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": etag} if etag else {})
        request = urllib.request.Request(part.url, headers=headers)
        try:
            response = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            error.close()
            part.discard()  # longer than the file is now: start again
            raise ConnectionError("the partial file does not fit the file on the server") from error
        with response:
            resumed = response.status == 206 and _range_start(response.headers) == have
            if not resumed:
                have = 0
                part.discard()  # never a new note beside an old part
            length = response.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else None
            free, need = shutil.disk_usage(part.path.parent).free, (total or 0) - have
            if need > free:
                raise OSError(errno.ENOSPC, f"{need} bytes are needed and {free} are free on this disk")
            part.write_note(response.headers, whole=not resumed)
            with open(part.path, "ab") as file:
                have = self._copy(response, file, have, total)
        if total is not None and have < total:
            raise ConnectionError(f"connection closed after {have} of {total} bytes")

    def _copy(self, source: Any, file: IO[bytes], have: int, total: int | None) -> int:
        """Copy what arrives; returns how much there is then."""
        self.progress(have, total)
        since, at_start = time.monotonic(), have
        # `read1` returns what has arrived: `read` would wait for a whole block from a server that trickles.
        while block := source.read1(_BLOCK):
            file.write(block)
            have += len(block)
            self.progress(have, total)
            if (elapsed := time.monotonic() - since) >= self.patience.seconds:
                if have - at_start < self.patience.bytes_per_second * elapsed:
                    raise ConnectionError(f"only {have - at_start} bytes in {elapsed:.0f} s")
                since, at_start = time.monotonic(), have
        file.flush()
        os.fsync(file.fileno())
        return have


def _stated_digest(headers: email.message.Message, *, whole: bool) -> str | None:
    """Digest of the whole file, if the server states it.

    `Content-MD5` (RFC 1864) is that of the body sent, so it counts for a whole file only; Azure's blob store
    repeats that of the whole file in another header with every part.
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
