"""MP3 files: one or more streams of frames, each of which states its own length."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from m2l.io.layout import Layout, Part, Source, after_id3, before_tags, joined, shortfall

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
_MAX_TRIES = 100_000
# With this many bytes behind the last frame, the decoder would report damage.
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
    """One of several joined MP3 streams: what its first frame announces, and what was found."""

    start: int
    kind: tuple[int, int, int]
    samples: int
    counted: int | None = None
    counted_bytes: int | None = None
    #: Size of a first frame that holds a header instead of sound, and whether the decoder reads its count.
    tag: int = 0
    is_known: bool = False
    frames: int = 0
    #: Where its last frame ends.
    stop: int = 0

    def is_short(self, stop: int, incomplete: bool) -> bool:
        if not self.counted:
            return incomplete
        missing = self.counted - self.frames
        # Some programs count the frame that holds the count.
        beyond = self.counted_bytes is not None and self.start + self.counted_bytes > stop
        return missing > 1 or (missing == 1 and (incomplete or beyond))


def mpeg(source: Source, begin: int) -> Layout:
    """Compare the number of frames in each stream with the count in its first frame."""
    end = before_tags(source)
    first = next(_synced(source, begin, min(end, begin + 2**20), end), None)
    if first is None:
        return Layout((Part(0, source.size),), exact=False)
    stream = _stream_at(source, first)
    if stream.is_known and stream.counted == _hop(source, stream, end):
        return Layout((Part(0, source.size),))
    streams, junk, incomplete = _walk(source, stream, end)
    if incomplete or source.size - streams[-1].stop < _DECODER_SKIPS:
        streams[-1].stop = source.size
    parts, cuts = [], []
    for number, stream in enumerate(streams, 1):
        uncounted = not stream.counted
        if not stream.is_known and stream.kind[1] == _LAYER_III:
            # libsndfile would guess the length from the first frame and stop reading there.
            parts.append(Part(stream.start + stream.tag, stream.stop, (), _counting_frame(source, stream)))
        else:
            parts.append(Part(0 if number == 1 else stream.start, stream.stop))
        if not stream.is_short(min(stream.stop, end), incomplete and number == len(streams)):
            continue
        where = "" if len(streams) == 1 else f"part {number} of {len(streams)}: "
        there = stream.frames * stream.samples
        if uncounted:
            cuts.append(f"{where}it ends inside a frame, after {there} samples")
        else:
            counted = (stream.counted or 0) * stream.samples
            cuts.append(f"{where}{shortfall(counted, there)}")
    note = f"holds {junk} bytes between its frames that are not audio" if junk else None
    exact = all(stream.is_known or stream.kind[1] == _LAYER_III for stream in streams)
    return Layout(tuple(parts), joined(cuts), note, exact)


def _hop(source: Source, stream: _Stream, end: int) -> int | None:
    """The number of frames after the first, if only frames of its kind follow up to the end; faster than a walk."""
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
            # A counted stream may be interrupted by junk; the decoder continues after it.
            if stream.counted is None or found.tag or found.kind != stream.kind:
                stream = found
                streams.append(stream)
            continue
        if position + frame[0] > end:
            return streams, junk, True
        if position != stream.start:
            found = _stream_at(source, position)
            full = stream.counted is not None and stream.frames >= stream.counted
            if full and not found.tag:
                # More frames than were counted: another stream begins, unless this is junk that looks like a frame.
                full = next(_synced(source, position, position + 1, end, followers=3), None) == position
            if found.tag or full:
                stream = found
                streams.append(stream)
        if position != stream.start or not stream.tag:
            stream.frames += 1
        position += frame[0]
        stream.stop = position
    return streams, junk, False


def _counting_frame(source: Source, stream: _Stream) -> bytes:
    """A frame to put in front of a stream that tells the decoder the number of frames."""
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
    stream = _Stream(position, frame[2], frame[1])
    # Like the decoder, which takes the frame for sound unless everything before the name is zero.
    if head[4 + side : 8 + side] in (b"Xing", b"Info") and not any(head[4 : 4 + side]):
        flags = head[11 + side]
        words = [int.from_bytes(head[at : at + 4], "big") for at in (12 + side, 16 + side)]
        stream.tag = frame[0]
        stream.counted = words.pop(0) or None if flags & 1 else None
        stream.counted_bytes = words[0] if flags & 2 else None
        stream.is_known = stream.counted is not None
    elif head[36:40] == b"VBRI" and len(head) >= 54:
        stream.tag = frame[0]
        stream.counted_bytes, stream.counted = struct.unpack(">II", head[46:54])
    return stream


def _synced(source: Source, begin: int, stop: int, end: int, followers: int = 1) -> Iterator[int]:
    """Positions within `begin` … `stop` of frames that are followed by frames of their kind or by `end`.

    At most `_MAX_TRIES` candidates are tried.
    """
    for position in islice(_headers(source, begin, min(stop, end - _SMALLEST_FRAME)), _MAX_TRIES):
        frame = _mpeg_frame(source.at(position + 1, 2))
        if frame is None:
            continue
        following, left = position + frame[0], followers
        while left and following < end:
            head = source.at(following, 3)
            after = _mpeg_frame(head[1:]) if head[:1] == b"\xff" and len(head) == 3 else None
            if after is None or after[2] != frame[2]:
                break
            following, left = following + after[0], left - 1
        if left == 0 or (following == end and (left < followers or followers == 1)):
            yield position


def _headers(source: Source, begin: int, stop: int) -> Iterator[int]:
    """Positions of bytes that may be the header of a frame."""
    while begin < stop:
        block = source.at(begin, min(2**16, stop - begin + 2))
        for match in re.finditer(rb"\xff[\xe2-\xff][\x10-\xef]", block):
            yield begin + match.start()
        begin += max(1, len(block) - 2)


def _is_tag(source: Source, position: int) -> bool:
    return source.at(position, 8).startswith((b"ID3", b"TAG", b"APETAGEX", b"LYRICS")) or not any(
        source.at(position, 16)
    )
