"""Distances of magnitude spectrograms at several resolutions, by the conventions of two tools.

    mr_stft       auraloss's `MultiResolutionSTFTLoss`: mean over FFTs of 1024, 2048, 512 (hops 120, 240, 50; Hann
                  windows 600, 1200, 240) of spectral convergence ||S - Ŝ|| / ||S|| and mean |ln S - ln Ŝ|, S >= 1e-4
    mr_stft:dac   audiotools' `MultiScaleSTFTLoss`, DAC's "STFT distance": sum over windows of 2048 and 512 (a quarter
                  apart) of mean |log10 max(Ŝ, 1e-5)² - log10 max(S, 1e-5)²| and mean |Ŝ - S|

All channels count alike; lengths count in samples. Yamamoto et al. 2019; Kumar et al. 2023, section 4.4.
"""

from __future__ import annotations

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.metrics.spectra import hann, powers

#: FFT, hop and window of auraloss, in samples.
AURALOSS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
DAC_WINDOWS = (2048, 512)
_SAMPLES = 1025


def auraloss_distance(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """auraloss's distance of `(channels, samples)`, or NaN and the reason. Polarity does not count."""
    if reason := undefined(preds, target, samples=_SAMPLES):
        return np.nan, reason
    total = 0.0
    for n_fft, hop, length in AURALOSS:
        window = hann(length, n_fft)
        difference = power = logarithms = 0.0
        count = 0
        for p, t in zip(*(powers(audio, window, hop) for audio in (preds, target)), strict=True):
            p, t = (np.maximum(x, np.float32(1e-8)) for x in (p, t))
            difference += float(np.square(np.sqrt(t) - np.sqrt(p)).sum(dtype=np.float64))
            power += float(t.sum(dtype=np.float64))
            logarithms += 0.5 * float(np.abs(np.log(p / t)).sum(dtype=np.float64))
            count += t.size
        total += np.sqrt(difference / power) + logarithms / count
    return float(total / len(AURALOSS)), None


def dac_distance(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """DAC's STFT distance of `(channels, samples)`, or NaN and the reason. Polarity does not count."""
    if reason := undefined(preds, target, samples=_SAMPLES):
        return np.nan, reason
    total = 0.0
    for n_fft in DAC_WINDOWS:
        found, count = 0.0, 0
        for p, t in zip(*(powers(audio, hann(n_fft), n_fft // 4) for audio in (preds, target)), strict=True):
            logarithms = np.abs(np.log10(np.maximum(p, np.float32(1e-10)) / np.maximum(t, np.float32(1e-10))))
            found += float((logarithms + np.abs(np.sqrt(p) - np.sqrt(t))).sum(dtype=np.float64))
            count += t.size
        total += found / count
    return total, None


_MODULES = ("benchmarks.metrics.mr_stft", "benchmarks.metrics.clip_score")
MR_STFT = PairMetric(
    name="mr_stft",
    title="MR-STFT",
    higher_is_better=False,
    digits=3,
    note="multi-resolution STFT distance by auraloss's convention (FFTs of 1024, 2048, 512)",
    function=auraloss_distance,
    modules=_MODULES,
    best=0.0,
    tolerance=0.01,
    elsewhere_tolerance=0.005,
    collapse=1.0,
)
MR_STFT_DAC = PairMetric(
    name="mr_stft:dac",
    title="STFT (DAC)",
    higher_is_better=False,
    digits=3,
    note="multi-scale STFT distance by DAC's convention (windows of 2048 and 512)",
    function=dac_distance,
    modules=_MODULES,
    best=0.0,
    tolerance=0.02,
    elsewhere_tolerance=0.005,
    collapse=2.0,
)
