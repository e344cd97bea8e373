"""Files of `torch.save`, read without running anything in them. Importing this module does not load torch.

They are pickles, read with `weights_only=True` and an allow-list of exactly what numpy scalars need: training
checkpoints hold such scalars (losses, steps) beside the weights. A file with anything else in it is refused.
"""

from __future__ import annotations

import _codecs
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or whose weights do not fit the network; the message names file and entries."""


def read_pickled(path: Path, *, any_form: bool = False) -> Any:
    """Unpickle a checkpoint, admitting tensors, containers and numpy scalars only.

    Args:
        path: the file.
        any_form: also read forms in which a small file can claim any amount of memory: that of torch before 1.6,
            and archives with compressed entries. For files whose checksum is known.

    Raises:
        CheckpointError: if the file is damaged, is not a checkpoint, or contains anything else.
        OSError: if it cannot be opened.
    """
    import torch

    # Files written under numpy 1 name this function by its old place, numpy.core.
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        _codecs.encode,
        *{type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "bool")},
    ]
    try:
        with open(path, "rb") as file:
            if not any_form:
                _check_archive(path, file)
            with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about types that no checkpoint of ours holds
                return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than weights and was not loaded (nothing in it was run): "
            f"{first_line(error)}"
        ) from error
    except OSError as error:
        if error.filename is not None:  # the file cannot be opened
            raise
        raise CheckpointError(f"{path} is not a readable checkpoint: {first_line(error)}") from error
    except Exception as error:  # unpickling what may be anything
        raise CheckpointError(f"{path} is not a readable checkpoint: {first_line(error)}") from error


def _check_archive(path: Path, file: IO[bytes]) -> None:
    """Refuse what would make reading take more memory than the file is long.

    torch saves a zip archive with plain entries since 2020; in the form before it, and in packed entries, a file of
    a few bytes can claim any size.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not zipfile.is_zipfile(file):
        raise CheckpointError(
            f"{path} is not a readable checkpoint: it is damaged, or not an archive of torch.save (1.6 or later)"
        )
    entries = zipfile.ZipFile(file).infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path} is not a readable checkpoint: its entries are compressed, which torch.save never does"
        )
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if claimed > size:
        raise CheckpointError(f"{path} is not a readable checkpoint: its entries claim {claimed} bytes, it has {size}")
    file.seek(0)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, of bearable length, or its kind."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 200 else f"{text[:200]}…"
