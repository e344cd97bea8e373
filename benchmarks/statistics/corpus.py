"""Distances of corpora of embeddings with intervals over clips, and their comparison on the same draws.

The unit of resampling is the clip (its windows stay together), and a clip is drawn on both sides at once:
a reconstruction belongs to its original. The draws depend on (seed, number of clips) only, so that two
systems on the same clips are compared draw by draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.metrics.frechet import frechet_distance, frechet_infinity
from benchmarks.metrics.kernel import SCALE, kernel_distance, median_bandwidth
from benchmarks.metrics.moments import Moments
from benchmarks.registry import did_you_mean, load_target
from benchmarks.statistics.bootstrap import Values, count_draws, resample_blocks
from benchmarks.statistics.intervals import basic_interval, percentile_interval

Clips = Sequence[np.ndarray]


def corpus_distance(
    distance: str, reference: Clips, outputs: Clips, *, seed: int, resamples: int, level: float
) -> dict[str, Any]:
    """Value, n, interval and bootstrap draws of a distance.

    Args:
        distance: a name in `DISTANCES`, or `"module:function"` of a function like those.
        reference: per clip, embeddings `(windows, dim)`.
        outputs: the same clips in the same order.

    Returns:
        `value`, `n` (clips), `n_windows`, and where there is an interval `low`, `high`, `draws`.

    Raises:
        ValueError: fewer than two clips, or too few embeddings for the distance.
    """
    if len(reference) < 2:
        raise ValueError(f"{len(reference)} clips: a distance of corpora needs at least 2")
    function = DISTANCES.get(distance) or (load_target(distance) if ":" in distance else None)
    if function is None:
        raise ValueError(f"unknown distance {distance!r}; {did_you_mean(distance, DISTANCES)}")
    found = function(reference, outputs, seed=seed, resamples=resamples, level=level)
    n_windows = sum(len(clip) for clip in outputs)
    return {"n": len(reference), "n_windows": n_windows, **found}


def frechet(reference: Clips, outputs: Clips, *, seed: int, resamples: int, level: float) -> dict[str, Any]:
    """The Fréchet distance; the interval is the basic one, since a resample that repeats clips is farther away."""
    value, draws = _frechet(reference, outputs, resamples, seed)
    low, high = (max(bound, 0.0) for bound in basic_interval(value, draws, level))
    return _drawn(value, low, high, draws)


def frechet_at_infinity(reference: Clips, outputs: Clips, *, seed: int, resamples: int, level: float) -> dict[str, Any]:
    """The Fréchet distance extrapolated to infinitely many clips; it has no interval."""
    return {"value": float(frechet_infinity(reference, outputs, paired=True, seed=seed).value)}


def kernel(reference: Clips, outputs: Clips, *, seed: int, resamples: int, level: float) -> dict[str, Any]:
    """The kernel audio distance; it is unbiased in resamples as well, so the interval is that of percentiles."""
    paired = _are_paired(reference, outputs)
    value = kernel_distance(np.concatenate(reference), np.concatenate(outputs), paired=paired)
    draws = _kernel_draws(reference, outputs, resample_blocks(len(reference), resamples, seed), paired=paired)
    low, high = percentile_interval(draws, level)
    return _drawn(value, low, high, draws)


#: Distances of corpora by the name before the colon of a metric.
DISTANCES: dict[str, Callable[..., dict[str, Any]]] = {"fad": frechet, "fad_inf": frechet_at_infinity, "kad": kernel}


def _drawn(value: float, low: float, high: float, draws: Sequence[float]) -> dict[str, Any]:
    return {"value": float(value), "low": low, "high": high, "draws": [float(draw) for draw in draws]}


def compare_draws(cells: Mapping[str, Mapping[str, Any]], *, level: float) -> list[dict[str, Any]]:
    """Differences of every two systems, draw by draw; systems on different clips are not compared."""
    found: list[dict[str, Any]] = []
    names = list(cells)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = cells[first], cells[second]
            if "draws" not in a or "draws" not in b:
                continue
            record: dict[str, Any] = {"a": first, "b": second, "n": a["n"]}
            if a["clips"] != b["clips"]:
                found.append(record | {"reason": "measured on different clips"})
                continue
            value = a["value"] - b["value"]
            shifts = np.asarray(a["draws"]) - np.asarray(b["draws"])
            low, high = basic_interval(value, shifts, level)
            significant = low > 0 or high < 0
            found.append(record | {"difference": value, "low": low, "high": high, "significant": significant})
    return found


def _frechet(reference: Clips, outputs: Clips, resamples: int, seed: int) -> tuple[float, list[float]]:
    """The distance, and one per resample of the clips; exactly 0 for a system that changes nothing."""
    if all(np.array_equal(a, b) for a, b in zip(reference, outputs, strict=True)):
        return 0.0, [0.0] * resamples
    return frechet_draws(reference, outputs, resample_blocks(len(reference), resamples, seed))


def frechet_draws(
    reference: Sequence[np.ndarray], system: Sequence[np.ndarray], indices: Iterable[np.ndarray]
) -> tuple[float, list[float]]:
    """Fréchet distance of two paired sets of clips, and of each resample of the clips.

    Both sets are resampled with the same clips: a system's output belongs to its reference. A resample
    repeats clips and so has a larger small-sample bias than the sets themselves; the basic interval
    (2 d - quantiles of the draws) takes that shift off again.

    Args:
        reference: per clip, embeddings (windows, dim).
        system: the same clips in the same order.
        indices: blocks (rows, n_clips) from `resample_blocks`.

    Returns:
        The distance, and one distance per row of the blocks.

    Raises:
        ValueError: different numbers of clips, or a set with fewer than 2 embeddings.
    """
    if len(reference) != len(system):
        raise ValueError(f"the reference has {len(reference)} clips, the system {len(system)}")
    sets = []
    for clips in (reference, system):
        parts = [np.atleast_2d(np.asarray(clip, dtype=np.float64)) for clip in clips]
        sets.append((np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])))

    def distance(counts: npt.NDArray[np.int64]) -> float:
        a, b = (_repeated(rows, counts[clip]) for rows, clip in sets)
        return frechet_distance(a, b)

    whole = distance(np.ones(len(reference), dtype=np.int64))
    draws = [distance(counts) for block in indices for counts in count_draws(block, len(reference))]
    return whole, draws


def _repeated(rows: Values, counts: npt.NDArray[np.int64]) -> Moments:
    """Moments of `rows` with row i taken counts[i] times; large sets by one weighted product, no copies."""
    used = counts > 0
    rows, counts = rows[used], counts[used]
    n = int(counts.sum())
    if n <= 2 * rows.shape[1]:
        return Moments.from_embeddings(np.repeat(rows, counts, axis=0))
    mean = counts @ rows / n
    weighted = (rows - mean) * np.sqrt(counts)[:, None]
    return Moments(n, mean, weighted.T @ weighted)


def _are_paired(reference: Clips, outputs: Clips) -> bool:
    """Whether window i of every output stands for window i of its original."""
    return all(len(a) == len(b) for a, b in zip(reference, outputs, strict=True))


def _kernel_draws(reference: Clips, outputs: Clips, blocks: Iterable[np.ndarray], *, paired: bool) -> list[float]:
    """Unbiased MMD² x scale for each draw of clips, given in blocks (rows, n_clips).

    Kernel sums between clips are taken once. A clip drawn w times counts w² times against others but w
    times against itself: copies of one clip say nothing about the distance between two.
    """
    sigma = median_bandwidth(np.concatenate(reference))
    sums = {
        "xx": _clip_sums(reference, reference, sigma, within=True),
        "yy": _clip_sums(outputs, outputs, sigma, within=True),
        "xy": _clip_sums(reference, outputs, sigma, within=paired),
    }
    n = len(reference)
    draws = []
    for weights in (row.astype(np.float64) for block in blocks for row in count_draws(block, n)):
        pairs = np.outer(weights, weights)
        np.fill_diagonal(pairs, weights)
        means = {name: float((pairs * total).sum() / (pairs * count).sum()) for name, (total, count) in sums.items()}
        draws.append(SCALE * (means["xx"] + means["yy"] - 2 * means["xy"]))
    return draws


def _clip_sums(x: Clips, y: Clips, sigma: float, *, within: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the Gaussian kernel over the windows of every two clips, and how many pairs they hold."""
    total = np.empty((len(x), len(y)))
    rows = np.concatenate(y).astype(np.float64)
    ends = np.cumsum([0, *(len(clip) for clip in y)])
    squares = np.square(rows).sum(axis=1)
    for i, clip in enumerate(x):
        a = clip.astype(np.float64)
        gaps = np.square(a).sum(axis=1)[:, None] + squares - 2 * a @ rows.T
        kernel = np.exp(np.maximum(gaps, 0.0) / (-2 * sigma**2))
        if within:  # a window is compared neither with itself nor with its own reconstruction
            kernel[np.arange(len(a)), ends[i] + np.arange(len(a))] = 0.0
        total[i] = np.add.reduceat(kernel, ends[:-1], axis=1).sum(axis=0)
    count = np.outer([len(clip) for clip in x], [len(clip) for clip in y]).astype(np.float64)
    if within:
        count -= np.diag([float(len(clip)) for clip in x])
    return total, np.maximum(count, 1e-300)
