"""Audio files: their formats and headers, and their samples as one stream.

A file of several joined streams is read to its end; one that is cut short is refused with what is missing.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from m2l.audio import AudioError, check_sample_rate
from m2l.io.containers import examine
from m2l.io.layout import Layout, Part, shortfall

#: Largest number of frames handed to libsndfile at once: one call for 60 s of stereo Vorbis crashes it.
BLOCK_FRAMES = 65_536

#: What `write_audio` makes of each suffix: libsndfile's format and our default subtype, lossless if possible.
FORMATS = {
    ".wav": ("WAV", "FLOAT"),
    ".flac": ("FLAC", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "FLOAT"),
    ".aif": ("AIFF", "FLOAT"),
    ".caf": ("CAF", "FLOAT"),
    ".au": ("AU", "FLOAT"),
    ".w64": ("W64", "FLOAT"),
    ".rf64": ("RF64", "FLOAT"),
}

# libsndfile's "length unknown".
_UNKNOWN_FRAMES = 2**62
# Some encoders count up to a part of a block of Vorbis more than they wrote.
_VORBIS_SLACK = 2048
# Channels of which a block holds `BLOCK_FRAMES`; of more it holds fewer.
_BLOCK_CHANNELS = 32
# Samples at a time of a damaged file.
_SMALL_STEP = 1024


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says. `frames` is None where the format does not tell."""

    path: str
    sample_rate: int
    channels: int
    frames: int | None
    format: str
    subtype: str

    @property
    def duration(self) -> float | None:
        """Seconds."""
        return None if self.frames is None else self.frames / self.sample_rate


def audio_info(path: str | os.PathLike[str], *, incomplete: bool = False) -> AudioInfo:
    """What the file's headers say, of all streams that are joined in it, without decoding its samples.

    Args:
        path: anything libsndfile reads.
        incomplete: describe what exists of a file that is cut short instead of refusing it.

    Raises:
        OSError: if it does not exist, is a folder, or cannot be opened.
        AudioError: if it is not audio that libsndfile reads, or cut short (see `m2l.io.containers`).
    """
    file = SoundFile(path, incomplete)
    file.close()
    return file.info


def output_format(path: str | os.PathLike[str], subtype: str | None, nbytes: float = 0.0) -> tuple[str, str]:
    """libsndfile's format and subtype for a target.

    Raises:
        AudioError: for an unknown suffix, or a subtype that its format does not have.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise AudioError(f"no audio format is known for {str(path)!r}; known suffixes: {' '.join(FORMATS)}")
    kind, default = FORMATS[suffix]
    chosen = (subtype or default).upper()
    if not soundfile.check_format(kind, chosen):
        known = " ".join(soundfile.available_subtypes(kind))
        raise AudioError(f"{suffix} files have no subtype {subtype!r}; known: {known}")
    # A RIFF header counts to 4 GiB; RF64 is the same file with a longer count, and what reads WAV reads it.
    if kind == "WAV" and nbytes > 2**32 - 2**16:
        kind = "RF64"
    return kind, chosen


class SoundFile:
    """The samples of a file from its first to its last, whatever it is made of.

    Args:
        path: anything libsndfile reads.
        incomplete: read what exists of a file that is cut short, with a warning, instead of refusing it.

    Attributes:
        info: what its headers say; `frames` is the sum over joined streams.
        fault: what is missing of a file that was opened with `incomplete`; None where nothing is.
        note: what else is odd about the file, and worth a warning.

    Raises:
        OSError: if the file does not exist, is a folder, or cannot be opened.
        AudioError: if it is no audio, is cut short, or joins streams of several rates or channel counts.
    """

    def __init__(self, path: str | os.PathLike[str], incomplete: bool = False) -> None:
        self._path = os.fspath(path)
        self._incomplete = incomplete
        check_regular(path)
        layout = examine(path)
        self.fault = layout.fault
        if layout.fault is not None and not incomplete:
            raise AudioError(f"{self._path} {layout.fault}")
        self.note = layout.note
        self._layout = layout
        self._raw: Any = None
        self._sound: soundfile.SoundFile | None = None
        try:
            self._infos = self._open_all(layout)
        except BaseException:
            self.close()
            raise
        lengths = [info.frames for info in self._infos]
        known = None if None in lengths else sum(length or 0 for length in lengths)
        if layout.fault is not None and self._infos[0].format == "MP3":  # libsndfile believes the header
            known = None
        self.info = replace(self._infos[0], frames=known)
        self._step = BLOCK_FRAMES * _BLOCK_CHANNELS // max(_BLOCK_CHANNELS, self.info.channels)
        self._index = 0
        #: Samples read of the present part, or skipped in front.
        self._done = 0

    def _open_all(self, layout: Layout) -> list[AudioInfo]:
        infos: list[AudioInfo] = []
        # The first is left open, as it is read first.
        for part in reversed(layout.parts):
            self._open(part)
            infos.insert(0, self._part_info())
        shapes = {(info.sample_rate, info.channels) for info in infos}
        if len(shapes) > 1:
            kinds = " and ".join(f"{rate} Hz with {channels} channels" for rate, channels in sorted(shapes))
            raise AudioError(f"{self._path} joins streams of different kinds: {kinds}")
        return infos

    def _open(self, part: Part) -> None:
        self.close()
        size = os.path.getsize(self._path)
        if part == Part(0, size):
            self._sound = open_sound(self._path)
            return
        self._raw = _Window(self._path, part)
        try:
            self._sound = _Sound(self._raw)
        except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
            raise AudioError(f"{self._path} is not readable audio: {reason_of(error)}") from error

    def _part_info(self) -> AudioInfo:
        assert self._sound is not None
        return sound_info(self._sound, self._path)

    def seek(self, frame: int) -> None:
        """Go to a sample, counted from the first of the first stream.

        Raises:
            AudioError: if it cannot be reached.
        """
        index, left = 0, frame
        while index + 1 < len(self._infos) and left >= (self._infos[index].frames or 0):
            left -= self._infos[index].frames or 0
            index += 1
        try:
            if index != self._index:
                self._open(self._layout.parts[index])
                self._index = index
            assert self._sound is not None
            self._sound.seek(left)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise AudioError(f"{self._path} cannot be read from sample {frame}: {reason_of(error)}") from error
        self._done = left

    def read(self) -> np.ndarray:
        """The next block, (channels, samples) float32; without samples at the end, and only there.

        Raises:
            AudioError: if the file turns out to be damaged, or to be shorter than it says.
        """
        while True:
            block = self._read_block()
            self._done += block.shape[1]
            if block.shape[1]:
                return block
            self._check_end()
            if self._index + 1 == len(self._infos):
                return block
            self._index += 1
            self._open(self._layout.parts[self._index])
            self._done = 0

    def _read_block(self) -> np.ndarray:
        assert self._sound is not None
        # Not beyond an end that is known: what follows may be a tag, which a decoder would take for damage.
        known = self._infos[self._index].frames
        count = self._step if known is None else min(self._step, max(0, known - self._done))
        try:
            block = self._sound.read(count, dtype="float32", always_2d=True).T
        except (soundfile.SoundFileError, RuntimeError) as error:
            before = sum(info.frames or 0 for info in self._infos[: self._index])
            fault = f"is damaged after sample {before + self._done}: {reason_of(error)}"
            if not self._incomplete:
                raise AudioError(f"{self._path} {fault}") from error
            return self._last_block(fault)
        return np.ascontiguousarray(block)

    def _last_block(self, fault: str) -> np.ndarray:
        """What comes out in small steps before the damage."""
        if self._step > _SMALL_STEP:
            self._step = _SMALL_STEP
            try:
                self._open(self._layout.parts[self._index])
                assert self._sound is not None
                self._sound.seek(self._done)
            except (AudioError, soundfile.SoundFileError, RuntimeError):
                pass
            else:
                return self._read_block()
        self.fault = self.fault or fault
        return np.zeros((self.info.channels, 0), np.float32)

    def _check_end(self) -> None:
        info = self._infos[self._index]
        slack = _VORBIS_SLACK if info.subtype == "VORBIS" else 0
        if self._layout.exact and info.frames is not None and self._done < info.frames - slack:
            part = "" if len(self._infos) == 1 else f"part {self._index + 1} of {len(self._infos)}: "
            fault = f"is cut short: {part}{shortfall(info.frames, self._done)}"
            if not self._incomplete:
                raise AudioError(f"{self._path} {fault}")
            self.fault = self.fault or fault

    def close(self) -> None:
        """Close the file."""
        if self._sound is not None:
            self._sound.close()
        if self._raw is not None:
            self._raw.close()
        self._sound = self._raw = None


class _Sound(soundfile.SoundFile):
    """soundfile's own, but that blocks follow each other without a seek after each.

    Seeking in an MP3 of a low bit rate loses what its next frame takes from those before.
    """

    def seekable(self) -> bool:
        return False


class _Window:
    """A part of a file as a file of its own, with its patches: what soundfile needs of a file object."""

    def __init__(self, path: str | bytes, part: Part) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by its user
        self._part = part
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        length = len(self._part.prefix) + self._part.stop - self._part.start
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: length}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, count: int = -1) -> bytes:
        ahead = self._part.prefix[self._position :][: count if count >= 0 else None]
        start = self._part.start + max(0, self._position - len(self._part.prefix))
        left = max(0, self._part.stop - start)
        self._file.seek(start)
        data = self._file.read(left if count < 0 else min(count - len(ahead), left))
        for position, replacement in self._part.patches:
            data = _patched(data, position - start, replacement)
        self._position += len(ahead) + len(data)
        return ahead + data

    def close(self) -> None:
        self._file.close()


def _patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    begin, end = max(0, offset), min(len(data), offset + len(replacement))
    if begin >= end:
        return data
    return data[:begin] + replacement[begin - offset : end - offset] + data[end:]


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what has no end or cannot be read twice, such as a pipe, before it is waited for.

    Raises:
        OSError: no such file, or a folder.
        AudioError: a pipe, a device or a socket.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise AudioError(f"{os.fspath(path)} is not a regular file (a pipe or device)")


def open_sound(path: str | os.PathLike[str]) -> soundfile.SoundFile:
    """Open the first stream of a file, with the operating system's own error where it has one."""
    # FileNotFoundError, PermissionError, IsADirectoryError, for which libsndfile says "System error".
    with open(path, "rb"):
        pass
    try:
        return _Sound(sound_name(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        reason = "it is empty (0 bytes)" if os.path.getsize(path) == 0 else reason_of(error)
        raise AudioError(f"{os.fspath(path)} is not readable audio: {reason}") from error


def sound_info(file: soundfile.SoundFile, path: str | os.PathLike[str]) -> AudioInfo:
    """`AudioInfo` of an open file; its sample rate is checked."""
    frames = int(file.frames)
    rate = check_sample_rate(file.samplerate, f"sample rate in the header of {os.fspath(path)}:")
    known = None if frames < 0 or frames >= _UNKNOWN_FRAMES else frames
    return AudioInfo(os.fspath(path), rate, int(file.channels), known, file.format, file.subtype)


def sound_name(path: str | os.PathLike[str]) -> str | bytes:
    """A file name for soundfile: bytes on POSIX, since it cannot encode names that are not valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def reason_of(error: BaseException) -> str:
    """libsndfile's own words, without soundfile's "Error opening <path>:" in front."""
    text = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return text.strip().rstrip(".").removeprefix("Error : ")
