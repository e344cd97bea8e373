"""The gate's statistics: Holm's correction, what could be detected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

#: Probability of catching a change of the stated minimum detectable effect.
POWER = 0.95


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979): family-wise error without assumptions."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * np.asarray(p_values)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def minimum_detectable(error: float, freedom: float, tolerance: float, cells: int, alpha: float) -> float:
    """The smallest true change that gets the verdict "worse" with probability `POWER`.

    It has to pass both hurdles: the tolerance, and the strictest step of Holm's correction.

    Args:
        error: standard error of the change.
        freedom: its degrees of freedom.
        tolerance: the change that is let through.
        cells: tests that are corrected for.
        alpha: bound on the probability of any false "worse".
    """
    if math.isnan(error) or freedom <= 0:
        return tolerance
    return _hurdle(error, freedom, tolerance, cells, alpha) + float(stdtrit(freedom, POWER)) * error


def power_of(change: float, error: float, freedom: float, tolerance: float, cells: int, alpha: float) -> float:
    """Probability that a true change gets the verdict "worse", the inverse of `minimum_detectable`; NaN if unknown."""
    if error == 0.0:
        return float(change > tolerance)
    return float(stdtr(freedom, (change - _hurdle(error, freedom, tolerance, cells, alpha)) / error))


def _hurdle(error: float, freedom: float, tolerance: float, cells: int, alpha: float) -> float:
    return max(tolerance, -float(stdtrit(freedom, alpha / max(cells, 1))) * error)
