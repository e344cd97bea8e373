"""Chroma similarity: does an output have the pitch classes of its original, at the same time?

    mean over frames of  <c, ĉ> / (||c|| ||ĉ||)      c: the power of a frame in 12 pitch classes

The pitch classes are librosa's (`librosa.filters.chroma` after Ellis 2007; A4 = 440 Hz, no tuning is estimated), of
the mono fold, from Hann windows of about 93 ms. Frames more than 60 dB below the loudest of the original are left
out. Power spectra of unrelated music are similar, too: see the floor that `m2l-bench compare noise-0db` gives.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.metrics.spectra import hann, powers
from m2l.audio import to_mono

_QUIET = 1e-6


def chroma_similarity(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Similarity from 0 to 1 of `(channels, samples)`, or NaN and the reason. Gain and polarity do not count."""
    n_fft = window_length(sample_rate)
    folds = to_mono(preds), to_mono(target)
    if reason := undefined(*folds, samples=n_fft // 2 + 1):
        return math.nan, reason
    filters = chroma_filters(sample_rate, n_fft).astype(np.float32).T
    p, t = (
        np.concatenate([block[0] @ filters for block in powers(fold, hann(n_fft), n_fft // 4)]).astype(np.float64)
        for fold in folds
    )
    power = t.sum(axis=1)
    heard = power > _QUIET * power.max()
    p, t = p[heard], t[heard]
    lengths = np.linalg.norm(p, axis=1) * np.linalg.norm(t, axis=1)
    # An output that is silent in a frame has none of its pitches.
    return float(np.divide((p * t).sum(axis=1), lengths, out=np.zeros(len(t)), where=lengths > 0).mean()), None


def window_length(sample_rate: int) -> int:
    """4096 samples at 44.1 kHz, and the power of two that is nearest to as many seconds at other rates."""
    return max(256, 2 ** round(12 + math.log2(sample_rate / 44100)))


@cache
def chroma_filters(sample_rate: int, n_fft: int) -> np.ndarray:
    """(12, n_fft / 2 + 1), C first: Gaussians of a semitone's width around each pitch class, loudest near 440 Hz.

    In librosa's words: base C, centered at octave 5, two octaves wide, columns of unit length.
    """
    classes = 12 * np.log2(np.arange(1, n_fft) * sample_rate / n_fft / 27.5)
    classes = np.concatenate([[classes[0] - 18], classes])
    widths = np.append(np.maximum(np.diff(classes), 1.0), 1.0)
    distance = np.remainder(classes - np.arange(12)[:, None] + 6, 12) - 6
    filters = np.exp(-0.5 * np.square(2 * distance / widths))
    filters /= np.linalg.norm(filters, axis=0)
    filters *= np.exp(-0.5 * np.square((classes / 12 - 5) / 2))
    return np.roll(filters, -3, axis=0)[:, : n_fft // 2 + 1]


CHROMA = PairMetric(
    name="chroma",
    title="Chroma",
    digits=3,
    note="cosine similarity of chroma vectors of the mono fold, frame by frame (0 to 1)",
    function=chroma_similarity,
    modules=("benchmarks.metrics.chroma", "benchmarks.metrics.clip_score"),
    folds=True,
    worst=0.0,
    best=1.0,
    tolerance=0.002,
    collapse=0.2,
)
