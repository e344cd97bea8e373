"""my_metric: a metric for m2l-bench.

As it stands it is the log-spectral distance. Replace the body of the function with your measure; the benchmark
does the rest (clips, workers, means with intervals, comparisons, the gate).

    pytest test_my_metric.py                                                     # the contract
    m2l-bench compare music2latent-mini --metrics si_sdr,my_metric.py:my_metric  # a column beside SI-SDR

In a suite's TOML file, where `m2l-bench gate` judges it too: metrics = ["si_sdr", "my_metric.py:my_metric"].
"""

from __future__ import annotations

import numpy as np
from scipy.signal import stft

from benchmarks.metrics import metric

FRAME, FLOOR = 2048, 1e-8


# Everything in the decorator is optional, and may be set as an attribute of a plain function as well.
@metric(
    title="LSD",  # heading of the column; default: the function's name
    unit="dB",
    higher_is_better=False,  # default: True
    digits=2,  # decimals in tables; default: 3
    # For the gate: changes of the mean up to this size do not count. Default: the last digit that tables show.
    tolerance=0.05,
    # A single clip that loses more than this fails the gate whatever the mean says. Default: none does.
    # collapse=10.0,
    # Limits of a clip's value; a silent output of an audible clip counts as `worst`. Default: no limits.
    best=0.0,
    # folds=True,   # the function averages channels: clips whose channels cancel are then scored one by one
    # version="2",  # values are measured anew when the code or a file that it reads changes, or this
)
def my_metric(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """Root mean square difference of two log spectra in dB, averaged over frames.

    The first line above stands below every table that has the column.

    Args:
        preds: output of a system, float32 `(channels, samples)`.
        target: the original, the same shape.
        sample_rate: in Hz.

    Returns:
        The value. NaN (or a `ValueError` that says why) where there is none: the clip is left out and counted.
    """
    levels = [
        20.0 * np.log10(np.abs(stft(signal, fs=sample_rate, nperseg=min(FRAME, signal.shape[-1]))[2]) + FLOOR)
        for signal in (preds, target)
    ]
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=-2)).mean())
