"""What the container readers share: the parts of a file, random access to its bytes, and the tags around its audio."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

#: Bytes read at a time. Tags, pages and most frames are smaller.
BLOCK = 2**16


@dataclass(frozen=True)
class Part:
    """One stream of a file: `prefix`, then bytes `start` to `stop`.

    `patches` replace some of them: (position in the file, bytes).
    """

    start: int
    stop: int
    patches: tuple[tuple[int, bytes], ...] = ()
    prefix: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Layout:
    """The parts of a file.

    Attributes:
        parts: in order; at least one.
        fault: what is missing, as the rest of a sentence after the file's name; None if nothing is known to be.
        note: anything else that is unusual but does not prevent reading, likewise as the rest of a sentence.
        exact: whether the decoder must yield exactly the number of samples that it announces.
    """

    parts: tuple[Part, ...]
    fault: str | None = None
    note: str | None = None
    exact: bool = True


class Source:
    """Random access to the bytes of an open file, with one block held in memory.

    Args:
        file: open for reading.
        size: its size in bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self._block = b""
        self._base = 0

    def at(self, position: int, count: int) -> bytes:
        """`count` bytes from `position`; fewer at the end of the file."""
        if not 0 <= position < self.size:
            return b""
        offset = position - self._base
        if offset < 0 or offset + count > len(self._block):
            self._file.seek(position)
            self._block, self._base, offset = self._file.read(max(count, BLOCK)), position, 0
        return self._block[offset : offset + count]

    def find(self, pattern: bytes, start: int, stop: int | None = None) -> int:
        """Position of the first `pattern` that lies within start … stop, or -1."""
        stop = self.size if stop is None else stop
        while start < stop:
            block = self.at(start, min(16 * BLOCK, stop - start))
            found = block.find(pattern)
            if found >= 0:
                return start + found
            if len(block) < len(pattern) or start + len(block) >= stop:
                return -1
            start += len(block) - len(pattern) + 1
        return -1


def after_id3(source: Source, position: int) -> int:
    """Where the ID3v2 tags that begin at `position` end; `position` itself if there is none."""
    while True:
        tag = source.at(position, 10)
        if tag[:3] != b"ID3" or len(tag) < 10 or max(tag[6:]) > 127:
            return position
        length = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        position += 10 + length + (10 if tag[5] & 0x10 else 0)


def before_tags(source: Source) -> int:
    """Where the ID3v1, Lyrics3 and APE tags at the end of the file begin."""
    end = source.size
    if source.at(end - 128, 3) == b"TAG":
        end -= 128
    foot = source.at(end - 15, 15)
    if foot[6:] == b"LYRICS200" and foot[:6].isdigit():
        end = max(0, end - 15 - int(foot[:6]))
    foot = source.at(end - 32, 32)
    if foot[:8] == b"APETAGEX":
        size, _, flags = struct.unpack("<III", foot[12:24])
        end = max(0, end - size - (32 if flags >> 31 else 0))
    return end


def shortfall(announced: int, present: int, unit: str = "samples") -> str:
    """What is wrong with a stream that holds less than its header says."""
    return f"its header announces {announced} {unit}, but only {present} are present"


def joined(cuts: list[str]) -> str | None:
    """The fault of a file whose streams are cut short in these ways; None if there are none."""
    return "is cut short: " + "; ".join(cuts) if cuts else None
