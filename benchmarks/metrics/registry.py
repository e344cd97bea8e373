"""Metrics of a pair of clips, under the names suites use: `name -> (preds, target, rate) -> (value, reason)`.

A metric that is undefined for a clip (a silent reference) gives NaN and the reason; the tables count it. Silent and
perfect outputs have the values that `benchmarks.metrics.clip_score` states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.metrics.clip_score import LIMITS, Score, clip_score
from benchmarks.registry import UnknownNameError


@dataclass(frozen=True)
class PairMetric:
    """A full-reference metric.

    Attributes:
        name: name in suites.
        title: column heading.
        higher_is_better: direction.
        digits: decimals shown.
        note: what exactly is computed.
        target: `"module:function"` of the function.
        modules: modules whose code decides the value; their digest is part of the content key.
        weights: name of the weights it needs.
    """

    name: str
    title: str
    higher_is_better: bool
    digits: int
    note: str
    target: str
    modules: tuple[str, ...]
    weights: str | None = None


def si_sdr(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Zero-mean SI-SDR of the mono fold, in dB, from -100 (a silent output) to 100 (an exact one)."""
    from benchmarks.metrics.si_sdr import si_sdr_detailed

    def of_fold(preds: np.ndarray, target: np.ndarray) -> Score:
        found = si_sdr_detailed(preds, target, zero_mean=True, channels="mono")
        return float(found.value), found.reason

    return clip_score(of_fold, LIMITS["si_sdr"], preds, target)


def visqol(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """ViSQOL v3 (audio mode), MOS-LQO 1-5; 1 for a silent output."""
    from benchmarks.metrics.visqol.api import visqol as metric

    def of_fold(preds: np.ndarray, target: np.ndarray) -> Score:
        result = metric(preds, target, sample_rate)
        return float(result.moslqo), result.reason

    return clip_score(of_fold, LIMITS["visqol"], preds, target)


PAIR_METRICS: dict[str, PairMetric] = {
    metric.name: metric
    for metric in (
        PairMetric(
            "si_sdr",
            "SI-SDR",
            True,
            2,
            "scale-invariant signal-to-distortion ratio in dB, zero-mean, of the mono fold, float64",
            "benchmarks.metrics.registry:si_sdr",
            ("benchmarks.metrics.si_sdr", "benchmarks.metrics.clip_score"),
        ),
        PairMetric(
            "visqol",
            "ViSQOL",
            True,
            2,
            "ViSQOL v3 in audio mode at 48 kHz (MOS-LQO)",
            "benchmarks.metrics.registry:visqol",
            ("benchmarks.metrics.visqol.api", "benchmarks.metrics.clip_score"),
            weights="visqol-svr",
        ),
    )
}

#: Distances of corpora of embeddings: name before the colon -> (title, digits, note).
CORPUS_METRICS: dict[str, tuple[str, int, str]] = {
    "fad": ("FAD", 3, "Fréchet distance of embeddings"),
    "fad_inf": (
        "FAD∞",
        3,
        "Fréchet distance extrapolated to infinitely many clips, paired with their originals",
    ),
    "kad": ("KAD", 3, "unbiased squared maximum mean discrepancy of embeddings, Gaussian kernel, x 100"),
}


@dataclass(frozen=True)
class CorpusMetric:
    """A distance of corpora in an embedder's space, from a name like "fad:vggish"."""

    name: str
    distance: str
    embedder: str

    @property
    def title(self) -> str:
        """The paper's names: FAD is VGGish, FAD_clap any CLAP; others by the embedder's name."""
        title = CORPUS_METRICS[self.distance][0]
        family = self.embedder.partition("-")[0].partition("@")[0]
        return title if family == "vggish" else f"{title}_{family}"

    @property
    def digits(self) -> int:
        return CORPUS_METRICS[self.distance][1]

    @property
    def note(self) -> str:
        """Distance, embedder, checkpoint, window and hop."""
        from benchmarks.embedders import embedder_entry

        entry = embedder_entry(self.embedder)
        return f"{CORPUS_METRICS[self.distance][2]}, {entry.title} [{self.embedder}]"


def parse_metric(name: str) -> PairMetric | CorpusMetric:
    """The metric called `name`: "si_sdr", "visqol", or "fad:EMBEDDER", "fad_inf:...", "kad:...".

    Raises:
        UnknownNameError: no such metric or embedder.
    """
    if name in PAIR_METRICS:
        return PAIR_METRICS[name]
    distance, colon, embedder = name.partition(":")
    from benchmarks.embedders import list_embedders

    if not colon or distance not in CORPUS_METRICS:
        raise UnknownNameError("metric", name, list_metrics())
    if embedder not in list_embedders():
        raise UnknownNameError("embedder", embedder, list_embedders())
    return CorpusMetric(name, distance, embedder)


def list_metrics() -> list[str]:
    """All metric names, corpus distances with every embedder; imports no model."""
    from benchmarks.embedders import list_embedders

    corpus = [f"{distance}:{embedder}" for distance in CORPUS_METRICS for embedder in list_embedders()]
    return [*PAIR_METRICS, *corpus]


def load_pair_metric(metric: PairMetric) -> Callable[[np.ndarray, np.ndarray, int], Score]:
    """Import the function behind a metric."""
    from benchmarks.registry import load_target

    function: Callable[[np.ndarray, np.ndarray, int], Score] = load_target(metric.target)
    return function
