"""Signal-to-noise ratio in dB: SI-SDR's number where the gain counts too.

    SNR = 10 log10(||s||² / ||s - ŝ||²)    over the samples of all channels, no mean removed

A silent output scores 0 dB by definition. Swapped channels, a mono fold and a channel of the wrong polarity change it
wherever the channels differ.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined


def signal_to_noise(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """SNR of `(channels, samples)` in dB, infinite for equal signals; or NaN and the reason."""
    if reason := undefined(preds, target):
        return math.nan, reason
    signal = float(np.square(target, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(target, preds, dtype=np.float64)).sum())
    return (math.inf if noise == 0.0 else 10.0 * math.log10(signal / noise)), None


#: As for SI-SDR: float32 audio holds no difference from its original above 100 dB.
SNR = PairMetric(
    name="snr",
    title="SNR",
    unit="dB",
    note="signal-to-noise ratio in dB over the samples of all channels; gain counts",
    function=signal_to_noise,
    modules=("benchmarks.metrics.snr", "benchmarks.metrics.clip_score"),
    exact=True,
    best=100.0,
    tolerance=0.1,
    floor=-40.0,
    collapse=10.0,
)
