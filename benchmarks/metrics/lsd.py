"""Log-spectral distance in dB (Gray and Markel 1976), as evaluations of bandwidth extension take it.

    LSD = mean over frames of  sqrt(mean over bins (20 log10 max(|Ŝ|, f) - 20 log10 max(|S|, f))²)

Hann windows of 2048 samples, 512 apart, as there. The floor f lies 100 dB under a sine at full scale: without one,
the emptiness above a codec's cut-off would decide the value. `lsd:8k-` takes the bins from 8 kHz up. Frames of all
channels count alike. Gain counts: a gain of g dB on audio above the floor is g.
"""

from __future__ import annotations

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.metrics.spectra import hann, powers

N_FFT, HOP = 2048, 512
#: Power of a sine at full scale is (N_FFT / 4)²; the floor is 100 dB below.
_FLOOR = np.float32((N_FFT / 4) ** 2 * 1e-10)
HIGH_HZ = 8000.0


def log_spectral_distance(preds: np.ndarray, target: np.ndarray, sample_rate: int, low_hz: float = 0.0) -> Score:
    """LSD of `(channels, samples)` in dB from `low_hz` to half the rate, or NaN and the reason."""
    if reason := undefined(preds, target, samples=N_FFT // 2 + 1):
        return np.nan, reason
    if sample_rate <= 2 * low_hz:
        return np.nan, f"sample rate {sample_rate} Hz, nothing above {low_hz:g} Hz"
    first = int(np.ceil(low_hz * N_FFT / sample_rate))
    frames = []
    for p, t in zip(*(powers(audio, hann(N_FFT), HOP) for audio in (preds, target)), strict=True):
        ratio = np.maximum(p[..., first:], _FLOOR) / np.maximum(t[..., first:], _FLOOR)
        frames.append(np.sqrt(np.square(10 * np.log10(ratio)).mean(axis=-1, dtype=np.float64)).ravel())
    return float(np.concatenate(frames).mean()), None


def high_distance(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """LSD from 8 kHz up."""
    return log_spectral_distance(preds, target, sample_rate, HIGH_HZ)


_MODULES = ("benchmarks.metrics.lsd", "benchmarks.metrics.clip_score")
LSD = PairMetric(
    name="lsd",
    title="LSD",
    higher_is_better=False,
    unit="dB",
    note="log-spectral distance in dB, Hann windows of 2048 samples, floor 100 dB below full scale",
    function=log_spectral_distance,
    modules=_MODULES,
    best=0.0,
    tolerance=0.05,
    elsewhere_tolerance=0.005,
    collapse=6.0,
)
LSD_HIGH = PairMetric(
    name="lsd:8k-",
    title="LSD > 8 kHz",
    higher_is_better=False,
    unit="dB",
    note="log-spectral distance in dB of the bins from 8 kHz up",
    function=high_distance,
    modules=_MODULES,
    best=0.0,
    tolerance=0.05,
    elsewhere_tolerance=0.005,
    collapse=10.0,
)
