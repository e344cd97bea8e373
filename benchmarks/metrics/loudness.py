"""Loudness error in LU: how far an output is from its original in integrated loudness (ITU-R BS.1770-4).

K-weighting by two biquads, which at 48 kHz have the recommendation's coefficients and at other rates are derived from
the same analog prototypes (De Man 2014). Mean squares of blocks of 400 ms, 100 ms apart, are summed over the channels
and gated at -70 LUFS and then 10 LU below the mean of what is left.

The energies of the channels are added, so swapped channels and a wrong polarity change nothing; a mono fold does.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.signal import sosfilt

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined

#: LUFS; what lies below is not measured.
GATE = -70.0
_OFFSET = -0.691
_BLOCK_SECONDS = 0.4
_STEPS = 4  # per block
#: The lowest rate at which the shelf at 1.7 kHz can be realized, with some room.
_LOWEST_RATE = 4000


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of `(channels, samples)`, mono or stereo, in LUFS; minus infinity below the gate.

    Raises:
        ValueError: shorter than a block, or a rate at which the weighting cannot be realized.
    """
    if sample_rate < _LOWEST_RATE:
        raise ValueError(f"sample rate {sample_rate} Hz, at least {_LOWEST_RATE} Hz needed for loudness")
    weighted = sosfilt(k_weighting(sample_rate), audio.astype(np.float64), axis=-1)
    # Sums up to each sample give the mean square of any block; a block starts at the sample nearest to its time.
    sums = np.pad(np.cumsum(np.square(weighted).sum(axis=0)), (1, 0))
    length = round(_BLOCK_SECONDS * sample_rate)
    count = int(_STEPS * (audio.shape[1] - length) // length) + 1 if audio.shape[1] >= length else 0
    if count < 1:
        raise ValueError(f"{audio.shape[1] / sample_rate:.3f} s, at least {_BLOCK_SECONDS} s needed for loudness")
    starts = np.arange(count) * length // _STEPS
    blocks = (sums[starts + length] - sums[starts]) / length
    # Gates: the absolute one, then the relative one.
    heard = blocks[blocks > _power(GATE)]
    if not heard.size:
        return -math.inf
    return _OFFSET + 10 * math.log10(heard[heard > 0.1 * heard.mean()].mean())


def loudness_error(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """|loudness of the output - loudness of the original| in LU, or NaN and the reason.

    An output below the gate counts as lying at it.
    """
    if reason := undefined(preds, target):
        return math.nan, reason
    try:
        original, output = loudness(target, sample_rate), loudness(preds, sample_rate)
    except ValueError as error:
        return math.nan, str(error)
    if original == -math.inf:
        return math.nan, f"target is below {GATE:g} LUFS"
    if output == -math.inf:
        return original - GATE, f"output below {GATE:g} LUFS, counted as {GATE:g} LUFS"
    return abs(output - original), None


@cache
def k_weighting(sample_rate: int) -> np.ndarray:
    """(2, 6) second-order sections: a high shelf of 4 dB at 1.7 kHz and a high pass at 38 Hz."""
    # The shelf.
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = [high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k]
    first = [*shelf, a0, 2 * (k * k - 1), 1 - k / q + k * k]
    # The high pass, whose numerator is not normalized in the recommendation.
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    b0 = 1 + k / q + k * k
    second = [b0, -2 * b0, b0, b0, 2 * (k * k - 1), 1 - k / q + k * k]
    return np.array([np.array(first) / a0, np.array(second) / b0])


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))


LOUDNESS_ERROR = PairMetric(
    name="loudness_error",
    title="Loudness error",
    higher_is_better=False,
    unit="LU",
    note="difference of integrated loudness in LU (ITU-R BS.1770-4), without its sign",
    function=loudness_error,
    modules=("benchmarks.metrics.loudness", "benchmarks.metrics.clip_score"),
    best=0.0,
    tolerance=0.05,
    elsewhere_tolerance=0.005,
    collapse=3.0,
)
