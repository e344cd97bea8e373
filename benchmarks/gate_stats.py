"""The gate's statistics: bootstrap errors, p-values, Holm's correction, what could be detected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from benchmarks.gate_policy import POWER
from benchmarks.stats import resample_indices

Values = npt.NDArray[np.float64]


@lru_cache(maxsize=4)
def bootstrap_weights(n: int, resamples: int) -> Values:
    """(resamples, n) shares of the clips in each resample; rows sum to 1."""
    return draw_counts(resample_indices(n, resamples, 0), n) / n


def draw_counts(indices: npt.NDArray[np.int64], n: int) -> Values:
    """(resamples, n): how often each draw repeats each of n clips."""
    counts = np.zeros((len(indices), n))
    np.add.at(counts, (np.arange(len(indices))[:, None], indices), 1.0)
    return counts


def bootstrap_error(draws: Values, n: int) -> float:
    """Standard error from bootstrap draws over n clips; rounding of equal draws counts as none.

    NaN for a single clip, which has no spread.
    """
    if n < 2:
        return math.nan
    error = float(np.std(draws, ddof=1)) * math.sqrt(n / (n - 1))
    return error if error > 1e-12 * float(np.abs(draws).max(initial=0.0)) else 0.0


def p_value(harm: float, error: float, n: int) -> float:
    """P(a change this bad or worse | no change); without an error, the change itself decides."""
    if math.isnan(error) or error == 0.0 or n < 2:
        return 0.0 if harm > 0.0 else 1.0
    return float(stdtr(n - 1, -harm / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979): family-wise error without assumptions."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]


def minimum_detectable(error: float, n: int, tolerance: float, cells: int, alpha: float) -> float:
    """The smallest true change that gets the verdict "worse" with probability `POWER`.

    It has to pass both hurdles: the tolerance, and the strictest step of Holm's correction.
    """
    if math.isnan(error) or n < 2:
        return tolerance
    critical = -float(stdtrit(n - 1, alpha / max(cells, 1)))
    power = float(stdtrit(n - 1, POWER))
    return max(tolerance, critical * error) + power * error
