"""Reading excerpts of audio files by position, with errors that name the file and the fault.

Files are read as `m2l encode` and `m2l train` read them: joined streams to their end, and a file that is cut short is
an error, even where the excerpt itself is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.base import ClipError
from m2l.audio import AudioError
from m2l.io import sound
from m2l.io.blocks import read_audio
from m2l.io.digest import file_sha256

AUDIO_SUFFIXES = tuple(sound.FORMATS)

_SHORT = {"is cut short: ": "cut short", "is not readable audio: ": "cannot be decoded"}


@dataclass(frozen=True)
class FileLoader:
    """Reads `seconds` of a file from `start`, by seeking to its first sample.

    Attributes:
        path: The file.
        start: Position of the excerpt in seconds.
        seconds: Length of the excerpt; None reads to the end.
        exact: If true, a file that ends before the excerpt does is an error; otherwise what is there is
            returned.
        sha256: If set, the file must have it (a prefix of at least 16 hex digits is enough).
    """

    path: str
    start: float = 0.0
    seconds: float | None = None
    exact: bool = False
    sha256: str | None = None

    def __call__(self) -> tuple[npt.NDArray[Any], int]:
        """Return samples (channels, samples) and the sample rate.

        Raises:
            FileNotFoundError: No such file.
            ClipError: Undecodable, cut short, too short for the excerpt, or not the file it should be.
        """
        path = Path(self.path)
        if self.sha256 is not None:
            check_sha256(path, self.sha256)
        return read_excerpt(path, self.start, self.seconds, exact=self.exact)


def check_sha256(path: Path, expected: str) -> None:
    """Raise a ClipError that names both digests unless the file's sha256 starts with `expected`."""
    actual = file_sha256(path)
    if not actual.startswith(expected.lower()):
        raise ClipError(
            f"{path}: sha256 is {actual[: max(16, len(expected))]}, expected {expected}: "
            "not the file of the manifest (damaged, or another version)"
        )


def read_excerpt(
    path: Path, start: float = 0.0, seconds: float | None = None, *, exact: bool = False
) -> tuple[npt.NDArray[np.float32], int]:
    """Read an excerpt of an audio file.

    Args:
        path: Any format of libsndfile (WAV, FLAC, Ogg Vorbis and Opus, MP3, …).
        start: In seconds, at least 0.
        seconds: Length; None reads to the end.
        exact: Whether a file that is too short for the excerpt is an error.

    Returns:
        float32 audio `(channels, samples)` and the sample rate.

    Raises:
        FileNotFoundError: No such file.
        ClipError: Undecodable, cut short, empty, or `start` is behind its end.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if start < 0 or (seconds is not None and seconds <= 0):
        raise ValueError(f"excerpt of {path}: start {start!r} s, length {seconds!r} s")
    try:
        info = sound.audio_info(path)
        rate = info.sample_rate
        first = round(start * rate)
        wanted = -1 if seconds is None else round(seconds * rate)
        if info.duration is not None and first >= (info.frames or 0) > 0:
            raise ClipError(f"{path}: the excerpt starts at {start} s, the file has {info.duration:.3f} s")
        audio, _ = read_audio(path, first, wanted)
    except (OSError, AudioError) as error:
        raise _clip_error(path, error) from error
    samples = audio.shape[1]
    if samples == 0:
        raise ClipError(f"{path}: no samples could be decoded at {start} s")
    if exact and wanted > 0 and samples < wanted:
        raise ClipError(f"{path}: {samples / rate:.3f} s could be decoded from {start} s, the excerpt has {seconds} s")
    return audio, rate


def _clip_error(path: Path, error: Exception) -> ClipError:
    if isinstance(error, OSError):
        return ClipError(f"{path}: {error.strerror or error}")
    said = str(error).removeprefix(str(path)).lstrip(": ")
    # In brackets, so that tables count files that are cut under one reason, wherever they end.
    for words, short in _SHORT.items():
        if said.startswith(words):
            said = f"{short} ({said.removeprefix(words)})"
    return ClipError(f"{path}: {said}")


def audio_info(path: Path) -> tuple[int, int, float]:
    """Return (sample rate, channels, seconds) from a file's headers.

    Raises:
        ClipError: Not there, undecodable, cut short, or of unknown length.
    """
    try:
        info = sound.audio_info(path)
    except (OSError, AudioError) as error:
        raise _clip_error(path, error) from error
    if info.duration is None:
        raise ClipError(f"{path}: its headers do not tell its length")
    return info.sample_rate, info.channels, info.duration
