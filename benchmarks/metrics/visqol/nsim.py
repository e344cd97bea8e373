"""Neurogram similarity (NSIM): structural similarity of two spectrogram patches over 3x3 neighborhoods.

A. Hines and N. Harte, "Speech intelligibility prediction using a neurogram similarity index measure",
Speech Communication 54 (2012). Per cell, with windowed means μ, variances σ² and covariance σ_rd:
(2 μ_r μ_d + C1) / (μ_r² + μ_d² + C1) · (σ_rd + C3) / (σ_r σ_d + C3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol.modes import ABSOLUTE_FLOOR_DB, C1, C3, KERNEL, RELATIVE_FLOOR_DB
from m2l.kernels.jit import jit

CORNER, EDGE, CENTER = KERNEL


def apply_floors(
    target_db: NDArray[np.float64], preds_db: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raise both spectrograms to their common floors and shift the lowest value to 0 dB.

    First the absolute floor, then per frame 45 dB below the louder of the two peaks, for the frames that
    both have. NaN becomes the floor, as in the C++, where `std::max(floor, NaN)` is `floor`.

    Args:
        target_db: (bands, frames).
        preds_db: (bands, frames), possibly another number of frames.

    Returns:
        Both, as new arrays.
    """
    target, preds = np.fmax(target_db, ABSOLUTE_FLOOR_DB), np.fmax(preds_db, ABSOLUTE_FLOOR_DB)
    n = min(target.shape[1], preds.shape[1])
    floor = np.maximum(target[:, :n].max(axis=0), preds[:, :n].max(axis=0)) - RELATIVE_FLOOR_DB
    np.maximum(target[:, :n], floor, out=target[:, :n])
    np.maximum(preds[:, :n], floor, out=preds[:, :n])
    lowest = min(target.min(), preds.min())
    target -= lowest
    preds -= lowest
    return target, preds


@jit()
def local_statistics(
    x: NDArray[np.float64], left: int, right: int, mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> None:
    """Windowed mean and signed deviation sign(v)·√|v| (v = variance) at every cell.

    `left` and `right` are the frame distances of the window's outer columns: (-1, 1) inside a patch,
    (0, 1) at its first and (-1, 0) at its last frame, where the edge is repeated. Bands at the edge are
    repeated too.
    """
    bands, frames = x.shape
    for b in range(bands):
        above, below = max(b - 1, 0), min(b + 1, bands - 1)
        for t in range(frames):
            p, q = max(t + left, 0), min(t + right, frames - 1)
            m = (
                CORNER * (x[above, p] + x[below, p] + x[above, q] + x[below, q])
                + EDGE * (x[b, p] + x[b, q] + x[above, t] + x[below, t])
                + CENTER * x[b, t]
            )
            square = (
                CORNER * (x[above, p] ** 2 + x[below, p] ** 2 + x[above, q] ** 2 + x[below, q] ** 2)
                + EDGE * (x[b, p] ** 2 + x[b, q] ** 2 + x[above, t] ** 2 + x[below, t] ** 2)
                + CENTER * x[b, t] ** 2
            )
            variance = square - m * m
            mean[b, t] = m
            deviation[b, t] = np.sqrt(variance) if variance >= 0.0 else -np.sqrt(-variance)


@jit()
def _band_similarity(target: NDArray[np.float64], preds: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    bands, n = target.shape
    mean_r, deviation_r = np.empty((bands, n)), np.empty((bands, n))
    mean_d, deviation_d = np.empty((bands, n)), np.empty((bands, n))
    local_statistics(target, -1, 1, mean_r, deviation_r)
    local_statistics(preds, -1, 1, mean_d, deviation_d)
    for b in range(bands):
        above, below = max(b - 1, 0), min(b + 1, bands - 1)
        total = 0.0
        for t in range(n):
            p, q = max(t - 1, 0), min(t + 1, n - 1)
            cross = (
                CORNER
                * (
                    target[above, p] * preds[above, p]
                    + target[below, p] * preds[below, p]
                    + target[above, q] * preds[above, q]
                    + target[below, q] * preds[below, q]
                )
                + EDGE
                * (
                    target[b, p] * preds[b, p]
                    + target[b, q] * preds[b, q]
                    + target[above, t] * preds[above, t]
                    + target[below, t] * preds[below, t]
                )
                + CENTER * target[b, t] * preds[b, t]
            )
            r, d = mean_r[b, t], mean_d[b, t]
            # A product of variances below zero (rounding, in silent patches) counts as zero.
            spread = max(deviation_r[b, t] * deviation_d[b, t], 0.0)
            total += ((2.0 * r * d + C1) / (r * r + d * d + C1)) * ((cross - r * d + C3) / (spread + C3))
        out[b] = total / n


def band_details(target: NDArray[np.float64], preds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the similarity of two patches varies over frames, and how loud the estimate is.

    Args:
        target: (bands, frames), dB above the floor.
        preds: the same.

    Returns:
        (2, bands): standard deviation of the similarity over frames (of a sample), mean of `preds`.
    """
    target, preds = np.ascontiguousarray(target), np.ascontiguousarray(preds)
    bands, frames = target.shape
    product = np.pad(target * preds, 1, mode="edge")
    corner, edge, center = KERNEL
    window = [[corner, edge, corner], [edge, center, edge], [corner, edge, corner]]
    cross = sum(window[b][t] * product[b : b + bands, t : t + frames] for b in range(3) for t in range(3))
    (r, spread_r), (d, spread_d) = (np.empty((2, bands, frames)) for _ in range(2))
    local_statistics(target, -1, 1, r, spread_r)
    local_statistics(preds, -1, 1, d, spread_d)
    structure = (cross - r * d + C3) / (np.maximum(spread_r * spread_d, 0.0) + C3)
    similarity = (2.0 * r * d + C1) / (r * r + d * d + C1) * structure
    deviation = similarity.std(axis=1, ddof=1) if frames > 1 else np.zeros(bands)
    return np.stack([deviation, preds.mean(axis=1)])


def band_similarity(target: NDArray[np.float64], preds: NDArray[np.float64]) -> NDArray[np.float64]:
    """NSIM of two patches of the same shape, averaged over frames.

    Args:
        target: (bands, frames), dB above the floor.
        preds: the same.

    Returns:
        (bands,), at most 1.
    """
    out = np.empty(len(target))
    _band_similarity(np.ascontiguousarray(target), np.ascontiguousarray(preds), out)
    return out
