"""Note F1: whether an output has its original's notes, as Basic Pitch transcribes both.

A note of the output is right where one of the original has its pitch (within 50 cents) and begins with it (within
50 ms); ends do not count. F1 is the harmonic mean of the shares of right notes in the output and in the original, of
the largest matching (`mir_eval.transcription`; Bay et al. 2009). The transcription is of the mono fold.
"""

from __future__ import annotations

import math

import numpy as np
from mir_eval import transcription, util

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.registry import load_target
from benchmarks.weights.find import find_weight
from m2l.audio import resample, to_mono

SAMPLE_RATE = 22_050
_SHORTEST_SECONDS = 0.25


def note_f1(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """F1 of notes (0 to 1), or NaN and the reason.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.
    """
    if reason := undefined(preds, target, samples=math.ceil(_SHORTEST_SECONDS * sample_rate)):
        return math.nan, reason
    transcribe, path = load_target("benchmarks.embedders.basic_pitch:transcribe"), find_weight("basic-pitch")
    mono = [resample(to_mono(audio), sample_rate, SAMPLE_RATE)[0] for audio in (preds, target)]
    output, original = (transcribe(path, audio) for audio in mono)
    if not len(original.midi):
        return math.nan, "no notes found in target"
    if not len(output.midi):
        return 0.0, None
    scores = transcription.precision_recall_f1_overlap(
        original.intervals,
        util.midi_to_hz(original.midi),
        output.intervals,
        util.midi_to_hz(output.midi),
        offset_ratio=None,
    )
    return float(scores[2]), None


NOTE_F1 = PairMetric(
    name="note_f1",
    title="Note F1",
    digits=3,
    note="F1 of the notes that Basic Pitch hears, by pitch and beginning (0 to 1)",
    function=note_f1,
    modules=("benchmarks.metrics.note_f1", "benchmarks.embedders.basic_pitch", "benchmarks.metrics.clip_score"),
    weights="basic-pitch",
    packages=("onnxruntime",),
    install="pip install 'm2l[notes]'",
    folds=True,
    worst=0.0,
    best=1.0,
    tolerance=0.01,
    collapse=0.3,
)
