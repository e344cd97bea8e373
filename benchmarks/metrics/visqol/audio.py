"""From any audio array to the mono signal that ViSQOL scores, and the reasons not to score one."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from m2l.audio import SILENCE_PEAK

#: More rows than this, and more rows than columns, reads as (samples, channels).
MAX_CHANNELS = 32
#: Lengths that differ by more seconds than this are not two versions of one signal (Google only warns).
MAX_LENGTH_DIFFERENCE = 1.0


def as_channels(audio: Any, name: str) -> NDArray[np.float64]:
    """Any audio array as float64 (channels, samples).

    Args:
        audio: numpy array or torch tensor, (samples,) or (channels, samples): floats in [-1, 1], or
            int16 as it is in a WAV file.
        name: what the error messages call it.

    Raises:
        ValueError: another number of axes, (samples, channels), empty, or integers other than int16.
        TypeError: not an array of numbers.
    """
    if hasattr(audio, "detach"):
        tensor = audio.detach().cpu().resolve_conj().resolve_neg()
        audio = tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()
    array = np.asarray(audio)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be an array of real numbers, not {array.dtype}")
    if array.dtype.kind in "iu" and array.dtype != np.int16:
        raise ValueError(f"{name} is {array.dtype}: give floats in [-1, 1], or int16")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {array.shape}; expected (samples,) or (channels, samples)")
    if array.size == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}")
    array = np.atleast_2d(array)
    rows, columns = array.shape
    if rows > columns and (rows > MAX_CHANNELS or columns in (1, 2)):
        raise ValueError(
            f"{name} has shape {array.shape}, which reads as {rows} channels of {columns} samples; "
            f"if it is (samples, channels), pass its transpose"
        )
    scale = 1 / 32768 if array.dtype == np.int16 else 1.0
    return array.astype(np.float64) * scale if scale != 1.0 else array.astype(np.float64)


def check_rate(sample_rate: Any) -> int:
    """The sample rate as an int.

    Raises:
        ValueError: not a whole number of Hz from 1,000 to 768,000.
    """
    try:
        rate = int(sample_rate)
        valid = rate == sample_rate and 1_000 <= rate <= 768_000 and not isinstance(sample_rate, (bool, str))
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"sample_rate must be a whole number of Hz in 1000 … 768000, not {sample_rate!r}")
    return rate


def to_mono(
    channels: NDArray[np.float64], rate_in: int, rate_out: int, *, encodec_compat: bool = False
) -> NDArray[np.float64]:
    """Mean of the channels at `rate_out`, (samples,).

    Args:
        channels: (channels, samples).
        rate_in: their rate in Hz.
        rate_out: the wanted rate in Hz; resampled by soxr's very high quality filter.
        encodec_compat: do what EnCodec's evaluation does on its way through a WAV file: clamp each
            channel to ±0.99 and round it to 16 bits before the channels are averaged.
    """
    if encodec_compat:
        resampled = np.stack([_resample(row, rate_in, rate_out) for row in channels])
        return (np.round(np.clip(resampled, -0.99, 0.99) * 32768) / 32768).mean(axis=0)
    return _resample(channels[0] if len(channels) == 1 else channels.mean(axis=0), rate_in, rate_out)


def _resample(signal: NDArray[np.float64], rate_in: int, rate_out: int) -> NDArray[np.float64]:
    if rate_in == rate_out:
        return signal
    return soxr.resample(np.ascontiguousarray(signal), rate_in, rate_out, quality="VHQ")


def why_undefined(channels: NDArray[np.float64], name: str) -> str | None:
    """Why a signal cannot be scored: not finite, or silent; None if it can.

    Args:
        channels: (channels, samples).
        name: what the reason calls it.
    """
    peak = float(np.abs(channels).max())
    if not np.isfinite(peak):
        bad = ~np.isfinite(channels)
        first = int(np.flatnonzero(bad.any(axis=0))[0])
        return f"{name} has {int(bad.sum())} non-finite samples, the first at sample {first}"
    if peak < SILENCE_PEAK:
        return f"{name} is silent (peak {peak:g})"
    if len(channels) > 1 and float(np.abs(channels.mean(axis=0)).max()) < SILENCE_PEAK:
        return f"{name} is silent as mono: its channels cancel out"
    return None


def why_unmatched(n_target: int, n_preds: int, sample_rate: int) -> str | None:
    """Why two lengths in samples are not those of one signal; None if they are."""
    difference = abs(n_target - n_preds) / sample_rate
    if difference <= MAX_LENGTH_DIFFERENCE:
        return None
    return (
        f"lengths differ by {difference:.2f} s (target {n_target / sample_rate:.2f} s, "
        f"preds {n_preds / sample_rate:.2f} s)"
    )
