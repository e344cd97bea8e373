"""CDPAM: a distance that was learned from listeners' judgments of just noticeable differences (Manocha et al. 2021).

Both clips go through the encoder whole, in 16-bit samples of the mono fold at 22.05 kHz, and their acoustic halves
through the learned distance, as the authors' package does. It was trained on speech and on short excerpts; it takes the
mean over time, so it does not hear when something happens. Polarity and gain change it.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.registry import load_target
from benchmarks.weights.find import find_weight
from m2l.audio import resample, to_mono

SAMPLE_RATE = 22_050
_SHORTEST_SECONDS = 0.1


def cdpam_distance(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Distance from 0 up, or NaN and the reason.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.
    """
    if reason := undefined(preds, target, samples=round(_SHORTEST_SECONDS * sample_rate)):
        return math.nan, reason
    distance = load_target("benchmarks.embedders.cdpam:distance")  # needs torch
    output, original = (resample(to_mono(audio), sample_rate, SAMPLE_RATE)[0] for audio in (preds, target))
    return distance(find_weight("cdpam"), original, output), None


CDPAM_DISTANCE = PairMetric(
    name="cdpam",
    title="CDPAM",
    higher_is_better=False,
    digits=4,
    note="learned perceptual distance of the mono fold at 22.05 kHz",
    function=cdpam_distance,
    modules=("benchmarks.metrics.cdpam", "benchmarks.embedders.cdpam", "benchmarks.metrics.clip_score"),
    weights="cdpam",
    folds=True,
    best=0.0,
    tolerance=1e-4,
    relative_tolerance=0.01,
    elsewhere_tolerance=0.02,
    collapse=0.5,
)
