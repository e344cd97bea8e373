"""Metrics: pure functions `metric(preds, target, ...)`, and mergeable accumulators for corpus metrics."""
