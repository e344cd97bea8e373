"""Every way in which this project makes an interval or a p-value, and when it is right; the bounds of some of them.

The unit is always the group of clips (`groups.py`), for clips of a track resemble each other.

  a mean over clips           bootstrap-t with equal tails, never narrower than Student's t with the cluster-robust
  (`means.py`)                error (`order_bound`, `bootstrap_p_value`): scores may be skewed, groups unequal in size.
                              With fewer than six groups Student's t alone (`t_bound`, `two_sided_p_value`)
  one system's means against  max-T over the same resamples (`max_t_bound`): all intervals hold at once
  several (`multiple.py`)
  a distance of corpora       Student's t with the jackknife's error; a Fréchet distance on the logarithmic scale, since
  (`corpus.py`)               it is a sum of squares. No resamples: one that repeats clips is biased, and more so than
                              the clips themselves
  several distances           max-T over draws from the jackknife's joint law
  all pairs of a column       Holm over their p-values (`multiple.adjust_pairs`): any statistic, any dependence
  a change in the gate        one-sided t with the jackknife's error (`t_p_value`), Holm over all cells: p-values far
                              below 1 / resamples count there

Percentiles of bootstrap draws are in none of them: at a nominal 95 % they cover 91 to 93 % for the mean of 20 clips,
and 71 % for 42 clips of 18 tracks taken as independent.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

Values = npt.NDArray[np.float64]

#: Resamples from which on their share is a p-value.
_TAIL = 10


def max_t_bound(deviations: Values, level: float) -> tuple[float, Values]:
    """How many standard errors every interval of a family has to span so that all hold at once.

    Right for several differences that are resampled jointly (Westfall and Young's max-T, single step): unlike
    Bonferroni's bound it uses how alike the differences are. Where the deviations are studentized by the error of
    their own resample (bootstrap-t), it keeps its promise for small samples of skewed scores.

    Args:
        deviations: studentized deviations `(draws, differences)`; a row is of the same clips for all.
        level: probability that all intervals hold.

    Returns:
        The bound, and the largest deviation of each draw in ascending order, from which p-values follow.

    Raises:
        ValueError: level is not in (0, 1).
    """
    largest = np.sort(deviations.max(axis=1))
    return order_bound(largest, level), largest


def order_bound(ascending: Values, level: float) -> float:
    """The order statistic for which "beyond it" and "p <= 1 - level" are the same; infinite for too few draws.

    Raises:
        ValueError: level is not in (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level}: must be between 0 and 1")
    rank = math.ceil(level * (len(ascending) + 1) - 1e-9)
    return float(ascending[rank - 1]) if rank <= len(ascending) else math.inf


def t_bound(level: float, freedom: float) -> float:
    """How many standard errors Student's two-sided interval spans; `freedom` may be fractional or infinite."""
    return -float(stdtrit(freedom, (1.0 - level) / 2.0))


def two_sided_p_value(statistic: float, freedom: float) -> float:
    """P(|t| at least this large) of Student's t."""
    return 2.0 * float(stdtr(freedom, -abs(statistic)))


def bootstrap_p_value(statistic: float, ascending: Values, freedom: float, level: float) -> float:
    """P(a draw of at least `statistic`), at most 1 - level exactly when the statistic is beyond `order_bound`.

    The share of draws that are as large, as long as there are `_TAIL` of them. Beyond, where a share would be too
    coarse for a correction for many comparisons, Student's t goes on from there, stretched so that it meets the share
    at that point: it keeps the skew that the draws show.

    Args:
        statistic: a difference in standard errors, not negative.
        ascending: the draws in ascending order.
        freedom: degrees of freedom of the tail.
        level: 1 - the share beyond the bound.
    """
    n = len(ascending)
    beyond = n - int(np.searchsorted(ascending, statistic, side="left"))
    share = (1 + _TAIL) / (n + 1)
    if beyond >= _TAIL or share > 1.0 - level or not 0.0 < ascending[-_TAIL] < math.inf:
        return (1 + beyond) / (n + 1)
    return float(stdtr(freedom, statistic / float(ascending[-_TAIL]) * float(stdtrit(freedom, share))))


def t_p_value(harm: float, error: float, freedom: float) -> float:
    """P(a change this bad or worse | no change) from Student's t.

    Right where p-values below 1 / resamples are needed and the mean of the differences of n groups is nearly normal.
    Between equal runs the differences are symmetric, and the test is exact or conservative.

    Args:
        harm: change in the bad direction.
        error: its standard error. Without one (0, NaN, a single group) the change itself decides.
        freedom: degrees of freedom of the error, groups - 1 or fewer.
    """
    if math.isnan(error) or error == 0.0 or freedom <= 0:
        return 0.0 if harm > 0.0 else 1.0
    return float(stdtr(freedom, -harm / error))
