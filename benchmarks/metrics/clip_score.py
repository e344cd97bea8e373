"""What a clip scores where a metric's definition gives no number that a mean can hold.

  a silent output of an audible clip   the worst value: left out, it would raise the mean of the others
  an output equal to its original      the ceiling: an infinite score leaves neither interval nor comparison
  a clip whose channels cancel         is not silent: where the mono fold of the original holds nothing of it,
                                       the channels are scored one by one, and their mean is the clip's score

A silent original has no score (NaN and the reason): no system made it silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Value, and the reason when it is NaN, or what is special about it.
Score = tuple[float, "str | None"]


@dataclass(frozen=True)
class Limits:
    """The worst value of a metric and its ceiling, the unit they are shown with, and whether the ceiling means that
    nothing but gain differs."""

    worst: float
    ceiling: float
    unit: str = ""
    exact: bool = False


#: SI-SDR: float32 audio holds no difference from its original above 100 dB, and as far below 0 dB all that an output
#: shares with its original is rounding. Unrelated audio stays above (-40 to -90 dB), so silence never beats it.
LIMITS = {"si_sdr": Limits(-100.0, 100.0, " dB", exact=True), "visqol": Limits(1.0, 5.0)}


def clip_score(
    metric: Callable[[np.ndarray, np.ndarray], Score], limits: Limits, preds: np.ndarray, target: np.ndarray
) -> Score:
    """Score of one clip within the metric's limits.

    Args:
        metric: value of `(preds, target)`, and the reason when it is NaN.
        limits: of the metric.
        preds: output, (channels, samples).
        target: original, the same shape.

    Returns:
        The value and None; NaN and the reason; or a value that a rule above gave, and the rule.
    """
    from benchmarks.audio import cancels, is_silent

    one_by_one = cancels(target)
    pairs = list(zip(preds[:, None], target[:, None], strict=True)) if one_by_one else [(preds, target)]
    values: list[float] = []
    notes: dict[str, None] = {}
    for estimate, original in pairs:
        if is_silent(estimate) and not is_silent(original):
            values.append(limits.worst)
            notes[f"silent output, counted as {limits.worst:g}{limits.unit}"] = None
            continue
        value, reason = metric(estimate, original)
        if math.isnan(value):
            return value, reason
        values.append(min(max(value, limits.worst), limits.ceiling))
    mean = float(np.mean(values))
    if limits.exact and mean >= limits.ceiling:
        notes[f"exact, counted as {limits.ceiling:g}{limits.unit}"] = None
    if one_by_one:
        notes["channels that cancel as mono, scored one by one"] = None
    return mean, "; ".join(notes) or None
