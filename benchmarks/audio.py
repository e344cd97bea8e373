"""Rates, channels and lengths: what adapters and metrics share."""

from __future__ import annotations

import numpy as np
import soxr

#: Largest sample below which a signal counts as silent: -120 dBFS, 30 dB under the last bit of 16.
SILENCE_PEAK = 1e-6
#: A fold this far below its channels (-60 dB) is what rounding leaves of channels that cancel.
_CANCELED = 1e-3


def resample(audio: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample `(channels, samples)` with soxr (HQ); the same array when the rates are equal."""
    if source_rate == target_rate:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, source_rate, target_rate, quality="HQ").T)


def fit_length(audio: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-pad the last axis to `length` samples."""
    if audio.shape[-1] >= length:
        return audio[..., :length]
    padding = [(0, 0)] * (audio.ndim - 1) + [(0, length - audio.shape[-1])]
    return np.pad(audio, padding)


def to_mono(audio: np.ndarray) -> np.ndarray:
    """Mean of the channels of `(channels, samples)`, as `(1, samples)`."""
    return audio if audio.shape[0] == 1 else audio.mean(axis=0, keepdims=True, dtype=np.float32)


def is_silent(audio: np.ndarray) -> bool:
    """Whether the mono fold of `(channels, samples)` holds nothing but a constant."""
    mono = to_mono(audio)
    return bool(np.abs(mono - mono.mean(dtype=np.float64)).max(initial=0.0) < SILENCE_PEAK)


def cancels(audio: np.ndarray) -> bool:
    """Whether the channels of `(channels, samples)` cancel in the mono fold, which then says nothing of the clip."""
    if len(audio) == 1:
        return False
    whole, fold = (float(np.square(x, dtype=np.float64).mean()) for x in (audio, to_mono(audio)))
    return whole > 0.0 and fold <= _CANCELED**2 * whole
