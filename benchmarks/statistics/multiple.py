"""One system against several: differences on the same clips, with intervals that hold for all of them at once.

Ten baselines are ten chances of a false alarm. All differences of a column are therefore resampled with the
same clips, and the bound is taken from the largest studentized deviation of a resample over all of them
(Westfall and Young's max-T, single step). Unlike Bonferroni's it uses how alike the differences are, and its
smallest p-value does not grow with their number, so 200 resamples are enough for ten comparisons.

Means of scores are studentized in every resample by that resample's own standard error (bootstrap-t): with
40 clips and skewed scores this is what keeps the promise. Corpus distances have no such error; theirs is the
spread of all draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.statistics.bootstrap import count_draws, resample_blocks
from benchmarks.statistics.intervals import max_t_bound, shifted_center

Values = npt.NDArray[np.float64]

#: Where one clip is far from the others (a silent or an exact output), a resample without it takes the spread for next
#: to nothing, and a third of all resamples are without it: the interval would hold anything. A resample's error is
#: therefore taken as at least this share of the whole's. By simulation (normal, lognormal, a fifth at the ceiling)
#: that narrows intervals from 100 to 2.5 errors there, and costs their coverage 0 to .03 with 6 clips, nothing with 42.
_LEAST_ERROR = 0.4
#: With fewer clips the errors of resamples are all there is against overconfidence.
_FEW = 5


@dataclass(frozen=True)
class Compared:
    """A difference a - b on the clips both have.

    Attributes:
        against: name of b.
        n: clips behind it.
        difference: mean difference of scores, or difference of two corpus distances.
        low, high: simultaneous interval.
        p: p-value, adjusted for all comparisons made together; small means different.
        significant: whether the interval excludes 0.
        reason: why there is no interval.
    """

    against: str
    n: int = 0
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    significant: bool = False
    reason: str | None = None


def compare_scores(
    own: Mapping[str, float], others: Mapping[str, Mapping[str, float]], *, resamples: int, seed: int, level: float
) -> list[Compared]:
    """One system's scores by clip against several others', each on the clips both have.

    A clip that one system lacks is missing from that comparison only. Where a difference is infinite (the SI-SDR of
    a perfect system) there is nothing to studentize: such a comparison is significant if every clip says so.
    """
    found: dict[str, Compared] = {}
    columns: dict[str, dict[str, float]] = {}
    for name, scores in others.items():
        shared = own.keys() & scores.keys()
        both = {clip: own[clip] - scores[clip] for clip in shared if own[clip] != scores[clip]}
        both |= {clip: 0.0 for clip in shared if own[clip] == scores[clip]}
        both = {clip: value for clip, value in both.items() if not math.isnan(value)}
        values = np.array(list(both.values()))
        if len(both) < 2:
            found[name] = Compared(name, len(both), reason=f"{len(both)} clips in common: at least 2 needed")
        elif np.isinf(values).any():
            found[name] = _infinite(name, values, resamples)
        else:
            columns[name] = both
    if columns:
        clips = sorted(set().union(*columns.values()))
        table = np.array([[column.get(clip, math.nan) for column in columns.values()] for clip in clips])
        means, errors, deviations = _studentized(table, resamples, seed)
        counts = (~np.isnan(table)).sum(axis=0)
        family = [
            Drawn(name, int(n), float(mean), float(mean), float(error))
            for name, n, mean, error in zip(columns, counts, means, errors, strict=True)
        ]
        found |= simultaneous(family, deviations, level)
    return [found[name] for name in others]


def compare_corpora(own: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], *, level: float) -> list[Compared]:
    """One system's corpus distance against several others', draw by draw on the same clips.

    Args:
        own, others: aggregates of `benchmarks.statistics.corpus.corpus_distance` with their `clips`.
        level: coverage of the intervals.
    """
    found: dict[str, Compared] = {}
    family, deviations = [], []
    for name, other in others.items():
        if "draws" not in own or "draws" not in other:
            found[name] = Compared(name, reason="no bootstrap draws")
        elif own["clips"] != other["clips"]:
            found[name] = Compared(name, reason="measured on different clips")
        else:
            draws = np.asarray(own["draws"], dtype=np.float64) - np.asarray(other["draws"], dtype=np.float64)
            difference = float(own["value"] - other["value"])
            middle, spread = float(draws.mean()), float(draws.std(ddof=1))
            # A resample repeats clips, which moves a Fréchet distance: that bias is taken off.
            family.append(Drawn(name, int(own["n"]), difference, shifted_center(difference, draws), spread))
            deviations.append(_ratio(np.abs(draws - middle), spread))
    if family:
        found |= simultaneous(family, np.stack(deviations, axis=1), level)
    return [found[name] for name in others]


@dataclass(frozen=True)
class Drawn:
    """A difference before it is decided: its value, the middle of its interval, and its standard error."""

    name: str
    n: int
    difference: float
    center: float
    error: float


def simultaneous(family: Sequence[Drawn], deviations: Values, level: float) -> dict[str, Compared]:
    """Intervals and adjusted p-values of differences drawn jointly.

    An interval excludes 0 exactly when p <= 1 - level.

    Args:
        family: the differences.
        deviations: studentized deviations `(draws, differences)`; a row is of the same clips for all.
        level: probability that all intervals hold.

    Raises:
        ValueError: level is not in (0, 1).
    """
    bound, largest = max_t_bound(deviations, level)
    n_draws = len(largest)
    found = {}
    for item in family:
        if item.error > 0:
            half = bound * item.error
            p = (1 + int((largest >= abs(item.center) / item.error).sum())) / (n_draws + 1)
        else:  # the same difference for every clip
            half, p = 0.0, 1.0 if item.center == 0 else 1 / (n_draws + 1)
        low, high = item.center - half, item.center + half
        significant = low > 0 or high < 0
        found[item.name] = Compared(item.name, item.n, item.difference, low, high, p, significant)
    return found


def _infinite(name: str, values: Values, resamples: int) -> Compared:
    """A comparison in which a clip's difference is infinite."""
    n = len(values)
    if (values == math.inf).all() or (values == -math.inf).all():
        bound = float(values[0])
        return Compared(name, n, bound, bound, bound, 1 / (resamples + 1), True)
    with np.errstate(invalid="ignore"):
        mean = float(values.mean())
    return Compared(name, n, mean, reason="infinite for some clips and finite for others")


def _studentized(table: Values, resamples: int, seed: int) -> tuple[Values, Values, Values]:
    """Means of the columns, their standard errors, and |mean* - mean| / error* in each resample of the rows.

    Args:
        table: `(clips, columns)`; NaN cells do not count.

    Returns:
        means and errors `(columns,)`; deviations `(resamples, columns)`. A resample that holds fewer than two values
        of a column says nothing about it (0); one of fewer than `_FEW` that holds equal values says that nothing is
        known (infinity).
    """
    present = ~np.isnan(table)
    n = present.sum(axis=0)
    means = np.where(present, table, 0.0).sum(axis=0) / n
    values = np.where(present, table - means, 0.0)  # centered, so that squares lose no digits
    scale = np.abs(np.where(present, table, 0.0)).max(axis=0)
    squares = np.square(values)
    errors = np.sqrt(squares.sum(axis=0) / (n - 1) / n)
    errors = np.where(errors > 1e-12 * scale, errors, 0.0)  # what rounding leaves of equal differences
    least = np.where(n >= _FEW, _LEAST_ERROR * errors, 0.0)
    deviations = []
    for block in resample_blocks(len(table), resamples, seed):
        weights = count_draws(block, len(table)).astype(np.float64)
        totals = weights @ present
        shift = weights @ values / np.maximum(totals, 1)
        spread = np.maximum(weights @ squares / np.maximum(totals, 1) - np.square(shift), 0.0)
        error = np.sqrt(spread / np.maximum(totals - 1, 1))
        error = np.maximum(np.where(error > 1e-9 * errors, error, 0.0), least)
        deviations.append(np.where(totals > 1, _ratio(np.abs(shift), error), 0.0))
    return means, errors, np.where(errors > 0, np.concatenate(deviations), 0.0)


def _ratio(values: Values, scale: Values | float) -> Values:
    """values / scale, with 0 / 0 = 0 and infinity where only the scale is 0."""
    scale = np.broadcast_to(scale, values.shape)
    safe = np.where(scale > 0, scale, 1.0)
    return np.where(scale > 0, values / safe, np.where(values > 1e-12, math.inf, 0.0))


def best_of(values: Mapping[str, float], higher_is_better: bool) -> list[str]:
    """The names with the best value (several only when exactly equal)."""
    if not values:
        return []
    top = (max if higher_is_better else min)(values.values())
    return [name for name, value in values.items() if value == top]


def verdict(compared: Compared, higher_is_better: bool) -> str:
    """ "better", "worse", "no difference" (none shown) or "not compared", of a against b."""
    if compared.reason is not None or math.isnan(compared.difference):
        return "not compared"
    if not compared.significant:
        return "no difference"
    return "better" if (compared.low > 0) == higher_is_better else "worse"


def names_of(records: Sequence[Compared], significant: bool) -> list[str]:
    """Names that are (not) significantly different, of those that could be compared."""
    return [record.against for record in records if record.reason is None and record.significant == significant]
