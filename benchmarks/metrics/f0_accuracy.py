"""F0 accuracy: whether an output has its original's pitch, as the pitch tracker CREPE (tiny) hears both.

    share of the frames that CREPE is sure of in the original (confidence of 0.5 or more) in which the pitch of the
    output is within 50 cents of the original's

which is the raw pitch accuracy of melody extraction (Poliner et al. 2007), the original in the place of the
annotation. CREPE (Kim et al. 2018) follows a single voice; frames of dense music rarely pass its confidence and do not
count. Gain, polarity and swapped channels change nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from mir_eval import melody

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.registry import load_target
from benchmarks.weights.find import find_weight
from m2l.audio import resample, to_mono

SAMPLE_RATE = 16_000
#: Confidence from which a frame has a pitch, the value of the authors' examples.
VOICED = 0.5
_FEWEST_FRAMES = 5


def raw_pitch_accuracy(output: Any, original: Any) -> Score:
    """Raw pitch accuracy of two tracks (`crepe.Pitch`) of equal length, or NaN and the reason."""
    voiced = original.confidence >= VOICED
    if voiced.sum() < _FEWEST_FRAMES:
        return math.nan, f"no pitch that CREPE is sure of ({int(voiced.sum())} frames)"
    cents = [melody.hz2cents(track.hertz) for track in (original, output)]
    return float(melody.raw_pitch_accuracy(voiced, cents[0], np.ones_like(cents[1]), cents[1])), None


def f0_accuracy(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Share of the original's pitched frames (0 to 1) whose pitch the output keeps, or NaN and the reason.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.
    """
    if reason := undefined(preds, target, samples=sample_rate // 16):
        return math.nan, reason
    track, path = load_target("benchmarks.embedders.crepe:track"), find_weight("crepe-tiny")  # needs torch
    mono = [resample(to_mono(audio), sample_rate, SAMPLE_RATE)[0] for audio in (preds, target)]
    return raw_pitch_accuracy(*(track(path, audio) for audio in mono))


F0_ACCURACY = PairMetric(
    name="f0_accuracy",
    title="F0 accuracy",
    digits=3,
    note="share of the original's frames with a pitch in which the output's is within 50 cents, by CREPE tiny (0 to 1)",
    function=f0_accuracy,
    modules=("benchmarks.metrics.f0_accuracy", "benchmarks.embedders.crepe", "benchmarks.metrics.clip_score"),
    weights="crepe-tiny",
    folds=True,
    worst=0.0,
    best=1.0,
    tolerance=0.005,
    collapse=0.3,
)
