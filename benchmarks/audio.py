"""Rates, channels and lengths: what adapters and metrics share."""

from __future__ import annotations

import numpy as np
import soxr


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
