"""What a file of weights holds: names, shapes and types of its tensors, under the file's own names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedders.tf_bundle import read_index
from benchmarks.weights.loading import read_released

#: Entries of a training checkpoint that hold the weights.
_STATES = ("gen_state_dict", "state_dict")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.shape)) or 'scalar'} {self.dtype}"


def tensors_of(path: Path) -> list[Tensor] | None:
    """The tensors of a file in its order; None for a form without names, as TensorFlow Lite and JSON.

    Raises:
        CheckpointError: the file is damaged.
        OSError: it cannot be read.
    """
    reader = _READERS.get(path.suffix or path.name)
    return None if reader is None else reader(path)


def summary(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """Counts, and a digest of the sorted listing, so that two people can compare files in one line."""
    lines = "\n".join(sorted(map(str, tensors)))
    return {
        "entries": len(tensors),
        "dtypes": dict(Counter(tensor.dtype for tensor in tensors)),
        "listing_sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


def _safetensors(path: Path) -> list[Tensor]:
    from safetensors import safe_open

    types = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64"}
    with safe_open(path, framework="numpy") as file:
        slices = [(name, file.get_slice(name)) for name in file.keys()]  # noqa: SIM118 - not a dict
    return [Tensor(name, tuple(s.get_shape()), types.get(s.get_dtype(), s.get_dtype())) for name, s in slices]


def _pickled(path: Path) -> list[Tensor]:
    # Of the sets that come in an archive, CLMR's is the only one.
    content = read_released(path, "clmr_checkpoint_10000.pt")
    for name in _STATES:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    values = content.items() if isinstance(content, Mapping) else ()
    return [
        Tensor(str(name), tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in values
        if hasattr(value, "shape") and hasattr(value, "dtype")
    ]


def _h5(path: Path) -> list[Tensor]:
    import h5py

    found: list[Tensor] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(Tensor(name, tuple(item.shape), str(item.dtype)))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _bundle(path: Path) -> list[Tensor]:
    return [
        Tensor(name, entry.shape, np.dtype(entry.dtype).name) for name, entry in read_index(path.read_bytes()).items()
    ]


_READERS: dict[str, Callable[[Path], list[Tensor]]] = {
    ".safetensors": _safetensors,
    ".h5": _h5,
    ".index": _bundle,
    **dict.fromkeys((".pt", ".pyt", ".pth", ".bin", ".ckpt", ".zip"), _pickled),
}
