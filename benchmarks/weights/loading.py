"""Reading pickled checkpoints without running what is in them, and loading them strictly."""

from __future__ import annotations

import codecs
import os
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


class CheckpointError(ValueError):
    """A checkpoint that is not in the published format; names the keys that differ."""


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Contents of a .pt/.pth file, with `weights_only=True`: tensors and plain containers.

    Published training checkpoints also hold numpy scalars (losses, epochs); those are let through, any
    other object is refused.

    Raises:
        CheckpointError: not a torch file, or it holds objects that would have to be executed.
    """
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint of tensors: {first}") from error


def _numpy_scalars() -> list[Any]:
    """What a pickled numpy scalar is made of, under its names in numpy 1 and numpy 2."""
    scalar = type(np.float64(0.0)).__reduce__(np.float64(0.0))[0]  # type: ignore[arg-type]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    dtypes = [type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "?")]
    return [
        *((scalar, name) for name in names),
        np.dtype,
        *dtypes,
        codecs.encode,
        (codecs.encode, "_codecs.encode"),
    ]


def check_state(
    state: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Compare a state dict with the published names and shapes.

    Raises:
        CheckpointError: missing, unknown or wrongly shaped entries; the message names them.
    """
    problems = []
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    if missing:
        problems.append(f"missing {_named(missing)}")
    if unknown:
        problems.append(f"unknown {_named(unknown)}")
    shapes = [
        f"{key} is {tuple(state[key].shape)}, published {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if shapes:
        problems.append(f"shapes differ: {_named(shapes)}")
    if problems:
        raise CheckpointError(f"{what} is not in the published format: {'; '.join(problems)}")


def _named(items: list[str], limit: int = 8) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return f"{len(items)}: {', '.join(items[:limit])}{more}"
