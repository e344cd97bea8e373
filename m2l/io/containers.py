"""Where the audio of a file lies: its joined streams, what its container announces, and whether it is complete.

libsndfile silently reads only the first of several joined streams, and whatever is left of a truncated file.
`examine` reads headers only, in blocks of bounded size, and no more of a file than it needs.

How truncation is detected:
- WAV, RF64, W64, AIFF, AU, CAF: the audio chunk announces more bytes than the file has. The sizes that programs
  write when they stream to a pipe (0, 2^31 - 64 KiB and above) say nothing, so truncation then goes unnoticed.
- FLAC: the last frame ends before the total in the header. Without a total, only an incomplete last frame is noticed.
- Ogg (Vorbis, Opus, FLAC, Speex): a page is missing or damaged, or the last page does not mark the end of the stream.
- MP3: there are fewer frames than the Xing, Info or VBRI header counts; without one, the last frame is incomplete.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from m2l.io.container_mpeg import mpeg
from m2l.io.container_streams import flac, ogg
from m2l.io.layout import BLOCK, Layout, Part, Source, after_id3, shortfall

# Sizes from here up are placeholders of programs that write to a pipe and cannot know the size.
_STREAMED_RIFF = 2**31 - 2**16
_STREAMED_AIFF = 0x7F000000
_MAX_CHUNKS = 10_000
_PLAIN_AIFC = (b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64")
_ODD_BYTES = 256
_JUST_NOW = 2_000_000_000  # nanoseconds
_FILE_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"caff", b"fLaC", b"OggS")
_TAG_MAGICS = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")


def examine(path: str | os.PathLike[str]) -> Layout:
    """The layout of a file; cached as long as the file does not change.

    Raises:
        OSError: if it cannot be read.
    """
    status = os.stat(path)
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
    # File system clocks are coarse: a file that was just written may change again without a new time stamp.
    if abs(time.time_ns() - status.st_mtime_ns) < _JUST_NOW:
        return _examine(os.fspath(path), status.st_size)
    return _remembered(os.fspath(path), status.st_size, identity)


@lru_cache(maxsize=2**16)
def _remembered(path: str, size: int, _: tuple[int, ...]) -> Layout:
    return _examine(path, size)


def _examine(path: str, size: int) -> Layout:
    with open(path, "rb") as file:
        source = Source(file, size)
        begin = after_id3(source, 0)
        magic = source.at(begin, 12)
        parse: Callable[[Source, int], Layout] | None = None
        if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:] == b"WAVE":
            parse = _riff
        elif magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
            parse = _aiff
        else:
            kinds = {b"riff": _w64, b"caff": _caf, b".snd": _au, b"dns.": _au, b"fLaC": flac, b"OggS": ogg}
            parse = kinds.get(magic[:4])
        if parse is None and (begin or magic[:1] == b"\xff"):
            parse = mpeg
        return Layout((Part(0, size),)) if parse is None else parse(source, begin)


# --- formats of chunks ----------------------------------------------------------------------------------------------


def _whole(source: Source, *patches: tuple[int, bytes]) -> Layout:
    return Layout((Part(0, source.size, patches),))


def _payload(source: Source, begin: int, claimed: int, layout: Layout) -> Layout:
    """The layout, with a fault if the audio chunk announces more bytes than the file has."""
    there = max(0, source.size - begin)
    if claimed > there:
        return replace(layout, fault=f"is cut short: {shortfall(claimed, there, 'bytes of audio')}")
    return layout


def _behind(source: Source, position: int, next_chunk: Callable[[int], int | None], layout: Layout) -> Layout:
    """The layout, with a remark if something other than chunks and tags follows the audio."""
    for _ in range(_MAX_CHUNKS):
        following = None if source.at(position, 4) in _FILE_MAGICS else next_chunk(position)
        if following is None or following > source.size:
            break
        position = following
    left = source.size - position
    head = source.at(position, 16)
    if head[:4] in _FILE_MAGICS and left > 64:
        return replace(layout, fault=f"is followed by a second file at byte {position}, which would not be read")
    if left > _ODD_BYTES and not head.startswith(_TAG_MAGICS) and any(source.at(position, BLOCK)):
        return replace(layout, note=f"ends in {left} bytes that are not part of its audio and are ignored")
    return layout


def _riff(source: Source, begin: int) -> Layout:
    order = ">" if source.at(begin, 4) == b"RIFX" else "<"
    long_size, long_at = None, 0

    def chunk(position: int) -> tuple[bytes, int] | None:
        head = source.at(position, 8)
        if len(head) < 8 or not head[:4].isascii() or not head[:4].strip().isalnum():
            return None
        return head[:4], struct.unpack(f"{order}I", head[4:])[0]

    def next_chunk(position: int) -> int | None:
        found = chunk(position)
        return None if found is None else position + 8 + found[1] + (found[1] & 1)

    position: int | None = begin + 12
    for _ in range(_MAX_CHUNKS):
        found = None if position is None else chunk(position)
        if position is None or found is None:
            break
        name, claimed = found
        if name == b"ds64":
            long_at = position + 16
            long_size = int.from_bytes(source.at(long_at, 8), "little")
        if name == b"data":
            audio = position + 8
            if long_size is not None and claimed == 0xFFFFFFFF:
                claimed = long_size
                if claimed == 0 or claimed >= 2**62:  # written to a pipe
                    return _whole(source, (long_at, (source.size - audio).to_bytes(8, "little")))
            elif claimed == 0 and source.size - audio >= 8 and _is_no_chunk(chunk, source, audio):
                return _whole(source, (position + 4, b"\xff\xff\xff\xff"))
            elif claimed >= _STREAMED_RIFF:
                return _whole(source)
            whole = _payload(source, audio, claimed, _whole(source))
            return whole if whole.fault else _behind(source, audio + claimed + (claimed & 1), next_chunk, whole)
        position = next_chunk(position)
    return _whole(source)


def _is_no_chunk(chunk: Callable[[int], tuple[bytes, int] | None], source: Source, position: int) -> bool:
    found = chunk(position)
    return found is None or position + 8 + found[1] > source.size


def _aiff(source: Source, begin: int) -> Layout:
    def next_chunk(position: int) -> int | None:
        head = source.at(position, 8)
        if len(head) < 8 or not head[:4].strip(b" .()").isalnum():
            return None
        size = int.from_bytes(head[4:], "big")
        return position + 8 + size + (size & 1)

    frames = width = 0
    position: int | None = begin + 12
    for _ in range(_MAX_CHUNKS):
        following = None if position is None else next_chunk(position)
        if position is None or following is None:
            break
        common = source.at(position, 30)
        if common[:4] == b"COMM" and len(common) == 30:
            channels, frames, bits = struct.unpack(">HIH", common[8:16])
            plain = source.at(begin + 8, 4) == b"AIFF" or common[26:] in _PLAIN_AIFC
            width = channels * ((bits + 7) // 8) if plain else 0
        if common[:4] == b"SSND":
            claimed = int.from_bytes(common[4:8], "big") - 8
            if claimed >= _STREAMED_AIFF - 2**16:
                return _whole(source)
            whole = _payload(source, position + 16, claimed, _whole(source))
            if width and whole.fault is None and claimed // width != frames:
                there = claimed // width
                if there < frames:
                    return replace(whole, fault=f"is cut short: {shortfall(frames, there)}")
                if there > frames + 1:  # one may be padding
                    whole = replace(whole, note=f"announces {frames} samples in its header but holds {there}")
            return whole if whole.fault else _behind(source, following, next_chunk, whole)
        position = following
    return _whole(source)


def _w64(source: Source, begin: int) -> Layout:
    def next_chunk(position: int) -> int | None:
        head = source.at(position, 24)
        size = int.from_bytes(head[16:], "little")
        return position + (size + 7) // 8 * 8 if len(head) == 24 and size >= 24 and head[:4].strip().isalnum() else None

    position: int | None = begin + 40
    for _ in range(_MAX_CHUNKS):
        following = None if position is None else next_chunk(position)
        if position is None or following is None:
            break
        if source.at(position, 4) == b"data":
            claimed = int.from_bytes(source.at(position + 16, 8), "little") - 24
            if claimed <= 0 or claimed >= 2**62:  # written to a pipe
                return _whole(source)
            whole = _payload(source, position + 24, claimed, _whole(source))
            if whole.fault is None:
                # libsndfile would take everything that follows for audio.
                whole = replace(whole, parts=(Part(0, position + 24 + claimed),))
                return _behind(source, following, next_chunk, whole)
            return whole
        position = following
    return _whole(source)


def _caf(source: Source, begin: int) -> Layout:
    def next_chunk(position: int) -> int | None:
        head = source.at(position, 12)
        size = int.from_bytes(head[4:], "big", signed=True)
        return position + 12 + size if len(head) == 12 and size >= 0 and head[:4].isalnum() else None

    position: int | None = begin + 8
    for _ in range(_MAX_CHUNKS):
        if position is None or len(head := source.at(position, 12)) < 12:
            break
        if head[:4] == b"data":
            there = (position + 4, (source.size - position - 12).to_bytes(8, "big"))
            claimed = int.from_bytes(head[4:], "big", signed=True)
            if claimed == -1 or (claimed == 0 and next_chunk(position + 12) is None):  # written to a pipe
                return _whole(source, there)
            whole = _payload(source, position + 16, claimed - 4, _whole(source))
            if whole.fault is not None:
                return replace(whole, parts=(Part(0, source.size, (there,)),))
            return _behind(source, position + 12 + claimed, next_chunk, whole)
        position = next_chunk(position)
    return _whole(source)


def _au(source: Source, begin: int) -> Layout:
    order = ">" if source.at(begin, 4) == b".snd" else "<"
    offset, claimed = struct.unpack(f"{order}4x2I", source.at(begin, 12).ljust(12, b"\0"))
    if claimed >= _STREAMED_RIFF:
        return _whole(source)
    if claimed == 0:
        return _whole(source, (begin + 8, b"\xff\xff\xff\xff"))
    whole = _payload(source, begin + offset, claimed, _whole(source))
    return whole if whole.fault else _behind(source, begin + offset + claimed, lambda _: None, whole)
