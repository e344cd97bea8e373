"""Mel filter banks in float64, from their definitions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]


def hz_to_mel_htk(hz: Weights) -> Weights:
    """1127 ln(1 + f/700)."""
    return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)


def mel_filters_htk(*, sample_rate: int, n_fft: int, n_mels: int, low: float, high: float) -> Weights:
    """Triangles in mel (AudioSet's): unit peak, straight sides on the mel axis, no weight on bin 0.

    Returns:
        (n_fft // 2 + 1, n_mels).
    """
    bins = hz_to_mel_htk(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)
    ends = hz_to_mel_htk(np.array([low, high]))
    edges = np.linspace(ends[0], ends[1], n_mels + 2, dtype=np.float64)
    filters = _triangles(bins, edges)
    filters[0] = 0.0
    return filters


def mel_filters_slaney(*, sample_rate: int, n_fft: int, n_mels: int, low: float, high: float) -> Weights:
    """Slaney's auditory-toolbox bank: edges equally spaced in his mel, triangles in Hz, unit area.

    Returns:
        (n_fft // 2 + 1, n_mels).
    """
    linear, knee, step = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0

    def to_mel(hz: float) -> float:
        return hz / linear if hz < knee else knee / linear + math.log(hz / knee) / step

    def to_hz(mel: Weights) -> Weights:
        above = knee * np.exp(step * (mel - knee / linear))
        return np.where(mel < knee / linear, mel * linear, above)

    edges = to_hz(np.linspace(to_mel(low), to_mel(high), n_mels + 2, dtype=np.float64))
    filters = _triangles(np.arange(n_fft // 2 + 1) * sample_rate / n_fft, edges)
    return filters * (2.0 / (edges[2:] - edges[:-2]))


def _triangles(points: Weights, edges: Weights) -> Weights:
    """(len(points), len(edges) - 2): triangle i rises from edges[i] to edges[i+1] and falls to edges[i+2]."""
    rising = (points[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - points[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))
