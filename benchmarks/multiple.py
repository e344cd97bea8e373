"""One system against several: differences on the same clips, with intervals that hold for all of them at once.

Ten baselines are ten chances of a false alarm. All differences of a column are therefore resampled with the
same clips, and the bound is taken from the largest studentised deviation of a resample over all of them
(Westfall and Young's max-T, single step). Unlike Bonferroni's it uses how alike the differences are, and its
smallest p-value does not shrink with their number, so 200 resamples are enough for ten comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.stats import resample_indices

Values = npt.NDArray[np.float64]

_CHUNK = 250


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
    own: Mapping[str, float],
    others: Mapping[str, Mapping[str, float]],
    *,
    resamples: int,
    seed: int,
    level: float,
) -> list[Compared]:
    """One system's scores by clip against several others', each on the clips both have.

    A clip that one system lacks is missing from that comparison only. Where a difference is infinite (the SI-SDR of
    a perfect system) there is nothing to studentise: such a comparison is significant if every clip says so.
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
        draws = _mean_draws(table, resamples, seed)
        centres = np.nanmean(table, axis=0)
        counts = (~np.isnan(table)).sum(axis=0)
        found |= simultaneous(
            dict(zip(columns, zip(counts, centres, draws.T, strict=True), strict=True)), level
        )
    return [found[name] for name in others]


def compare_corpora(
    own: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], *, level: float
) -> list[Compared]:
    """One system's corpus distance against several others', draw by draw on the same clips.

    Args:
        own, others: aggregates of `benchmarks.corpus.corpus_distance` with their `clips`.
        level: coverage of the intervals.
    """
    found: dict[str, Compared] = {}
    family: dict[str, tuple[int, float, Values]] = {}
    for name, other in others.items():
        if "draws" not in own or "draws" not in other:
            found[name] = Compared(name, reason="no bootstrap draws")
        elif own["clips"] != other["clips"]:
            found[name] = Compared(name, reason="measured on different clips")
        else:
            draws = np.asarray(own["draws"], dtype=np.float64) - np.asarray(other["draws"], dtype=np.float64)
            family[name] = (int(own["n"]), float(own["value"] - other["value"]), draws)
    found |= simultaneous(family, level)
    return [found[name] for name in others]


def simultaneous(family: Mapping[str, tuple[int, float, Values]], level: float) -> dict[str, Compared]:
    """Intervals and adjusted p-values of differences drawn jointly.

    The interval is centred at the difference less its bootstrap bias (a resample repeats clips, which moves a
    Fréchet distance), and excludes 0 exactly when p <= 1 - level.

    Args:
        family: name -> (n, difference, draws of the difference); draw i is of the same clips for all.
        level: probability that all intervals hold.

    Raises:
        ValueError: level is not in (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level}: must be between 0 and 1")
    if not family:
        return {}
    draws = np.stack([values for _, _, values in family.values()], axis=1)
    centres = draws.mean(axis=0)
    spread = draws.std(axis=0, ddof=1)
    varies = spread > 1e-12 * np.maximum(np.abs(centres), 1e-300)
    scale = np.where(varies, spread, 1.0)
    deviations = np.where(varies, np.abs(draws - centres) / scale, 0.0).max(axis=1)
    n_draws = len(deviations)
    # The order statistic for which "outside the interval" and "p <= 1 - level" are the same statement.
    rank = math.ceil(level * (n_draws + 1))
    bound = float(np.sort(deviations)[rank - 1]) if rank <= n_draws else math.inf
    found = {}
    for index, (name, (n, difference, _)) in enumerate(family.items()):
        centre = 2 * difference - float(centres[index])
        if varies[index]:
            half = bound * float(spread[index])
            p = (1 + int((deviations >= abs(centre) / spread[index]).sum())) / (n_draws + 1)
        else:  # the same difference for every clip
            half, p = 0.0, 1.0 if difference == 0 else 1 / (n_draws + 1)
        low, high = float(centre - half), float(centre + half)
        found[name] = Compared(name, int(n), float(difference), low, high, p, low > 0 or high < 0)
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


def _mean_draws(table: Values, resamples: int, seed: int) -> Values:
    """Means of every column in each resample of the rows, `(resamples, columns)`; NaN cells do not count.

    A resample in which a column has no value takes that column's overall mean: it happens with columns of a
    few clips beside long ones, and says nothing.
    """
    present = ~np.isnan(table)
    values = np.where(present, table, 0.0)
    indices = resample_indices(len(table), resamples, seed)
    means = np.empty((resamples, table.shape[1]))
    overall = values.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    for start in range(0, resamples, _CHUNK):
        block = indices[start : start + _CHUNK]
        offsets = np.arange(len(block))[:, None] * len(table)
        counts = np.bincount((block + offsets).ravel(), minlength=len(block) * len(table))
        weights = counts.reshape(len(block), len(table)).astype(np.float64)
        totals, sums = weights @ present, weights @ values
        means[start : start + _CHUNK] = np.where(totals > 0, sums / np.maximum(totals, 1), overall)
    return means


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
    """Who is (not) significantly different, of those that could be compared."""
    return [
        record.against for record in records if record.reason is None and record.significant == significant
    ]
