"""Audio arrays and files: one shape, one dtype, one scale, and errors that name what was wrong.

Inside the package audio is float32, channels first, in [-1, 1], and its sample rate is explicit. Everything
else (integer samples, torch tensors, `(samples, channels)`, foreign rates) is turned into that or refused
here. Files are read and written block by block in `m2l.io.blocks`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    from torch import Tensor

#: Audio with more rows than this, and more rows than columns, is taken for (samples, channels).
MAX_CHANNELS = 32
#: 36 dB over full scale. Hot masters and filters overshoot 1.0; only unscaled integers come near this.
MAX_PEAK = 64.0
#: Sample rates that make sense for music, with room on both sides, in Hz.
SAMPLE_RATES = (100, 3_072_000)

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

# Integer samples by dtype: (offset, full scale). Wider or unsigned ones have no convention in audio.
_INTEGER_SCALES = {"u1": (128, 2.0**7), "i1": (0, 2.0**7), "i2": (0, 2.0**15), "i4": (0, 2.0**31)}


class AudioError(ValueError):
    """Audio that cannot be used: the message names the value, the array or file, and what was expected."""


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


def check_sample_rate(rate: Any, name: str = "sample_rate") -> int:
    """The rate as an int.

    Raises:
        AudioError: unless it is a whole number of Hz within `SAMPLE_RATES`.
    """
    low, high = SAMPLE_RATES
    try:
        whole = int(rate)
        if isinstance(rate, (bool, str, bytes)) or whole != rate:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise AudioError(f"{name} must be a whole number of Hz, not {rate!r}") from None
    if not low <= whole <= high:
        raise AudioError(f"{name} {whole} Hz is outside {low} … {high} Hz")
    return whole


def as_channels_first(audio: Any, name: str = "audio") -> np.ndarray:
    """Any audio array as float32 (channels, samples), or (batch, channels, samples).

    Integers are PCM: int16 is divided by 2^15, int32 by 2^31, int8 by 2^7, uint8 is centered at 128 first.
    Floats are taken as they are, in [-1, 1] with room for overshoot.

    Args:
        audio: numpy array, torch tensor (any device) or nested list; (samples,), (channels, samples) or
            (batch, channels, samples).
        name: what the error messages call it.

    Returns:
        float32 array; 1-D input gains a channel axis. It may share memory with the input.

    Raises:
        AudioError: empty, not numeric, 0-D or over 3-D, (samples, channels), NaN or infinite, integers of
            unknown scale, or floats beyond `MAX_PEAK`.
    """
    array = _as_numpy(audio, name)
    if array.ndim not in (1, 2, 3):
        raise AudioError(
            f"{name} has shape {array.shape}; expected (samples,), (channels, samples) or "
            "(batch, channels, samples)"
        )
    if array.size == 0:
        raise AudioError(f"{name} is empty: shape {array.shape}")
    if array.ndim == 1:
        array = array[None]
    rows, columns = array.shape[-2:]
    if rows > columns and rows > MAX_CHANNELS:
        raise AudioError(
            f"{name} has shape {array.shape}, which reads as {rows} channels of {columns} samples; "
            "if it is (samples, channels), pass its transpose"
        )
    # torch warns of arrays that cannot be written to, such as those over bytes or memory-mapped files.
    array = np.require(_as_float32(array, name), requirements="W")
    check_values(array, name)
    return array


def check_values(audio: np.ndarray, name: str, first_sample: int = 0) -> None:
    """Refuse samples that no audio has.

    Args:
        audio: float32 (…, samples).
        name: what the message calls it.
        first_sample: position of the first column, for the message.

    Raises:
        AudioError: naming the first non-finite sample, or a peak beyond `MAX_PEAK`.
    """
    if audio.size == 0:
        return
    peak = max(float(audio.max()), -float(audio.min()))
    if peak <= MAX_PEAK:  # False for NaN too
        return
    bad = ~np.isfinite(audio)
    if bad.any():
        where = tuple(int(index) for index in np.argwhere(bad)[0])
        row = f"channel {where[-2]}, " if audio.ndim > 1 else ""
        raise AudioError(
            f"{name} holds {int(bad.sum())} non-finite values, the first ({audio[where]}) at {row}"
            f"sample {first_sample + where[-1]}"
        )
    raise AudioError(
        f"{name} peaks at {peak:g} where full scale is 1.0: integer samples stored as floats? "
        "Divide 16-bit values by 32768"
    )


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """Samples that `resample` makes of `samples`: the nearest whole number, and at least one."""
    return max(1, (samples * rate_out * 2 + rate_in) // (2 * rate_in))


def resample(audio: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Change the sample rate with soxr's high-quality band-limited filter.

    Args:
        audio: float32 (…, samples).
        rate_in: its rate in Hz.
        rate_out: the wanted rate in Hz.

    Returns:
        float32 (…, resampled_length(samples, rate_in, rate_out)); the input itself if the rates are equal.

    Raises:
        AudioError: for a rate outside `SAMPLE_RATES`.
    """
    rate_in, rate_out = check_sample_rate(rate_in), check_sample_rate(rate_out)
    if rate_in == rate_out:
        return audio
    samples = audio.shape[-1]
    rows = audio.reshape(-1, samples)
    out = np.zeros((len(rows), resampled_length(samples, rate_in, rate_out)), np.float32)
    # One row at a time: soxr takes interleaved frames, and its channel count is limited.
    for row, target in zip(rows, out, strict=True):
        made = soxr.resample(np.ascontiguousarray(row, np.float32), rate_in, rate_out, quality="HQ")
        target[: len(made)] = made[: len(target)]
    return out.reshape(*audio.shape[:-1], -1)


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cut or zero-pad the last axis to `samples`."""
    missing = samples - audio.shape[-1]
    if missing <= 0:
        return audio[..., :samples]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)])


def audio_info(path: str | os.PathLike[str], *, incomplete: bool = False) -> AudioInfo:
    """What the file's headers say, of all streams that are joined in it, without decoding its samples.

    Args:
        path: anything libsndfile reads.
        incomplete: describe what is there of a file that is cut short instead of refusing it.

    Raises:
        OSError: if it does not exist, is a folder, or cannot be opened.
        AudioError: if it is not audio that libsndfile reads, or cut short (see `m2l.io.containers`).
    """
    from m2l.io.sound_file import SoundFile

    file = SoundFile(path, incomplete)
    file.close()
    return file.info


def read_audio(
    path: str | os.PathLike[str], start: int = 0, frames: int = -1, *, incomplete: bool = False
) -> tuple[np.ndarray, int]:
    """Read a file, or a part of it.

    Args:
        path: anything libsndfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, CAF, …).
        start: first frame, in the file's own rate.
        frames: how many; -1 for all that follow. Fewer come back where the file ends earlier.
        incomplete: read what is there of a file that is cut short, with a warning, instead of refusing it.

    Returns:
        float32 (channels, samples) and the file's sample rate.

    Raises:
        OSError: if it does not exist, is a folder, or cannot be opened.
        AudioError: not audio, damaged, shorter than its header says, empty, beyond its end, or not finite.
    """
    from m2l.io.blocks import AudioReader

    with AudioReader(path, start=start, incomplete=incomplete) as reader:
        wanted = frames if frames >= 0 else None
        blocks: list[np.ndarray] = []
        while wanted is None or wanted > 0:
            block = reader.read(BLOCK_FRAMES if wanted is None else min(wanted, BLOCK_FRAMES))
            if not block.shape[1]:
                break
            blocks.append(block)
            wanted = None if wanted is None else wanted - block.shape[1]
        audio = np.concatenate(blocks, axis=1) if blocks else np.zeros((reader.channels, 0), np.float32)
        return audio, reader.sample_rate


def write_audio(
    path: str | os.PathLike[str], audio: np.ndarray, rate: int, *, subtype: str | None = None
) -> None:
    """Write a file whole or not at all; the suffix chooses the format.

    Args:
        path: target; see `FORMATS`. WAV is 32-bit float by default, so it reads back bit for bit.
        audio: any shape `as_channels_first` takes, without a batch axis.
        rate: sample rate in Hz.
        subtype: libsndfile's name of a sample format, such as "PCM_16", instead of the default.

    Raises:
        OSError: if it cannot be written (no folder, no permission, disk full); no partial file is left.
        AudioError: for audio that is refused, or a suffix, rate or channel count the format does not have.
    """
    from m2l.io.blocks import audio_writer

    array = as_channels_first(audio)
    if array.ndim != 2:
        raise AudioError(f"a file holds (channels, samples), not shape {array.shape}")
    with audio_writer(path, rate, array.shape[0], frames=array.shape[1], subtype=subtype) as writer:
        writer.write(array)


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


def sound_name(path: str | os.PathLike[str]) -> str | bytes:
    """A file name for soundfile: bytes on POSIX, since it cannot encode names that are not valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def reason_of(error: BaseException) -> str:
    """libsndfile's own words, without soundfile's "Error opening <path>:" in front."""
    text = getattr(error, "error_string", None) or str(error) or type(error).__name__
    return text.strip().rstrip(".").removeprefix("Error : ")


# --- names of the published package's `audio` module ----------------------------------------------------------


def to_representation_encoder(x: Tensor) -> Tensor:
    """(channels, samples) at 44.1 kHz -> (channels, 2, 1024, T) of the published model; differentiable."""
    from m2l.config import create_config
    from m2l.representation import waveform_to_representation  # this module does without torch

    return waveform_to_representation(x, create_config("paper"))


to_representation = to_representation_encoder


def to_waveform(x: Tensor) -> Tensor:
    """Inverse of `to_representation_encoder`: (channels, 512 T + 1536) in [-1, 1]; differentiable."""
    from m2l.config import create_config
    from m2l.representation import representation_to_waveform

    return representation_to_waveform(x, create_config("paper"))


def _as_numpy(audio: Any, name: str) -> np.ndarray:
    if hasattr(audio, "detach"):  # a torch tensor, without importing torch for everyone else
        tensor = audio.detach()
        if getattr(tensor, "is_complex", bool)():
            raise AudioError(f"{name} is complex ({tensor.dtype}); expected a waveform")
        tensor = tensor.to_dense().resolve_neg()
        # numpy has no bfloat16; other floats become float32 here or later all the same.
        return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    if audio is None or isinstance(audio, (str, bytes, os.PathLike)):
        raise AudioError(f"{name} must be an array of samples, not {type(audio).__name__} {audio!r:.80}")
    if isinstance(audio, np.ndarray):
        return audio
    try:
        array = np.asarray(audio)
    except ValueError as error:
        raise AudioError(f"{name} is not a rectangular array: {error}") from None
    # Python's own numbers carry no sample format: whole ones among them are still plain numbers.
    return array.astype(np.float64) if array.dtype.kind == "i" else array


def _as_float32(array: np.ndarray, name: str) -> np.ndarray:
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    if kind in _INTEGER_SCALES:
        offset, scale = _INTEGER_SCALES[kind]
        # float64 on the way, as float32 does not hold 32-bit integers.
        return np.asarray((array.astype(np.float64) - offset) / scale, np.float32)
    if array.dtype.kind != "f":
        raise AudioError(
            f"{name} has dtype {array.dtype}; expected floats in [-1, 1] or int16, int32, int8, uint8 samples"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which the caller reports
        return np.ascontiguousarray(array, np.float32)
