"""Streams of frames and pages, of which several may be joined in a file: Ogg, FLAC and MP3."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from m2l.containers import Layout, Part, Source, after_id3


def _joined(cuts: list[str]) -> str | None:
    return "is cut short: " + "; ".join(cuts) if cuts else None


# --- Ogg ------------------------------------------------------------------------------------------------------------

_CODECS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ", b"fLaC")
_BITS_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@dataclass
class _Chain:
    """One link of an Ogg file: streams that begin together, and the one of them that is audio."""

    start: int
    serial: int | None = None
    samples: int = 0
    ended: bool = False
    has_data: bool = False
    #: Number of the last page, and where the first damaged or missing one should be.
    page: int = 0
    damage: int | None = None


def ogg(source: Source, begin: int) -> Layout:
    """Walk the pages, each of which tells its length."""
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
            # Streams that were cut out of others begin with any number.
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
        if link.serial is None:  # nothing that is known: the decoder's business
            continue
        where = "it" if len(links) == 1 else f"part {number} of {len(links)}"
        if link.damage is not None:
            return f"is damaged: a page of {where} at byte {link.damage} is missing or fails its checksum"
        if link.ended:
            continue
        if incomplete and number == len(links):
            return (
                f"is cut short: {where} ends within a page after {link.samples} samples, with more announced"
            )
        else:
            return f"is cut short: {where} ends after {link.samples} samples without the mark of the end of a stream"
    return None


def _page_is_damaged(page: bytes) -> bool:
    # Ogg's checksum is zlib's with bits in the other order, and without its inversions.
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
    """What a FLAC stream's header says; `samples` is 0 where it does not tell."""

    start: int
    block: int
    samples: int
    largest_frame: int

    def tail_bytes(self) -> int:
        """Bytes at the end that hold two whole frames or more."""
        return min(_MAX_TAIL, max(2**16, 3 * self.largest_frame))


@dataclass(frozen=True)
class _Frame:
    position: int
    first: int
    end: int


def flac(source: Source, begin: int) -> Layout:
    """Hold the last frame of each stream against its header."""
    starts = _flac_starts(source, begin)
    parts, cuts, notes = [], [], []
    for number, (start, stop) in enumerate(pairwise([*starts, _before_tags(source)]), 1):
        last = number == len(starts)
        info = _stream_info(source, start)
        end = None if info is None else _flac_end(source, info, stop)
        part = Part(start, source.size if last else stop)
        found, complete = _checked(source.at(end.position, stop - end.position)) if end else (False, False)
        # By chance, the checksum turns up within one in seven cut frames: the decoder will tell.
        if info is None or end is None or (end.end == info.samples and found):
            parts.append(part)
            continue
        where = "" if len(starts) == 1 else f"part {number} of {len(starts)}: "
        there = end.end if complete else end.first
        if info.samples > there:
            cuts.append(f"{where}of {info.samples} samples in its header, {there} are there")
        elif info.samples:
            notes.append(f"{where}counts {info.samples} samples in its header, and holds {there}")
        elif not complete and last:
            cuts.append(f"{where}it ends within a frame after {there} samples, with more announced")
        at = start + 8 + 13
        high = source.at(at, 1)[0] & 0xF0 | there >> 32
        patch = (at, bytes([high]) + (there & 0xFFFFFFFF).to_bytes(4, "big"))
        parts.append(Part(part.start, part.stop, (patch,)))
    return Layout(tuple(parts), _joined(cuts), "; ".join(notes) or None)


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
    """Where the streams begin. Large files are searched only if their frames do not count up from end to end."""
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
    """Whether sample numbers rise through the file, at points that lie closer and closer to both of its ends."""
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
        # A chance hit in audio data is followed by no frame that continues it.
        chained = [a for a, b in pairwise(frames) if a.end == b.first]
        if not chained or chained[0].first <= before:
            return False
        before = chained[0].first
    return True


def _flac_end(source: Source, info: _StreamInfo, stop: int) -> _Frame | None:
    """The last frame before `stop`; None if no two frames that follow each other are found."""
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
    # A short stream of one frame, which is the first.
    return frames[0] if len(frames) == 1 and frames[0].first == 0 else None


def _checked(data: bytes) -> tuple[bool, bool]:
    """Whether a frame's checksum turns up at all, and at its end, where only zeros may follow."""
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
    """The frame whose header stands at `at`, if a valid one does."""
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
    """Remainders of all bytes."""
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
        table.append(value & (1 << bits) - 1)
    return table


_CRC8 = _crc_table(8, 0x107)
_CRC16 = _crc_table(16, 0x18005)

# --- MP3 ------------------------------------------------------------------------------------------------------------

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_BITRATES = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SMALLEST_FRAME = 24
_LAYER_III = 1  # as headers have it
# Bytes behind the last frame from which the decoder would report damage.
_DECODER_SKIPS = 1024


@lru_cache(maxsize=2**16)
def _mpeg_frame(header: bytes) -> tuple[int, int, tuple[int, int, int]] | None:
    """(bytes, samples, (version, layer, rate)) of a frame by the second and third bytes of its header."""
    if header[0] & 0xE0 != 0xE0:
        return None
    version, layer = header[0] >> 3 & 3, header[0] >> 1 & 3  # layers count down: 3 is Layer I
    bits, rate = header[1] >> 4, header[1] >> 2 & 3
    if version == 1 or layer == 0 or bits in (0, 15) or rate == 3:
        return None
    hertz = _RATES[version][rate]
    table = _BITRATES[(3, layer)] if version == 3 else _BITRATES[(2, 3 if layer == 3 else 2)]
    padding = header[1] >> 1 & 1
    if layer == 3:
        return (12_000 * table[bits - 1] // hertz + padding) * 4, 384, (version, layer, hertz)
    samples = 576 if layer == 1 and version != 3 else 1152
    return samples * 125 * table[bits - 1] // hertz + padding, samples, (version, layer, hertz)


@dataclass
class _Stream:
    """One of joined MP3 streams: what its first frame counts, and what was found."""

    start: int
    kind: tuple[int, int, int]
    samples: int
    counted: int | None = None
    counted_bytes: int | None = None
    frames: int = 0
    #: Where its last frame ends.
    stop: int = 0

    def is_short(self, stop: int, incomplete: bool) -> bool:
        if self.counted is None:
            return incomplete
        missing = self.counted - self.frames
        # Some programs count the frame that holds the count.
        beyond = self.counted_bytes is not None and self.start + self.counted_bytes > stop
        return missing > 1 or (missing == 1 and (incomplete or beyond))


def mpeg(source: Source, begin: int) -> Layout:
    """Hold the frames of each stream against the count in its first."""
    end = _before_tags(source)
    first = next(_synced(source, begin, min(end, begin + 2**20), end), None)
    if first is None:
        return Layout((Part(0, source.size),), exact=False)
    stream = _stream_at(source, first)
    if stream.counted is not None and stream.counted == _hop(source, stream, end):
        return Layout((Part(0, source.size),))
    streams, junk, incomplete = _walk(source, stream, end)
    if incomplete or source.size - streams[-1].stop < _DECODER_SKIPS:
        streams[-1].stop = source.size
    parts, cuts = [], []
    for number, stream in enumerate(streams, 1):
        uncounted = stream.counted is None
        if uncounted and stream.kind[1] == _LAYER_III:
            # libsndfile would guess the length from the first frame, and read no further.
            parts.append(Part(stream.start, stream.stop, (), _counting_frame(source, stream)))
        else:
            parts.append(Part(0 if number == 1 else stream.start, stream.stop))
        if not stream.is_short(min(stream.stop, end), incomplete and number == len(streams)):
            continue
        where = "" if len(streams) == 1 else f"part {number} of {len(streams)}: "
        there = stream.frames * stream.samples
        if uncounted:
            cuts.append(f"{where}it ends within a frame after {there} samples, with more announced")
        else:
            counted = (stream.counted or 0) * stream.samples
            cuts.append(f"{where}of {counted} samples in its header, {there} are there")
    note = f"holds {junk} bytes of no audio between its frames" if junk else None
    exact = all(stream.counted or stream.kind[1] == _LAYER_III for stream in streams)
    return Layout(tuple(parts), _joined(cuts), note, exact)


def _hop(source: Source, stream: _Stream, end: int) -> int | None:
    """Frames behind the first, if nothing but frames of one kind follows it up to the end; quicker than a walk."""
    sizes: dict[bytes, int] = {}
    position, frames = stream.start, -1
    while position < end:
        block = source.at(position, 2**16)
        offset, last = 0, min(len(block), end - position) - 4
        while offset <= last:
            head = block[offset + 1 : offset + 3]
            size = sizes.get(head)
            if size is None:
                frame = _mpeg_frame(head)
                if frame is None or frame[2] != stream.kind:
                    return None
                size = sizes[head] = frame[0]
            if block[offset] != 0xFF:
                return None
            offset += size
            frames += 1
        if offset == 0:
            return None
        position += offset
    return frames if position == end else None


def _walk(source: Source, stream: _Stream, end: int) -> tuple[list[_Stream], int, bool]:
    """(streams, bytes of junk between frames, whether the last frame is incomplete)."""
    streams, position, junk = [stream], stream.start, 0
    while position < end:
        head = source.at(position, 4)
        frame = _mpeg_frame(head[1:3]) if head[0] == 0xFF and len(head) == 4 else None
        if frame is None or frame[2] != stream.kind:
            if position + 4 > end:
                return streams, junk, head[0] == 0xFF
            following = next(_synced(source, after_id3(source, position), end, end, followers=2), None)
            if following is None:
                break
            if not _is_tag(source, position):
                junk += following - position
            position = following
            found = _stream_at(source, position)
            # What a header counts may well be interrupted; the decoder goes on behind it.
            if stream.counted is None or found.counted is not None or found.kind != stream.kind:
                stream = found
                streams.append(stream)
            continue
        if position + frame[0] > end:
            return streams, junk, True
        if position != stream.start:
            found = _stream_at(source, position)
            full = stream.counted is not None and stream.frames >= stream.counted
            if found.counted is not None or (full and end - position > 3 * frame[0]):
                stream = found
                streams.append(stream)
        # The frame that holds a count is none of those counted.
        if position != stream.start or stream.counted is None:
            stream.frames += 1
        position += frame[0]
        stream.stop = position
    return streams, junk, False


def _counting_frame(source: Source, stream: _Stream) -> bytes:
    """A frame in front of a stream that tells a decoder how many there are."""
    head = bytearray(source.at(stream.start, 4))
    head[1] |= 1  # without a checksum
    head[2] = head[2] & 0x0D | 9 << 4
    frame = _mpeg_frame(bytes(head[1:3]))
    side = _side_information(bytes(head))
    content = bytes(head) + bytes(side) + b"Xing" + (1).to_bytes(4, "big") + stream.frames.to_bytes(4, "big")
    return content.ljust(frame[0] if frame else 0, b"\0")


def _side_information(head: bytes) -> int:
    mono = head[3] >> 6 == 3
    return (17 if mono else 32) if head[1] >> 3 & 3 == 3 else (9 if mono else 17)


def _stream_at(source: Source, position: int) -> _Stream:
    """The stream that begins at a frame, with the counts of a Xing, Info or VBRI header in it."""
    head = source.at(position, 4 + 36 + 18)
    frame = _mpeg_frame(head[1:3])
    assert frame is not None
    side = _side_information(head)
    counted = counted_bytes = None
    # As the decoder has it, which takes it for sound unless all before the name is zero.
    if head[4 + side : 8 + side] in (b"Xing", b"Info") and not any(head[4 : 4 + side]):
        flags = head[11 + side]
        words = [int.from_bytes(head[at : at + 4], "big") for at in (12 + side, 16 + side)]
        counted = words.pop(0) if flags & 1 else None
        counted_bytes = words[0] if flags & 2 else None
    elif head[36:40] == b"VBRI" and len(head) >= 54:
        counted_bytes, counted = struct.unpack(">II", head[46:54])
    return _Stream(position, frame[2], frame[1], counted or None, counted_bytes)


def _synced(source: Source, begin: int, stop: int, end: int, followers: int = 1) -> Iterator[int]:
    """Positions of frames that others of their kind follow, or the end."""
    position = source.find(b"\xff", begin, stop)
    while 0 <= position < end - _SMALLEST_FRAME:
        frame = _mpeg_frame(source.at(position + 1, 2))
        if frame is not None:
            following, left = position + frame[0], followers
            while left and following < end:
                head = source.at(following, 3)
                after = _mpeg_frame(head[1:]) if head[:1] == b"\xff" and len(head) == 3 else None
                if after is None or after[2] != frame[2]:
                    break
                following, left = following + after[0], left - 1
            if left == 0 or following == end:
                yield position
        position = source.find(b"\xff", position + 1, stop)


def _is_tag(source: Source, position: int) -> bool:
    return source.at(position, 8).startswith((b"ID3", b"TAG", b"APETAGEX", b"LYRICS")) or not any(
        source.at(position, 16)
    )


def _before_tags(source: Source) -> int:
    """Where the tags at the end of the file begin."""
    end = source.size
    trim: Callable[[int], int]
    for trim in (
        lambda end: _id3v1(source, end),
        lambda end: _lyrics(source, end),
        lambda end: _ape(source, end),
    ):
        end = trim(end)
    return end


def _id3v1(source: Source, end: int) -> int:
    return end - 128 if end >= 128 and source.at(end - 128, 3) == b"TAG" else end


def _lyrics(source: Source, end: int) -> int:
    foot = source.at(end - 15, 15) if end >= 15 else b""
    if foot[6:] == b"LYRICS200" and foot[:6].isdigit():
        return max(0, end - 15 - int(foot[:6]))
    return end


def _ape(source: Source, end: int) -> int:
    foot = source.at(end - 32, 32) if end >= 32 else b""
    if foot[:8] != b"APETAGEX":
        return end
    size, _, flags = struct.unpack("<III", foot[12:24])
    return max(0, end - size - (32 if flags >> 31 else 0))
