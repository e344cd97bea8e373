"""ViSQOL as the suites use it. Nothing is compiled before the first clip: commands that only name it stay light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.registry import load_target


def moslqo(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """MOS-LQO from 1 to 5 of `(channels, samples)`, or NaN and the reason."""
    result = load_target("benchmarks.metrics.visqol.api:visqol")(preds, target, sample_rate)
    return float(result.moslqo), result.reason


def speech_moslqo(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """MOS-LQO from 1 to 5 of speech, or NaN and the reason."""
    result = load_target("benchmarks.metrics.visqol.api:visqol")(preds, target, sample_rate, mode="speech")
    return float(result.moslqo), result.reason


VISQOL = PairMetric(
    name="visqol",
    title="ViSQOL",
    note="ViSQOL v3 in audio mode at 48 kHz (MOS-LQO)",
    function=moslqo,
    modules=("benchmarks.metrics.visqol.metric", "benchmarks.metrics.visqol.api", "benchmarks.metrics.clip_score"),
    weights="visqol-svr",
    folds=True,
    worst=1.0,
    best=5.0,
    tolerance=0.02,
    collapse=1.0,
)

VISQOL_SPEECH = replace(
    VISQOL,
    name="visqol:speech",
    title="ViSQOL speech",
    note="ViSQOL v3 in speech mode at 16 kHz, 21 bands, by the lattice network (MOS-LQO)",
    function=speech_moslqo,
    weights="visqol-lattice",
)
