"""The score of one clip, also where a metric's definition gives no number that a mean can hold.

  a silent output of an audible clip   the worst value: left out, it would raise the mean of the others
  an output equal to its original      the ceiling: an infinite score leaves neither interval nor comparison
  a clip whose channels cancel         is not silent: where the mono fold of the original holds nothing of it,
                                       the channels are scored one by one, and their mean is the clip's score

A silent original has no score (NaN and the reason): no system made it silent.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import all_silent
from m2l.audio import cancels, is_silent


def clip_score(metric: PairMetric, preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Score of one clip within the metric's limits.

    Args:
        metric: its function and limits.
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.

    Returns:
        The value and None; NaN and the reason; or a value that a rule above gave, and the rule.

    Raises:
        ValueError: the metric's function returns no number.
    """
    low, high = metric.limits
    one_by_one = metric.folds and cancels(target)
    pairs = list(zip(preds[:, None], target[:, None], strict=True)) if one_by_one else [(preds, target)]
    unit = f" {metric.unit}" if metric.unit else ""
    values: list[float] = []
    notes: dict[str, None] = {}
    for estimate, original in pairs:
        silent = is_silent if metric.folds else all_silent
        if metric.worst is not None and silent(estimate) and not silent(original):
            values.append(metric.worst)
            notes[f"silent output, counted as {metric.worst:g}{unit}"] = None
            continue
        value, reason = _score(metric, estimate, original, sample_rate)
        if math.isnan(value):
            return value, reason
        values.append(min(max(value, low), high))
    mean = float(np.mean(values))
    if metric.exact and mean == metric.best:
        notes[f"exact, counted as {metric.best:g}{unit}"] = None
    if one_by_one:
        notes["channels that cancel as mono, scored one by one"] = None
    return mean, "; ".join(notes) or None


def _score(metric: PairMetric, preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """What the metric's function gives, which may be a value alone."""
    found = metric.function(preds, target, sample_rate)
    value, reason = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    try:
        return float(value), reason
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise ValueError(f"metric {metric.name!r} returned {kind} {str(value)[:60]!r}, expected a number") from None
