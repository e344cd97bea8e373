"""Reading a TensorFlow checkpoint (a "tensor bundle") without TensorFlow.

`.index` is an uncompressed LevelDB table from tensor names to `BundleEntryProto`s; `.data-00000-of-00001`
is the tensors' raw little-endian bytes. The table ends in a 48-byte footer: handles (offset, size) of two
blocks as varints, and a magic number. A block is a run of prefix-compressed entries

    varint shared, varint unshared, varint value length, key suffix, value

followed by uint32 restart offsets and their count, then one byte of compression type and a masked CRC-32C.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAGIC = 0xDB4775248B80FB57
#: TensorFlow's DataType numbers of the types that checkpoints of weights hold.
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 9: "<i8", 10: "?", 19: "<f2"}


class BundleError(ValueError):
    """Not a tensor bundle, or one that uses what this reader does not know."""


class Entry(NamedTuple):
    """The position of a tensor in the data file."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_bundle(folder: str | os.PathLike[str], prefix: str = "") -> dict[str, np.ndarray]:
    """All tensors of a bundle by name.

    Args:
        folder: where `PREFIX.index` and `PREFIX.data-00000-of-00001` are.
        prefix: the checkpoint's name; may be empty, the files then begin with a dot.

    Raises:
        FileNotFoundError: a file is missing.
        BundleError: the index is damaged, compressed, sharded, or does not fit the data.
    """
    base = Path(folder)
    entries = read_index((base / f"{prefix}.index").read_bytes())
    data = (base / f"{prefix}.data-00000-of-00001").read_bytes()
    tensors = {}
    for name, entry in entries.items():
        count = int(np.prod(entry.shape, dtype=np.int64))
        if entry.shard != 0:
            raise BundleError(f"{name} is in shard {entry.shard}; only bundles of one shard are read")
        if count * np.dtype(entry.dtype).itemsize != entry.size or entry.offset + entry.size > len(data):
            raise BundleError(f"{name}: {entry.size} bytes at {entry.offset} do not fit {entry.shape}")
        tensors[name] = np.frombuffer(data, entry.dtype, count, entry.offset).reshape(entry.shape)
    return tensors


def read_index(table: bytes) -> dict[str, Entry]:
    """Entries of an index file by tensor name.

    Raises:
        BundleError: not such a table, or compressed.
    """
    if len(table) < 48 or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise BundleError("not a tensor bundle index: the magic number at its end is missing")
    try:
        _, _, position = _handle(table, len(table) - 48)
        offset, size, _ = _handle(table, position)
        entries = {}
        for _, handle in _block(table, offset, size):
            offset, size, _ = _handle(handle, 0)
            for key, value in _block(table, offset, size):
                if key:  # the empty key is the bundle's header
                    entries[key.decode()] = _entry(key.decode(), value)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BundleError(f"the tensor bundle index is damaged: {error}") from error
    return entries


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return offset, size, position


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = table[offset : offset + size]
    if len(block) != size or table[offset + size] != 0:
        raise BundleError(f"block at {offset} is cut off or compressed; TensorFlow writes neither")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 * (restarts + 1)
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protocol buffer message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise BundleError(f"wire type {kind} in an entry")
        yield tag >> 3, message[position : position + length]
        position += length


def _entry(name: str, message: bytes) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: list[int] = []
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes):
            for inner, dimension in _fields(value):
                if inner == 2 and isinstance(dimension, bytes):
                    # A dimension of size 0 is written without its size field.
                    sizes = [size for field, size in _fields(dimension) if field == 1]
                    shape.append(int(sizes[0]) if sizes else 0)
        elif isinstance(value, int):
            numbers[number] = value
    if numbers[1] not in _DTYPES:
        raise BundleError(f"{name} has TensorFlow data type {numbers[1]}, which weights do not have")
    return Entry(_DTYPES[numbers[1]], tuple(shape), numbers[3], numbers[4], numbers[5])
