"""Ogg and FLAC files: one or more streams of pages or frames."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise

from m2l.io.layout import Layout, Part, Source, before_tags, joined, shortfall

# --- Ogg ------------------------------------------------------------------------------------------------------------

_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ", b"fLaC")
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@dataclass
class _Chain:
    """One link of a chained Ogg file: streams that begin together, one of which is audio."""

    start: int
    serial: int | None = None
    samples: int = 0
    ended: bool = False
    has_data: bool = False
    #: Number of the last page, and where the first damaged or missing one should be.
    page: int = 0
    damage: int | None = None


def ogg(source: Source, begin: int) -> Layout:
    """Walk through the pages, each of which states its length."""
    links: list[_Chain] = []
    position = begin
    incomplete = False
    while position + 27 <= source.size:
        head = source.at(position, 27 + 255)
        if head[:5] != b"OggS\0":
            position = source.find(b"OggS\0", position + 1)
            if position < 0:
                break
            continue
        flags, samples, serial, number = struct.unpack("<BqII", head[5:22])
        length = 27 + head[26] + sum(head[27 : 27 + head[26]])
        if flags & 2:
            if not links or links[-1].has_data:
                links.append(_Chain(position))
            body = source.at(position + 27 + head[26], 8)
            if links[-1].serial is None and body.startswith(_CODECS):
                links[-1].serial = serial
        elif links:
            links[-1].has_data = True
        if position + length > source.size:
            incomplete = True
            break
        if links and serial == links[-1].serial:
            link = links[-1]
            # A stream that was cut out of another one may begin with any page number.
            missing = number != link.page + 1 and link.samples > 0
            if link.damage is None and (missing or _page_is_damaged(source.at(position, length))):
                link.damage = position
            link.page, link.ended = number, bool(flags & 4)
            link.samples = max(samples, link.samples)
        position += length
    if not links:
        return Layout((Part(0, source.size),))
    stops = [link.start for link in links[1:]] + [source.size]
    parts = tuple(Part(link.start, stop) for link, stop in zip(links, stops, strict=True))
    return Layout(parts, _ogg_fault(source, links, incomplete))


def _ogg_fault(source: Source, links: list[_Chain], incomplete: bool) -> str | None:
    for number, link in enumerate(links, 1):
        if link.serial is None:  # an unknown codec: left to the decoder
            continue
        where = "it" if len(links) == 1 else f"part {number} of {len(links)}"
        if link.damage is not None:
            return f"is damaged: a page of {where} at byte {link.damage} is missing or fails its checksum"
        if link.ended:
            continue
        if incomplete and number == len(links):
            return f"is cut short: {where} ends inside a page, after {link.samples} samples"
        return f"is cut short: {where} ends after {link.samples} samples, without a page that marks the end"
    return None


def _page_is_damaged(page: bytes) -> bool:
    # Ogg's checksum is zlib's with the bits in reverse order and without the inversions.
    blank = page[:22] + bytes(4) + page[26:]
    found = ~zlib.crc32(blank.translate(_BITS_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{found:032b}"[::-1], 2) != int.from_bytes(page[22:26], "little")


# --- FLAC -----------------------------------------------------------------------------------------------------------

_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_SCAN_BYTES = 2**20
_MAX_TAIL = 2**23
_BLOCK_SIZES = {
    1: 192,
    **{code: 576 << code - 2 for code in range(2, 6)},
    **{code: 256 << code - 8 for code in range(8, 16)},
}


@dataclass(frozen=True)
class _StreamInfo:
    """What a FLAC stream's header says; `samples` is 0 if the header does not give a total."""

    start: int
    block: int
    samples: int
    largest_frame: int

    def tail_bytes(self) -> int:
        """A number of bytes at the end that holds at least two whole frames."""
        return min(_MAX_TAIL, max(2**16, 3 * self.largest_frame))


@dataclass(frozen=True)
class _Frame:
    position: int
    first: int
    end: int


def flac(source: Source, begin: int) -> Layout:
    """Compare the last frame of each stream with the total in its header."""
    starts = _flac_starts(source, begin)
    parts, cuts, notes = [], [], []
    for number, (start, stop) in enumerate(pairwise([*starts, before_tags(source)]), 1):
        last = number == len(starts)
        info = _stream_info(source, start)
        end = None if info is None else _flac_end(source, info, stop)
        part = Part(start, source.size if last else stop)
        found, complete = _checked(source.at(end.position, stop - end.position)) if end else (False, False)
        # One in seven truncated frames contains its checksum by chance: the decoder will notice.
        if info is None or end is None or (end.end == info.samples and found):
            parts.append(part)
            continue
        complete = complete or (found and not last)  # the next stream's tags may follow
        where = "" if len(starts) == 1 else f"part {number} of {len(starts)}: "
        there = end.end if complete else end.first
        if info.samples > there:
            cuts.append(f"{where}{shortfall(info.samples, there)}")
        elif info.samples:
            notes.append(f"{where}announces {info.samples} samples in its header but holds {there}")
        elif not complete and last:
            cuts.append(f"{where}it ends inside a frame, after {there} samples")
        at = start + 8 + 13
        high = source.at(at, 1)[0] & 0xF0 | there >> 32
        patch = (at, bytes([high]) + (there & 0xFFFFFFFF).to_bytes(4, "big"))
        parts.append(Part(part.start, part.stop, (patch,)))
    return Layout(tuple(parts), joined(cuts), "; ".join(notes) or None)


def _stream_info(source: Source, start: int) -> _StreamInfo | None:
    head = source.at(start, 8 + 34)
    if len(head) < 42 or head[:8] not in _FLAC_STARTS:
        return None
    low, high = struct.unpack(">HH", head[8:12])
    word = int.from_bytes(head[18:26], "big")
    channels, bits = (word >> 41 & 7) + 1, (word >> 36 & 31) + 1
    if not 16 <= low <= high or not word >> 44:
        return None
    frame = int.from_bytes(head[15:18], "big") or high * channels * (bits + 7) // 8 + 64
    return _StreamInfo(start, low if low == high else 0, word & 2**36 - 1, frame)


def _flac_starts(source: Source, begin: int) -> list[int]:
    """Where the streams begin. A large file is searched only if its sample numbers do not rise from end to end."""
    info = _stream_info(source, begin)
    if info is not None and source.size - begin > _SCAN_BYTES and _counts_up(source, info):
        return [begin]
    starts = [begin]
    while True:
        found = [source.find(mark, starts[-1] + 42) for mark in _FLAC_STARTS]
        if max(found) < 0:
            return starts
        starts.append(min(position for position in found if position >= 0))
        if _stream_info(source, starts[-1]) is None:  # chance
            del starts[-1]
            return starts


def _counts_up(source: Source, info: _StreamInfo) -> bool:
    """Whether sample numbers rise through the file, checked at points that get denser towards both ends."""
    tail = info.tail_bytes()
    end = _flac_end(source, info, source.size)
    if end is None or end.end != info.samples:
        return False
    if any(source.find(mark, source.size - 2 * tail) >= 0 for mark in _FLAC_STARTS):
        return False
    length = source.size - info.start
    points = {length * step // 16 for step in range(1, 16)}
    distance = length // 32
    while distance > tail:
        points |= {distance, length - distance}
        distance //= 2
    before = -1
    for point in sorted(points):
        if point + tail > length:
            continue
        frames = _frames(source, info, info.start + point, info.start + point + tail)
        # A chance hit in audio data is not followed by a frame that continues it.
        chained = [a for a, b in pairwise(frames) if a.end == b.first]
        if not chained or chained[0].first <= before:
            return False
        before = chained[0].first
    return True


def _flac_end(source: Source, info: _StreamInfo, stop: int) -> _Frame | None:
    """The last frame before `stop`; None if no two consecutive frames are found."""
    start = max(info.start + 42, stop - info.tail_bytes())
    lengths: dict[int, int] = {}
    best: tuple[int, _Frame | None] = (0, None)
    frames = _frames(source, info, start, stop)
    for frame in frames:
        lengths[frame.end] = max(lengths.get(frame.end, 0), lengths.get(frame.first, 0) + 1)
        if lengths[frame.end] >= best[0]:
            best = (lengths[frame.end], frame)
    if best[0] >= 2:
        return best[1]
    # A short stream may have a single frame, which starts at sample 0.
    return frames[0] if len(frames) == 1 and frames[0].first == 0 else None


def _checked(data: bytes) -> tuple[bool, bool]:
    """Whether a frame's checksum occurs anywhere in it, and whether it does at its end, where only zeros may follow."""
    value, found = 0, 0
    for count, byte in enumerate(data, 1):
        value = (value << 8 ^ _CRC16[value >> 8 ^ byte]) & 0xFFFF
        if not value:
            found = found or count
    return found > 0, not value or (found > 0 and not any(data[found:]))


def _frames(source: Source, info: _StreamInfo, start: int, stop: int) -> list[_Frame]:
    data = source.at(start, stop - start)
    found = (_frame(data, match.start(), info.block) for match in re.finditer(rb"\xff[\xf8\xf9]", data))
    return [replace(frame, position=start + frame.position) for frame in found if frame is not None]


def _frame(data: bytes, at: int, block: int) -> _Frame | None:
    """The frame whose header is at `at`; None if there is no valid header."""
    head = data[at : at + 16]
    if len(head) < 6 or head[3] & 1 or head[3] >> 4 > 10 or head[3] >> 1 & 7 == 3 or head[2] & 15 == 15:
        return None
    extra = 0
    while extra < 7 and head[4] & 0x80 >> extra:
        extra += 1
    number = head[4] & 0x7F >> extra
    if extra == 1:
        return None
    after = 5 + max(0, extra - 1)
    for byte in head[5:after]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    code = head[2] >> 4
    wide = {6: 1, 7: 2}.get(code, 0)
    size = int.from_bytes(head[after : after + wide], "big") + 1 if wide else _BLOCK_SIZES.get(code, 0)
    after += wide + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if not size or after >= len(head) or _crc8(head[:after]) != head[after]:
        return None
    first = number if head[1] & 1 else number * (block or size)
    return _Frame(at, first, first + size)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc_table(bits: int, polynomial: int) -> list[int]:
    """The CRC remainder of every byte."""
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
        table.append(value & (1 << bits) - 1)
    return table


_CRC8 = _crc_table(8, 0x107)
_CRC16 = _crc_table(16, 0x18005)
