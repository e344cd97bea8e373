"""The gate's statistics: bootstrap errors, p-values, Holm's correction, what could be detected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from benchmarks.statistics.bootstrap import count_draws, resample_blocks

Values = npt.NDArray[np.float64]

#: Probability of catching a change of the stated minimum detectable effect.
POWER = 0.95

#: Shares kept between cells, at most: 8 MB.
_KEPT = 2**20


def bootstrap_means(values: Values, resamples: int) -> Values:
    """(resamples,) means of `values` (n,) over each resample of the clips."""
    n = len(values)
    if n * resamples <= _KEPT:
        return _shares(n, resamples) @ values
    return np.concatenate([count_draws(block, n) / n @ values for block in resample_blocks(n, resamples, 0)])


@lru_cache(maxsize=4)
def _shares(n: int, resamples: int) -> Values:
    """(resamples, n) shares of the clips in each resample, kept for the next cell of the same size."""
    return np.concatenate([count_draws(block, n) / n for block in resample_blocks(n, resamples, 0)])


def pull_on(effects: Values, n: int, seed: int) -> Values:
    """(n,): covariance of each clip's count with the effects (draws,) of a bootstrap over n clips.

    It is the infinitesimal jackknife's estimate of a clip's influence (Efron 2014).
    """
    total, start = np.zeros(n), 0
    centered = effects - effects.mean()
    for block in resample_blocks(n, len(effects), seed):
        total += (count_draws(block, n) - 1.0).T @ centered[start : start + len(block)]
        start += len(block)
    return total / len(effects)


def bootstrap_error(draws: Values, n: int) -> float:
    """Standard error from bootstrap draws over n clips; rounding of equal draws counts as none.

    NaN for a single clip, which has no spread.
    """
    if n < 2:
        return math.nan
    error = float(np.std(draws, ddof=1)) * math.sqrt(n / (n - 1))
    return error if error > 1e-12 * float(np.abs(draws).max(initial=0.0)) else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979): family-wise error without assumptions."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]


def minimum_detectable(error: float, freedom: int, tolerance: float, cells: int, alpha: float) -> float:
    """The smallest true change that gets the verdict "worse" with probability `POWER`.

    It has to pass both hurdles: the tolerance, and the strictest step of Holm's correction.

    Args:
        error: standard error of the change.
        freedom: its degrees of freedom (groups of clips - 1).
        tolerance: the change that is let through.
        cells: tests that are corrected for.
        alpha: bound on the probability of any false "worse".
    """
    if math.isnan(error) or freedom < 1:
        return tolerance
    critical = -float(stdtrit(freedom, alpha / max(cells, 1)))
    power = float(stdtrit(freedom, POWER))
    return max(tolerance, critical * error) + power * error
