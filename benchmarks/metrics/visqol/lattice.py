"""The deep lattice network that maps similarity to MOS in Google's speech mode, evaluated by numpy.

The model is a TensorFlow Lite file: a graph of a few thousand small float32 operations of seventeen kinds, without
loops. Its inputs are four numbers for each of 21 bands and a quantile, which ViSQOL sets to a half.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol.mapper import Features, ModelFormatError

N_BANDS = 21
_TYPES = {0: "<f4", 2: "<i4", 4: "<i8", 6: "?"}
_INPUTS = {"nsim": "fvnsim", "nsim10": "fvnsim10_", "deviation": "fstdnsim", "energy": "fvdegenergy"}
_TAU = np.float32(0.5)

Array = NDArray[Any]


class _Table:
    """A table of a flatbuffer: its fields by number, 0 or empty where they are left out."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        (back,) = struct.unpack_from("<i", data, at)
        self.fields = at - back
        (self.size,) = struct.unpack_from("<H", data, self.fields)

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        offset = struct.unpack_from("<H", self.data, self.fields + entry)[0] if entry < self.size else 0
        return self.at + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        """A scalar of a `struct` kind."""
        place = self._place(field)
        return int(struct.unpack_from("<" + kind, self.data, place)[0]) if place else 0

    def table(self, field: int) -> _Table | None:
        """A table."""
        place = self._place(field)
        return _Table(self.data, _follow(self.data, place)) if place else None

    def numbers(self, field: int, kind: str) -> Array:
        """A vector of scalars of a numpy kind."""
        start, count = self._vector(field)
        return np.frombuffer(self.data, kind, count, start) if count else np.empty(0, kind)

    def tables(self, field: int) -> list[_Table]:
        """A vector of tables."""
        start, count = self._vector(field)
        return [_Table(self.data, _follow(self.data, start + 4 * i)) for i in range(count)]

    def text(self, field: int) -> str:
        """A string."""
        return self.numbers(field, "u1").tobytes().decode()

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._place(field)
        if not place:
            return 0, 0
        start = _follow(self.data, place)
        return start + 4, int(struct.unpack_from("<I", self.data, start)[0])


def _follow(data: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _fully_connected(inputs: list[Array], _: _Table | None) -> Array:
    # Summed from the first to the last in float32, as the published scores were: a lattice has 4096 corners, and
    # another order is 7e-5 MOS off.
    x, weights, *bias = inputs
    out = np.cumsum(x.reshape(-1, 1, weights.shape[1]) * weights, axis=2, dtype=np.float32)[..., -1]
    return out + bias[0] if bias else out


def _split(inputs: list[Array], options: _Table | None) -> list[Array]:
    axis, x = inputs
    assert options is not None
    return np.split(x, options.number(0, "i"), int(axis))


#: What each operation of the format computes, by its number there.
_OPERATIONS: dict[int, Callable[[list[Array], _Table | None], Any]] = {
    0: lambda x, _: x[0] + x[1],
    2: lambda x, options: np.concatenate(x, options.number(0, "i") if options else 0),
    9: _fully_connected,
    18: lambda x, _: x[0] * x[1],
    19: lambda x, _: np.maximum(x[0], np.float32(0)),
    22: lambda x, _: x[0].reshape(x[1]),
    41: lambda x, _: x[0] - x[1],
    49: _split,
    53: lambda x, _: x[0].astype(np.float32),
    57: lambda x, _: np.minimum(x[0], x[1]),
    70: lambda x, _: np.expand_dims(x[0], int(x[1])),
    71: lambda x, _: x[0] == x[1],
    77: lambda x, _: np.array(x[0].shape, np.int32),
    94: lambda x, _: np.full(x[0], x[1]),
    101: lambda x, _: np.abs(x[0]),
    126: lambda x, _: x[0] @ x[1],
}


class Lattice:
    """A lattice network.

    Args:
        data: content of the model file.
        name: what to call the file in an error.

    Attributes:
        digest: sha256 of the file.

    Raises:
        ModelFormatError: not a TensorFlow Lite model with ViSQOL's inputs, or one with other operations.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.digest = hashlib.sha256(data).hexdigest()
        try:
            self._read(data, name)
        except (struct.error, ValueError, IndexError, KeyError, TypeError) as error:
            if isinstance(error, ModelFormatError):
                raise
            raise ModelFormatError(f"{name} is damaged: {error!r}") from error

    def _read(self, data: bytes, name: str) -> None:
        if data[4:8] != b"TFL3":
            raise ModelFormatError(f"{name} is not a TensorFlow Lite model")
        model = _Table(data, _follow(data, 0))
        codes = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
        buffers, (graph,) = model.tables(4), model.tables(2)
        self._constants: dict[int, Array] = {}
        for index, tensor in enumerate(graph.tables(0)):
            raw = buffers[tensor.number(2, "I")].numbers(0, "u1")
            if len(raw):
                kind = np.dtype(_TYPES[tensor.number(1, "b")])
                self._constants[index] = raw.view(kind).reshape(tensor.numbers(0, "<i4"))
        self._steps: list[tuple[int, list[int], list[int], _Table | None]] = []
        for step in graph.tables(3):
            code = codes[step.number(0, "I")]
            if code not in _OPERATIONS:
                raise ModelFormatError(f"{name} has operation {code}, which ViSQOL's model has not")
            inputs, outputs = step.numbers(1, "<i4").tolist(), step.numbers(2, "<i4").tolist()
            self._steps.append((code, [i for i in inputs if i >= 0], outputs, step.table(4)))
        (signature,) = model.tables(7)
        self._inputs = {entry.text(0): entry.number(1, "I") for entry in signature.tables(0)}
        (self._output,) = (entry.number(1, "I") for entry in signature.tables(1))
        wanted = {f"{prefix}{band}" for prefix in _INPUTS.values() for band in range(N_BANDS)} | {"tau"}
        if set(self._inputs) != wanted:
            raise ModelFormatError(f"{name} has other inputs than ViSQOL's {len(wanted)}")

    def predict(self, features: Features) -> float:
        """MOS-LQO from the features of 21 bands."""
        values = dict(self._constants)
        values[self._inputs["tau"]] = np.array([_TAU])
        for field, prefix in _INPUTS.items():
            for band, value in enumerate(getattr(features, field).astype(np.float32)):
                values[self._inputs[f"{prefix}{band}"]] = np.array([value])
        for code, inputs, outputs, options in self._steps:
            made = _OPERATIONS[code]([values[i] for i in inputs], options)
            values.update(zip(outputs, made if len(outputs) > 1 else [made], strict=True))
        return float(values[self._output].reshape(()))


@lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int) -> Lattice:
    return Lattice(path.read_bytes(), str(path))


def load_lattice(path: str | Path) -> Lattice:
    """Read the model file at `path`; read once per process while the file does not change.

    Raises:
        FileNotFoundError: nothing at `path`.
        ModelFormatError: not the model that is needed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"ViSQOL lattice model not found: {path}")
    return _load(path, path.stat().st_mtime_ns)
