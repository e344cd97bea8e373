"""STOI: short-time objective intelligibility of speech (Taal et al. 2011), by the package `pystoi`.

The mean correlation of third-octave envelopes, 150 Hz to 4.3 kHz, over 384 ms, at 10 kHz, where the original is within
40 dB of its loudest frame. Gain changes nothing. The mono fold is compared.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from m2l.audio import resample, to_mono

#: The rate that STOI is defined at; resampled by us, as everywhere, and not by the package.
SAMPLE_RATE = 10_000
#: 30 frames of 256 samples, half of which overlap.
_SHORTEST_SECONDS = (30 + 1) * 128 / SAMPLE_RATE


def stoi(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Intelligibility from -1 to 1, or NaN and the reason.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.
    """
    if reason := undefined(preds, target, samples=math.ceil(_SHORTEST_SECONDS * sample_rate)):
        return math.nan, reason
    original, output = (resample(to_mono(audio), sample_rate, SAMPLE_RATE)[0] for audio in (target, preds))
    import pystoi  # an extra, and this module only names it

    # Where too few frames are loud, the package warns and returns 1e-5.
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi.stoi(original, output, SAMPLE_RATE)), None
        except RuntimeWarning:
            return math.nan, "fewer than 30 frames within 40 dB of the loudest"


STOI = PairMetric(
    name="stoi",
    title="STOI",
    digits=3,
    note="short-time objective intelligibility of speech (at most 1)",
    function=stoi,
    modules=("benchmarks.metrics.stoi", "benchmarks.metrics.clip_score"),
    packages=("pystoi",),
    install="pip install 'm2l[speech]'",
    folds=True,
    worst=0.0,
    best=1.0,
    tolerance=0.005,
    collapse=0.2,
)
