"""Metrics: pure functions `metric(preds, target, ...)`, and mergeable accumulators for corpus metrics."""

from benchmarks.metrics.base import CorpusMetric, Metric, PairMetric, metric

__all__ = ["CorpusMetric", "Metric", "PairMetric", "metric"]
