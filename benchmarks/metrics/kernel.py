"""Kernel audio distance: squared maximum mean discrepancy between two sets of embeddings.

    MMD² = 1/(m(m-1)) Σ_{i≠j} k(x_i, x_j) + 1/(n(n-1)) Σ_{i≠j} k(y_i, y_j) - 2/(mn) Σ k(x_i, y_j)
    k(x, y) = exp(-||x - y||² / (2 σ²)),  σ = median distance within the reference set

This is KAD (Chung et al. 2025, Eq. 4-6), which reports 100 MMD². It is unbiased, so it does not grow with
small sets as the Fréchet distance does, and can be slightly negative where the sets do not differ. The
bandwidth comes from the reference set alone, so that systems are measured with one ruler.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.metrics.base import CorpusMetric
from benchmarks.metrics.moments import Array

#: Rows per block: two blocks of kernel values in float32 take 2 x 16 MB at most.
_BLOCK = 2048
#: Above this many reference rows the median is taken over the distances of this many, drawn with a seed.
_MEDIAN_ROWS = 4096

SCALE = 100.0


def kernel_distance(
    reference: Any, embeddings: Any, *, bandwidth: float | None = None, paired: bool = False, scale: float = SCALE
) -> float:
    """Unbiased MMD² with a Gaussian kernel, times `scale`. Lower is better; about 0 for equal laws.

    Kernel values are float32 in blocks, their sums float64; memory does not grow with the sets' product.

    Args:
        reference: (m, dim) embeddings of the reference set.
        embeddings: (n, dim) of the set under test.
        bandwidth: σ; default the median distance within `reference`.
        paired: row i of both sets belongs to the same window of the same clip, as a reconstruction's does.
            The cross term then leaves out k(x_i, y_i) (Gretton et al. 2012, Eq. 4), without which the
            estimate of paired sets is too low by up to 2 scale / n: identical sets give 0 only like this.
        scale: 100 for KAD.

    Raises:
        ValueError: fewer than 2 rows in a set, different dimensions, non-finite values, bandwidth <= 0,
            or paired sets of different sizes.
    """
    x, y = _embeddings(reference, "reference"), _embeddings(embeddings, "embeddings")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the sets have dimensions {x.shape[1]} and {y.shape[1]}")
    if paired and len(x) != len(y):
        raise ValueError(f"paired sets must have equal sizes, got {len(x)} and {len(y)}")
    sigma = median_bandwidth(x) if bandwidth is None else float(bandwidth)
    if not sigma > 0.0:
        raise ValueError(f"bandwidth={sigma}: must be positive (are all reference embeddings equal?)")
    # Distances do not change with the origin, and float32 products lose less near it.
    center = x.mean(axis=0)
    a, b = ((z - center) / (sigma * np.sqrt(2.0)) for z in (x, y))
    m, n = len(a), len(b)
    within_x = _kernel_sum_within(a) / (m * (m - 1.0))
    within_y = _kernel_sum_within(b) / (n * (n - 1.0))
    cross, pairs = _kernel_sum(a, b), m * float(n)
    if paired:
        cross -= float(np.exp(-np.square(a - b).sum(axis=1)).sum())
        pairs -= m
    return scale * (within_x + within_y - 2.0 * cross / pairs)


def median_bandwidth(reference: Any, *, seed: int = 0) -> float:
    """Median Euclidean distance between different rows of `reference` (at most 4096 of them, seeded)."""
    x = _embeddings(reference, "reference")
    if len(x) > _MEDIAN_ROWS:
        generator = np.random.Generator(np.random.PCG64([seed, len(x)]))
        x = x[np.sort(generator.choice(len(x), _MEDIAN_ROWS, replace=False))]
    x = (x - x.mean(axis=0)).astype(np.float32)
    squares = np.einsum("ij,ij->i", x, x)
    distances = np.empty(len(x) * (len(x) - 1) // 2, dtype=np.float32)
    filled = 0
    for start in range(0, len(x), 512):
        block = (
            squares[start : start + 512, None] + squares[None, start:] - 2.0 * (x[start : start + 512] @ x[start:].T)
        )
        pairs = np.triu_indices(block.shape[0], 1, block.shape[1])
        distances[filled : filled + len(pairs[0])] = block[pairs]
        filled += len(pairs[0])
    np.sqrt(np.maximum(distances, 0.0, out=distances), out=distances)
    return float(np.median(distances, overwrite_input=True))


def _kernel_sum_within(a: Array) -> float:
    """Σ_{i≠j} exp(-||a_i - a_j||²): each unordered pair of blocks once."""
    total = 0.0
    for start in range(0, len(a), _BLOCK):
        block = a[start : start + _BLOCK]
        kernel = _kernel(block, block)
        np.fill_diagonal(kernel, 0.0)
        total += float(kernel.sum(dtype=np.float64))
        for other in range(start + _BLOCK, len(a), _BLOCK):
            total += 2.0 * float(_kernel(block, a[other : other + _BLOCK]).sum(dtype=np.float64))
    return total


def _kernel_sum(a: Array, b: Array) -> float:
    """Σ_{i,j} exp(-||a_i - b_j||²)."""
    return sum(
        float(_kernel(a[i : i + _BLOCK], b[j : j + _BLOCK]).sum(dtype=np.float64))
        for i in range(0, len(a), _BLOCK)
        for j in range(0, len(b), _BLOCK)
    )


def _kernel(a: Array, b: Array) -> np.ndarray:
    """exp(-||a_i - b_j||²) as float32 (len(a), len(b))."""
    kernel = a.astype(np.float32) @ (2.0 * b).astype(np.float32).T
    kernel -= np.einsum("ij,ij->i", a, a)[:, None].astype(np.float32)
    kernel -= np.einsum("ij,ij->i", b, b)[None, :].astype(np.float32)
    # Rounding can leave -||a - b||² slightly above 0 for nearly equal rows.
    np.minimum(kernel, 0.0, out=kernel)
    return np.exp(kernel, out=kernel)


def _embeddings(x: Any, name: str) -> Array:
    if hasattr(x, "detach"):
        x = x.detach().cpu().resolve_conj().resolve_neg().numpy()
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"{name} must be (n, dim) with n >= 2, got shape {rows.shape}")
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{name}: {len(bad)} rows have non-finite values, the first is row {bad[0]}")
    return rows


KAD = CorpusMetric(
    name="kad",
    title="KAD",
    higher_is_better=False,
    digits=3,
    note="unbiased squared maximum mean discrepancy of embeddings, Gaussian kernel, x 100",
    distance="kad",
    tolerance=1e-3,
    relative_tolerance=0.02,
    elsewhere_tolerance=0.04,
)
