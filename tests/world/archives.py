"""Archives and digests of files in memory; the same files give the same bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of name -> content, without times."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of name -> content, not compressed and without times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def md5(data: bytes) -> str:
    """In hex, as data sets state it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
