"""Standard errors and intervals from replicates of a statistic: the jackknife over groups.

A replicate is the statistic without one block of groups of clips. The blocks follow from (seed, number of groups)
alone, so two systems on the same clips lack the same groups in replicate k, and any function of their replicates (a
difference, a logarithm) is paired replicate by replicate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.statistics.intervals import t_bound, two_sided_p_value

Values = npt.NDArray[np.float64]

JACKKNIFE = "jackknife"

#: Two distances whose replicates agree to this share of them differ by rounding alone.
_ROUNDING = 1e-9


def replicate_error(values: Sequence[float] | Values, replicates_of: str) -> tuple[float, float]:
    """Standard error of a statistic and its degrees of freedom, from the statistic's replicates.

    Args:
        values: one number per replicate, such as a distance, the difference of two, or the logarithm of one.
        replicates_of: how the replicates were made, as the cell says: "jackknife".

    Returns:
        The error (NaN for fewer than two replicates; 0 for equal ones), and the degrees of freedom of Student's t.

    Raises:
        ValueError: no such kind of replicates.
    """
    if replicates_of != JACKKNIFE:
        raise ValueError(f"replicates of {replicates_of!r}; known: {JACKKNIFE!r}")
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return math.nan, 0.0
    error = float(np.std(data)) * math.sqrt(len(data) - 1)
    return (error if error > 1e-12 * float(np.abs(data).max()) else 0.0), len(data) - 1.0


def difference_of_cells(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float, Values]:
    """a - b of two cells on the same clips, and its replicates; exactly 0 where they differ by rounding alone.

    Args:
        a, b: aggregates of `benchmarks.statistics.corpus.corpus_distance`.
    """
    first, second = np.asarray(a["replicates"]), np.asarray(b["replicates"])
    apart = first - second
    if np.abs(apart).max() <= _ROUNDING * max(np.abs(first).max(), np.abs(second).max()):
        return 0.0, np.zeros(len(apart))
    return float(a["value"] - b["value"]), apart


def jackknife_bias(value: float, replicates: Sequence[float] | Values, blocks: npt.NDArray[np.int32]) -> float:
    """Bias of a statistic whose bias falls as 1 / n, from its replicates without blocks of unequal size.

        Σ_b (1 - n_b / n) (replicate_b - value)                 [Busing, Meijer and van der Leeden 1999, Eq. 4]

    With blocks of one size it is Quenouille's (B - 1) (mean replicate - value). The weights keep the blocks' own
    influence, which is far larger than the bias, out of it.

    Args:
        value: the statistic of all clips.
        replicates: it without each block.
        blocks: (clips,) block of each clip.
    """
    shares = np.bincount(blocks) / len(blocks)
    return float(((1.0 - shares) * (np.asarray(replicates) - value)).sum())


def t_half_width(error: float, freedom: float, level: float) -> float:
    """Half the width of a symmetric interval: `error` times the quantile of Student's t; NaN without freedom.

    Raises:
        ValueError: level is not in (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level}: must be between 0 and 1")
    return error * t_bound(level, freedom)


def two_sided_p(difference: float, error: float, freedom: float) -> float:
    """P(|t| at least this large) for a difference and its error; an error of 0 lets the difference itself decide."""
    if math.isnan(error) or freedom <= 0:
        return math.nan
    if error == 0.0:
        return 1.0 if difference == 0.0 else 0.0
    return two_sided_p_value(difference / error, freedom)
