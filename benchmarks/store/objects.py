"""A store on an object store or any other file system that fsspec opens: extra `object-store`.

`--store s3://bucket/prefix` (also `gs://`, `abfs://`, `sftp://`, …). Credentials and endpoints come from
where the driver looks for them: for S3-compatible servers `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
`AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

#: Protocols whose PUT publishes an object whole or not at all (large ones by completing a multi-part upload).
ATOMIC_PUT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})

#: Lines of a journal that are published as one object: an object cannot be appended to.
_JOURNAL_LINES = 256


class ObjectFiles:
    """Objects below one URL; see `benchmarks.store.files.Files`.

    Where a PUT is atomic it publishes directly. On other file systems (SFTP, WebDAV, HDFS) a file is
    written beside its place and renamed.

    Args:
        url: `protocol://bucket/prefix`.
        **options: passed to fsspec, before what its own configuration says.

    Raises:
        ImportError: fsspec, or its driver for the protocol, is not installed.
        ValueError: fsspec knows no such protocol.
    """

    def __init__(self, url: str, **options: Any) -> None:
        try:
            import fsspec
        except ImportError:
            raise ImportError(
                f"store {url!r} needs the extra: pip install 'm2l[object-store]' (fsspec and s3fs)"
            ) from None
        self.location = url.rstrip("/")
        # A listing that is remembered does not show what other machines have written since.
        options = {"use_listings_cache": False, **options}
        try:
            self.fs, root = fsspec.core.url_to_fs(self.location, **options)
        except ImportError as error:
            raise ImportError(f"store {url!r}: {error}") from None
        except ValueError as error:
            raise ValueError(f"store {url!r}: {error}") from None
        self._root = str(root).rstrip("/")
        protocols = (self.fs.protocol,) if isinstance(self.fs.protocol, str) else self.fs.protocol
        self.listing_tells_all = bool(ATOMIC_PUT & set(protocols))
        self._held: dict[str, list[bytes]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectFiles, (self.location,)

    def read(self, name: str) -> bytes:
        return bytes(self.fs.cat_file(self._path(name)))

    def head(self, name: str, length: int) -> tuple[bytes, int]:
        path = self._path(name)
        size = int(self.fs.info(path)["size"])
        # An empty object has no first byte, and asking for one is an error to some servers.
        return (bytes(self.fs.cat_file(path, start=0, end=min(length, size))) if size else b""), size

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        if self.listing_tells_all:
            self.fs.pipe_file(path, data)
            return
        folder, _, last = path.rpartition("/")
        self.fs.makedirs(folder, exist_ok=True)
        beside = f"{folder}/.{last[:40]}-{uuid.uuid4().hex}.part"
        try:
            self.fs.pipe_file(beside, data)
            self.fs.mv(beside, path)
        except BaseException:
            with contextlib.suppress(Exception):  # the error that led here is the one to be seen
                self.fs.rm_file(beside)
            raise

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._path(name))

    def names(self, folder: str) -> Iterator[str]:
        try:
            found = self.fs.find(self._path(folder))
        except FileNotFoundError:
            return
        start = len(self._root) + 1
        for path in sorted(found):
            if not path.rpartition("/")[2].startswith("."):
                yield str(path)[start:]

    def append(self, name: str, line: bytes) -> None:
        with self._lock:
            held = self._held.setdefault(name, [])
            held.append(line)
            full = len(held) >= _JOURNAL_LINES
        if full:
            self.flush()

    def journal(self, name: str) -> bytes:
        parts = [self.read(part) for part in self.names(f"journals/{name}")]
        with self._lock:
            return b"".join([*parts, *self._held.get(name, ())])

    def flush(self) -> None:
        with self._lock:
            held, self._held = self._held, {}
        for name, lines in held.items():
            self.write(f"journals/{name}/{uuid.uuid4().hex}", b"".join(lines))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
