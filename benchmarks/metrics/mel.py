"""Mel distance as DAC reports it (Kumar et al. 2023, sections 3.5 and 4.4; audiotools' `MelSpectrogramLoss`).

    sum over seven windows of  mean |log10 max(M ŝ, 1e-5) - log10 max(M s, 1e-5)|

M is a magnitude spectrogram (Hann windows of 32 to 2048 samples, a quarter of a window apart) through Slaney's mel
bands (5 to 320, from 0 Hz to half the rate). Lengths count in samples: the distance is that of the clip's own rate.
Every channel counts alike.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.embedders.mel_filters import mel_filters_slaney
from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.metrics.spectra import hann, powers

#: Window in samples -> number of mel bands.
SCALES = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}
_FLOOR = np.float32(1e-5)


def mel_distance(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Mel distance of `(channels, samples)`, or NaN and the reason. Gain counts, polarity does not."""
    if reason := undefined(preds, target, samples=max(SCALES) // 2 + 1):
        return np.nan, reason
    total = 0.0
    for n_fft, n_mels in SCALES.items():
        filters = _filters(sample_rate, n_fft, n_mels)
        difference, count = 0.0, 0
        for p, t in zip(*(powers(audio, hann(n_fft), n_fft // 4) for audio in (preds, target)), strict=True):
            bands = [np.maximum(np.sqrt(power) @ filters, _FLOOR) for power in (p, t)]
            logarithms = np.abs(np.log10(bands[0] / bands[1]))
            difference, count = difference + float(logarithms.sum(dtype=np.float64)), count + logarithms.size
        total += difference / count
    return total, None


@cache
def _filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    bank = mel_filters_slaney(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, low=0.0, high=sample_rate / 2)
    return bank.astype(np.float32)


MEL = PairMetric(
    name="mel",
    title="Mel",
    higher_is_better=False,
    digits=3,
    note="mel distance by DAC's convention: L1 of log10 mels, summed over windows of 32 to 2048 samples",
    function=mel_distance,
    modules=("benchmarks.metrics.mel", "benchmarks.metrics.clip_score"),
    best=0.0,
    tolerance=0.01,
    elsewhere_tolerance=0.005,
    collapse=2.0,
)
