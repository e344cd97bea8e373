"""PESQ (ITU-T P.862.2, wide band): quality of speech at 16 kHz as MOS-LQO, by the ITU's own code in the package `pesq`.

It levels and aligns the two signals itself, so gain and delay hardly count, and it says little about music. The mono
fold is compared.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from m2l.audio import resample, to_mono

SAMPLE_RATE = 16_000
_SHORTEST_SECONDS = 0.25


def pesq_wide_band(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """MOS-LQO from about 1 to 4.64, or NaN and the reason.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.
    """
    if reason := undefined(preds, target, samples=math.ceil(_SHORTEST_SECONDS * sample_rate)):
        return math.nan, reason
    from pesq import PesqError, pesq  # an extra, and this module only names it

    original, output = (resample(to_mono(audio), sample_rate, SAMPLE_RATE)[0] for audio in (target, preds))
    try:
        return float(pesq(SAMPLE_RATE, original, output, "wb")), None
    except (PesqError, ValueError) as error:
        said = error.args[0] if error.args else type(error).__name__
        return math.nan, f"PESQ: {said.decode() if isinstance(said, bytes) else said}"


PESQ = PairMetric(
    name="pesq",
    title="PESQ",
    note="PESQ of speech, wide band at 16 kHz (MOS-LQO, ITU-T P.862.2)",
    function=pesq_wide_band,
    modules=("benchmarks.metrics.pesq", "benchmarks.metrics.clip_score"),
    packages=("pesq",),
    install="pip install 'm2l[speech]'",
    folds=True,
    worst=1.0,
    best=5.0,
    tolerance=0.02,
    collapse=1.0,
)
