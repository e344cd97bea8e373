"""Means over clips with intervals, and paired differences between systems.

The estimate is the mean over clips; what is resampled is the group (`benchmarks.statistics.groups`). The interval
spans a number of standard errors to either side. With S_g and n_g the sum and number of the values of group g, the
squared error is the cluster-robust `G / (G - 1) * sum((S_g - n_g mean)^2) / n^2` (Liang and Zeger 1986, with the usual
small-sample factor), which for one clip per group is the standard error of a mean.

The bounds are those of the bootstrap-t with equal tails: quantiles of (mean* - mean) / error*, where each resample of
the groups has its own error, so that the interval follows the skew of the scores. Neither is below Student's with
`n^2 / sum(n_g^2) - 1` degrees of freedom, by the effective number of groups (Carter, Schnepel and Steigerwald 2017):
where one group holds half of the clips, resamples alone are too confident. With fewer than `FEW_GROUPS` groups they say
little, and both bounds are Student's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.statistics.bootstrap import CONFIDENCE, N_RESAMPLES, Values
from benchmarks.statistics.groups import Index, group_index, group_sums, group_weights, number_groups
from benchmarks.statistics.intervals import bootstrap_p_value, order_bound, t_bound, two_sided_p_value

Labels = Sequence[str] | Sequence[int] | np.ndarray

#: From this many groups on the bootstrap gives the bound; with fewer, Student's t.
FEW_GROUPS = 6
#: Where one clip is far from the others (a silent or an exact output), a resample without it takes the spread for next
#: to nothing, and a third of all resamples are without it: the interval would hold anything. A resample's error is
#: therefore taken as at least this share of the whole's. By simulation (normal, lognormal, a fifth at the ceiling)
#: that narrows intervals from 100 to 2.5 errors there, and costs their coverage 0 to .03 with 6 clips, nothing with 42.
_LEAST_ERROR = 0.4
#: With fewer groups the errors of resamples are all there is against overconfidence.
_FEW = 5


@dataclass(frozen=True)
class Summary:
    """What a cell of a table shows.

    Attributes:
        n: values behind `mean`.
        n_groups: groups of clips among them.
        n_nan: values left out.
        low, high: interval of the mean; NaN where there is none.
    """

    n: int
    n_groups: int
    n_nan: int
    mean: float
    median: float
    std: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over the clips both have.

    Attributes:
        n, n_groups: clips and groups behind it.
        mean: the mean difference.
        low, high: its interval; NaN where there is none.
        error: cluster-robust standard error, NaN for a single group.
        freedom: its degrees of freedom, the effective number of groups - 1.
        p: two-sided p-value of "no difference", of this pair alone; at most 1 - confidence exactly when `significant`.
    """

    n: int
    n_groups: int
    mean: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    freedom: float = 0.0
    p: float = 1.0
    confidence: float = CONFIDENCE

    @property
    def significant(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True)
class Studentized:
    """Means of the columns of a table, and how far those of resamples lie from them.

    Attributes:
        means, errors: (columns,) means over clips and their cluster-robust standard errors.
        n, n_groups: (columns,) values and groups behind them.
        freedom: (columns,) effective number of groups - 1.
        deviations: (resamples, columns) (mean* - mean) / error*.
    """

    means: Values
    errors: Values
    n: np.ndarray
    n_groups: np.ndarray
    freedom: Values
    deviations: Values


def summarize(
    values: Sequence[float] | Values,
    groups: Labels | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Summary:
    """Mean, median, standard deviation and interval of the mean.

    NaN values are counted and left out. Infinite values are kept, make the mean infinite and leave no interval, unless
    all are the same. The values of a single group have no interval either (NaN), nor has a single value.

    Args:
        values: (n,) one per clip.
        groups: (n,) the group of each; None: each clip is its own.

    Raises:
        ValueError: `values` is not 1-D, `groups` has another length, or confidence is not in (0, 1).
    """
    data, index = _with_groups(values, groups)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    n_nan = int(np.isnan(data).sum())
    found = _mean(data, index, n_resamples, confidence, seed)
    kept = data[~np.isnan(data)]
    median = std = math.nan
    if len(kept):
        with np.errstate(invalid="ignore"):
            median, std = float(np.median(kept)), float(np.std(kept, ddof=1)) if len(kept) > 1 else 0.0
    return Summary(found.n, found.n_groups, n_nan, found.mean, median, std, found.low, found.high, confidence)


def paired_difference(
    a: Mapping[str, float] | Sequence[float] | Values,
    b: Mapping[str, float] | Sequence[float] | Values,
    groups: Mapping[str, str] | Labels | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Mean of a - b over the same clips, with its interval and p-value.

    Args:
        a: values by clip id, or in the order of `b`.
        b: the other system's. Clips that one system lacks, or where either value is NaN, are left out;
            so is a clip where both are infinite alike (their difference is undefined).
        groups: clip -> group beside mappings, the group of each value beside sequences; None: each clip is its own.

    Raises:
        ValueError: sequences of different lengths, a mapping beside a sequence, or confidence is not in (0, 1).
    """
    if isinstance(a, Mapping) != isinstance(b, Mapping):
        raise ValueError("give two mappings by clip id, or two sequences in the same order")
    if groups is not None and isinstance(a, Mapping) != isinstance(groups, Mapping):
        raise ValueError("groups are a mapping by clip id beside mappings, a sequence beside sequences")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    if isinstance(a, Mapping):
        assert isinstance(b, Mapping)
        ids = sorted(a.keys() & b.keys())
        a, b = [a[i] for i in ids], [b[i] for i in ids]
        groups = group_index(ids, groups if isinstance(groups, Mapping) else None)
    assert not isinstance(groups, Mapping)
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a has shape {x.shape}, b {y.shape}: they must be equal and 1-D")
    with np.errstate(invalid="ignore"):
        differences, index = _with_groups(x - y, groups)
    return _mean(differences, index, n_resamples, confidence, seed)


def _with_groups(values: Sequence[float] | Values, groups: Labels | None) -> tuple[Values, Index]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise ValueError(f"values must be 1-D, got shape {data.shape}")
    if groups is not None and len(groups) != len(data):
        raise ValueError(f"{len(groups)} groups for {len(data)} values")
    return data, np.arange(len(data), dtype=np.int32) if groups is None else number_groups(groups)


def _mean(data: Values, index: Index, n_resamples: int, confidence: float, seed: int) -> Difference:
    """A mean with everything that is said about it; NaN values are left out."""
    present = ~np.isnan(data)
    data, index = data[present], number_groups(index[present])
    n, n_groups = len(data), 1 + int(index.max(initial=-1))
    if np.isinf(data).any():
        return _infinite(data, n_groups, confidence)
    if n_groups < 2:
        return Difference(n, n_groups, float(data.mean()) if n else math.nan, confidence=confidence)
    [found] = differences_of(studentized(data[:, None], index, n_resamples, seed), confidence)
    return found


def _infinite(data: Values, n_groups: int, confidence: float) -> Difference:
    """The mean of values of which some are infinite: known for sure if all are the same, else without an interval."""
    with np.errstate(invalid="ignore"):
        mean = float(data.mean())
    if n_groups > 1 and (data == data[0]).all():
        return Difference(len(data), n_groups, mean, mean, mean, 0.0, n_groups - 1.0, 0.0, confidence)
    return Difference(len(data), n_groups, mean, confidence=confidence)


def differences_of(found: Studentized, confidence: float) -> list[Difference]:
    """Each column by itself: its interval, and the p-value of the mean 0."""
    made = []
    for i, deviations in enumerate(found.deviations.T):
        mean, error, freedom = float(found.means[i]), float(found.errors[i]), float(found.freedom[i])
        n, n_groups = int(found.n[i]), int(found.n_groups[i])
        if n_groups < 2:
            made.append(Difference(n, n_groups, mean, confidence=confidence))
        elif error == 0.0:  # the same value for every clip
            made.append(Difference(n, n_groups, mean, mean, mean, 0.0, freedom, float(mean == 0.0), confidence))
        else:
            student = t_bound(confidence, freedom)
            below = above = student
            p = two_sided_p_value(mean / error, freedom)
            if n_groups >= FEW_GROUPS:
                draws, level = np.sort(deviations), (1.0 + confidence) / 2.0
                mirrored = -draws[::-1]
                below, above = (max(student, order_bound(side, level)) for side in (draws, mirrored))
                tail = bootstrap_p_value(abs(mean) / error, draws if mean > 0 else mirrored, freedom, level)
                p = min(1.0, max(p, 2.0 * tail))
            low, high = mean - below * error, mean + above * error
            made.append(Difference(n, n_groups, mean, low, high, error, freedom, p, confidence))
    return made


def studentized(table: Values, index: Index, resamples: int, seed: int) -> Studentized:
    """Means of the columns, their standard errors, and (mean* - mean) / error* in each resample of the groups.

    A resample that holds fewer than two groups of a column says nothing about it (0); one of fewer than `_FEW` that
    holds equal values says that nothing is known (infinity).

    Args:
        table: `(clips, columns)`; NaN cells do not count.
        index: (clips,) group of each row.
    """
    present = ~np.isnan(table)
    n = present.sum(axis=0)
    filled = np.where(present, table, 0.0)
    means = filled.sum(axis=0) / np.maximum(n, 1)
    scale = np.abs(filled).max(axis=0)
    # By group: sums of centered values (so that squares lose no digits), and numbers of values.
    sums = group_sums(np.where(present, table - means, 0.0), index)
    sizes = group_sums(present.astype(np.float64), index)
    there = sizes > 0
    n_groups = there.sum(axis=0)
    factor = n_groups / np.maximum(n_groups - 1, 1)
    errors = np.sqrt(factor * np.square(sums).sum(axis=0)) / np.maximum(n, 1)
    errors = np.where(errors > 1e-12 * scale, errors, 0.0)  # what rounding leaves of equal values
    least = _LEAST_ERROR * errors * (n_groups >= _FEW)
    squares, products, sizes_squared = np.square(sums), sums * sizes, np.square(sizes)
    freedom = np.square(n) / np.maximum(sizes_squared.sum(axis=0), 1) - 1.0
    deviations = []
    for block in group_weights(len(sums), resamples, seed):
        weights = block.astype(np.float64)
        totals, drawn = np.maximum(weights @ sizes, 1), weights @ there
        shift = weights @ sums / totals
        # sum of w (S - n shift)^2, multiplied out
        spread = weights @ squares - 2 * shift * (weights @ products) + np.square(shift) * (weights @ sizes_squared)
        error = np.sqrt(np.maximum(spread, 0.0) * drawn / np.maximum(drawn - 1, 1)) / totals
        # Of equal values the difference of squares leaves some 1e-8 of the whole's error.
        error = np.maximum(error * (error > 1e-6 * errors), least)
        deviations.append(np.where(drawn > 1, np.copysign(ratio(np.abs(shift), error), shift), 0.0))
    return Studentized(means, errors, n, n_groups, freedom, np.where(errors > 0, np.concatenate(deviations), 0.0))


def ratio(values: Values, scale: Values | float) -> Values:
    """values / scale, with 0 / 0 = 0 and infinity where only the scale is 0."""
    return np.divide(values, scale, out=np.where(values > 1e-12, math.inf, 0.0), where=np.greater(scale, 0))
