"""Audio arrays: one shape, one dtype, one scale, and errors that name what was wrong.

Audio is float32, channels first, in [-1, 1], and its sample rate is explicit. Everything else (integer samples, torch
tensors, `(samples, channels)`, foreign rates) is turned into that or refused here. Files: `m2l.io.sound` says what they
are, `m2l.io.blocks` reads and writes them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np
import soxr

#: Audio with more rows than this, and more rows than columns, is taken for (samples, channels).
MAX_CHANNELS = 32
#: 36 dB over full scale. Hot masters and filters overshoot 1.0; only unscaled integers come near this.
MAX_PEAK = 64.0
#: Sample rates that make sense for music, with room on both sides, in Hz.
SAMPLE_RATES = (100, 3_072_000)

#: Largest sample below which a signal counts as silent: -120 dBFS, 30 dB under the last bit of 16.
SILENCE_PEAK = 1e-6
#: A fold this far below its channels (-60 dB) is what rounding leaves of channels that cancel.
_CANCELED = 1e-3

# Integer samples by dtype: (offset, full scale). Wider or unsigned ones have no convention in audio.
_INTEGER_SCALES = {"u1": (128, 2.0**7), "i1": (0, 2.0**7), "i2": (0, 2.0**15), "i4": (0, 2.0**31)}


class AudioError(ValueError):
    """Audio that cannot be used: the message names the value, the array or file, and what was expected."""


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
            f"{name} has shape {array.shape}; expected (samples,), (channels, samples) or (batch, channels, samples)"
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


def check_audio(audio: Any, sample_rate: Any, name: str = "audio") -> np.ndarray:
    """One clip as float32 (channels, samples), read as `as_channels_first` does.

    Raises:
        AudioError: as `as_channels_first`; for a batch, or an impossible `sample_rate`.
    """
    array = as_channels_first(audio, name)
    if array.ndim != 2:
        raise AudioError(f"{name} has shape {array.shape}; expected (channels, samples)")
    check_sample_rate(sample_rate, f"sample_rate of {name}")
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


def resample(audio: np.ndarray, rate_in: int, rate_out: int, *, exact: bool = True) -> np.ndarray:
    """Change the sample rate with soxr's high-quality band-limited filter.

    Args:
        audio: (…, samples) of any dtype that soxr takes.
        rate_in: its rate in Hz.
        rate_out: the wanted rate in Hz.
        exact: return `resampled_length` samples; soxr itself makes one more or less in one of 400 cases.

    Returns:
        (…, samples) of the same dtype; the input itself if the rates are equal.

    Raises:
        AudioError: for a rate outside `SAMPLE_RATES`.
    """
    rate_in, rate_out = check_sample_rate(rate_in), check_sample_rate(rate_out)
    if rate_in == rate_out:
        return audio
    samples = audio.shape[-1]
    rows = audio.reshape(-1, samples)
    # One row at a time: soxr takes interleaved frames, and its channel count is limited.
    made = np.stack([soxr.resample(np.ascontiguousarray(row), rate_in, rate_out, quality="HQ") for row in rows])
    if exact:
        made = np.ascontiguousarray(fit_length(made, resampled_length(samples, rate_in, rate_out)))
    return made.reshape(*audio.shape[:-1], made.shape[-1])


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cut or zero-pad the last axis to `samples`."""
    missing = samples - audio.shape[-1]
    if missing <= 0:
        return audio[..., :samples]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)])


def to_mono(audio: np.ndarray) -> np.ndarray:
    """Mean of the channels of `(channels, samples)`, as `(1, samples)`."""
    return audio if audio.shape[0] == 1 else audio.mean(axis=0, keepdims=True, dtype=np.float32)


def is_silent(audio: np.ndarray) -> bool:
    """Whether the mono fold of `(channels, samples)` holds nothing but a constant."""
    mono = to_mono(audio)
    return bool(np.abs(mono - mono.mean(dtype=np.float64)).max(initial=0.0) < SILENCE_PEAK)


def cancels(audio: np.ndarray) -> bool:
    """Whether the channels of `(channels, samples)` cancel in the mono fold, which then says nothing about the clip."""
    if len(audio) == 1:
        return False
    whole, fold = (float(np.square(x, dtype=np.float64).mean()) for x in (audio, to_mono(audio)))
    return whole > 0.0 and fold <= _CANCELED**2 * whole


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


#: Functions of the published package's `audio` module, which need torch: name -> where it is.
_HOMES = dict.fromkeys(("to_representation", "to_representation_encoder", "to_waveform"), "m2l.inference")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'm2l.audio' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
