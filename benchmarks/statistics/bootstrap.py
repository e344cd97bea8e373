"""Bootstrap draws, means with intervals, and paired differences between systems.

Every draw comes from a generator seeded by (seed, number of clips), so two systems scored on the same
clips are resampled alike, whatever the order of evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.statistics.intervals import percentile_interval

Values = npt.NDArray[np.float64]

N_RESAMPLES = 2000
CONFIDENCE = 0.95
#: Resamples drawn at once, and the most indices among them: 16 MB as int32, whatever the number of clips.
_BLOCK_ROWS, _BLOCK_INDICES = 250, 2**22


@dataclass(frozen=True)
class Summary:
    """What a cell of a table shows: n counts the values behind `mean`, `n_nan` those left out."""

    n: int
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
    """Mean of a - b over the clips both have, with its interval; `significant` if the interval excludes 0."""

    n: int
    mean: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    @property
    def significant(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0.0 or self.high < 0.0


def resample_blocks(n: int, n_resamples: int, seed: int) -> Iterator[npt.NDArray[np.int32]]:
    """Indices drawn with replacement, in blocks (rows, n) of n_resamples rows together.

    The draws are the same for the same arguments everywhere, and do not depend on how they are cut into blocks;
    all of them at once would take gigabytes for 20,000 clips.

    Raises:
        ValueError: n or n_resamples is below 1 (when the first block is asked for).
    """
    if n < 1 or n_resamples < 1:
        raise ValueError(f"n={n} and n_resamples={n_resamples} must be at least 1")
    generator = np.random.Generator(np.random.PCG64([seed, n]))
    rows = min(_BLOCK_ROWS, max(1, _BLOCK_INDICES // n))
    for start in range(0, n_resamples, rows):
        size = (min(rows, n_resamples - start), n)
        yield generator.integers(0, n, size=size, dtype=np.int32)


def count_draws(indices: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    """(rows, n): how often each row of `indices` holds each of n clips."""
    offsets = np.arange(len(indices))[:, None] * n
    counts = np.bincount((indices + offsets).ravel(), minlength=len(indices) * n)
    return counts.reshape(len(indices), n)


def summarize(
    values: Sequence[float] | Values, *, n_resamples: int = N_RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Summary:
    """Mean, median, standard deviation and percentile-bootstrap interval of the mean.

    NaN values are counted and left out. Infinite values are kept, and make the mean infinite. With one value the
    interval is that value; with none everything is NaN.

    Raises:
        ValueError: `values` is not 1-D, or confidence is not in (0, 1).
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1:
        raise ValueError(f"values must be 1-D, got shape {data.shape}")
    kept = data[~np.isnan(data)]
    n_nan = len(data) - len(kept)
    if len(kept) == 0:
        return Summary(0, n_nan, math.nan, math.nan, math.nan, math.nan, math.nan, confidence)
    low, high = _mean_interval(kept, n_resamples, confidence, seed)
    with np.errstate(invalid="ignore"):
        std = float(np.std(kept, ddof=1)) if len(kept) > 1 else 0.0
        return Summary(len(kept), n_nan, float(np.mean(kept)), float(np.median(kept)), std, low, high, confidence)


def paired_difference(
    a: Mapping[str, float] | Sequence[float] | Values,
    b: Mapping[str, float] | Sequence[float] | Values,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Mean of a - b over the same clips with a paired-bootstrap interval.

    Args:
        a: values by clip id, or in the order of `b`.
        b: the other system's. Clips that one system lacks, or where either value is NaN, are left out;
            so is a clip where both are infinite alike (their difference is undefined).

    Raises:
        ValueError: two sequences of different lengths, or one mapping and one sequence.
    """
    if isinstance(a, Mapping) != isinstance(b, Mapping):
        raise ValueError("give two mappings by clip id, or two sequences in the same order")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        ids = sorted(a.keys() & b.keys())
        a, b = [a[i] for i in ids], [b[i] for i in ids]
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a has shape {x.shape}, b {y.shape}: they must be equal and 1-D")
    with np.errstate(invalid="ignore"):
        differences = x - y
    differences = differences[~np.isnan(differences)]
    if len(differences) == 0:
        return Difference(0, math.nan, math.nan, math.nan, confidence)
    low, high = _mean_interval(differences, n_resamples, confidence, seed)
    return Difference(len(differences), float(np.mean(differences)), low, high, confidence)


def _mean_interval(data: Values, n_resamples: int, confidence: float, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean; where values are infinite it follows the extended real line."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    with np.errstate(invalid="ignore"):
        blocks = [data[block].mean(axis=1) for block in resample_blocks(len(data), n_resamples, seed)]
    means = np.concatenate(blocks)
    if np.isnan(means).any():  # +inf and -inf in one resample
        return math.nan, math.nan
    # Nearest-rank quantiles where infinities are among the means: interpolating would give inf - inf.
    method = "linear" if np.isfinite(means).all() else "nearest"
    return percentile_interval(means, confidence, method)
