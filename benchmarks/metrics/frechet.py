"""Fréchet distance between two sets of embeddings, each described by a Gaussian.

    d² = ||μ₁ - μ₂||² + tr(Σ₁) + tr(Σ₂) - 2 tr((Σ₁ Σ₂)^½)                 [Dowson and Landau 1982, Eq. 16]

The matrix square root of the usual formula is never formed. With Σ₁ = A Aᵀ and Σ₂ = B Bᵀ,
tr((Σ₁ Σ₂)^½) is the nuclear norm of Bᵀ A, and two routes follow:

  spectral   √ of the eigenvalues of Aᵀ Σ₂ A, with A the Cholesky factor: fast, but the traces cancel,
             so it is taken only where d² is not small beside them and both covariances are regular;
  residual   min over orthogonal Q of ||A - B Q||², the Procrustes form of the same distance, with
             Q from the SVD of Bᵀ A: a sum of squares, so never negative and without cancellation.
             A and B are Cholesky factors, or the centered data where n <= dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from benchmarks.metrics.base import CorpusMetric
from benchmarks.metrics.moments import Array, Moments

#: The spectral route errs by less than 64 machine epsilons of the traces (worst measured: 60 at dim 512,
#: condition 1e12). Below this share of them its relative error could pass 1e-10: the residual takes over.
_SMALL_SHARE = 3e-4
#: Smallest ratio of Cholesky pivots at which a covariance counts as regular (condition about 1e13).
_REGULAR_PIVOTS = 3e-7


def frechet_distance(a: Moments | Any, b: Moments | Any) -> float:
    """Squared Fréchet distance of two sets of embeddings, as FID and FAD report it. Lower is better.

    Relative error about 1e-10 or less, never negative, 0 for identical sets whatever their size.

    Args:
        a: `Moments`, or embeddings (n, dim).
        b: the same for the other set; the distance is symmetric up to rounding.

    Raises:
        ValueError: the dimensions differ, a set has fewer than 2 embeddings, or values are not finite.
        ArithmeticError: the result is not finite.
    """
    a = a if isinstance(a, Moments) else Moments.from_embeddings(a)
    b = b if isinstance(b, Moments) else Moments.from_embeddings(b)
    if a.dim != b.dim:
        raise ValueError(f"the sets have dimensions {a.dim} and {b.dim}")
    for name, moments in (("first", a), ("second", b)):
        if moments.n < 2:
            raise ValueError(f"the {name} set has {moments.n} embeddings; a covariance needs 2")
    if a.same_as(b):
        return 0.0
    between_means = float(np.sum((a.mean - b.mean) ** 2))
    value = between_means + _between_covariances(a, b)
    if not np.isfinite(value):
        raise ArithmeticError(f"Fréchet distance is {value}: the embeddings are too large for float64")
    return value


def _between_covariances(a: Moments, b: Moments) -> float:
    if a.n > a.dim and b.n > b.dim:
        value = _spectral(a, b)
        if value is not None:
            return value
    return _residual(_factor(a), _factor(b))


def _spectral(a: Moments, b: Moments) -> float | None:
    """The spectral route, or None where its accuracy is not enough.

    It works on the scatter matrices and scales the sums afterward, which saves copies.
    """
    root = _cholesky(a.scatter)
    if root is None:
        return None
    # rootᵀ Σ root in half the operations of two products; like the reduction below it reads and writes
    # one triangle. The transpose of a symmetric matrix is itself, in the order that LAPACK wants.
    product, info = scipy.linalg.lapack.dsygst(b.scatter.T, root, itype=3, lower=1)
    if info != 0:
        return None
    eigenvalues = scipy.linalg.eigvalsh(product, lower=True, overwrite_a=True, check_finite=False)
    if not eigenvalues[0] > 0.0:
        return None
    scale_a, scale_b = a.n - 1.0, b.n - 1.0
    traces = np.trace(a.scatter) / scale_a + np.trace(b.scatter) / scale_b
    value = float(traces - 2.0 * np.sqrt(eigenvalues).sum() / np.sqrt(scale_a * scale_b))
    return value if value > _SMALL_SHARE * traces else None


def _cholesky(sigma: Array) -> Array | None:
    """Lower Cholesky factor, or None where `sigma` is singular or close to it."""
    root, info = scipy.linalg.lapack.dpotrf(sigma.T, lower=1, clean=1)
    if info != 0:
        return None
    pivots = np.diagonal(root)
    return root if pivots.min() > _REGULAR_PIVOTS * pivots.max() else None


def _factor(moments: Moments) -> Array:
    """A (dim, k) with covariance = A Aᵀ: from the data where kept and few, else from the covariance."""
    if moments.rows is not None and moments.n <= moments.dim:
        return (moments.rows - moments.mean).T / np.sqrt(moments.n - 1)
    sigma = moments.covariance
    root = _cholesky(sigma)
    if root is not None:
        return root
    if moments.rows is not None:
        return (moments.rows - moments.mean).T / np.sqrt(moments.n - 1)
    # Singular and without data: the symmetric root, with rounding-level negative eigenvalues refused.
    eigenvalues, vectors = scipy.linalg.eigh(sigma, check_finite=False)
    largest = max(float(eigenvalues[-1]), 0.0)
    if eigenvalues[0] < -1e-9 * largest or (largest == 0.0 and eigenvalues[0] < 0.0):
        raise ValueError(f"covariance is not positive semi-definite: smallest eigenvalue {eigenvalues[0]:.3g}")
    kept = eigenvalues > np.finfo(np.float64).eps * len(sigma) * largest
    return vectors[:, kept] * np.sqrt(eigenvalues[kept])


def _residual(a: Array, b: Array) -> float:
    """min over Q of ||A - B Q||² with Q (k_b, k_a) of orthonormal rows or columns (zero-padded to square)."""
    width = max(a.shape[1], b.shape[1])
    a = np.pad(a, ((0, 0), (0, width - a.shape[1])))
    b = np.pad(b, ((0, 0), (0, width - b.shape[1])))
    left, _, right = scipy.linalg.svd(b.T @ a, check_finite=False)
    return float(np.sum((a - b @ (left @ right)) ** 2))


@dataclass(frozen=True)
class FrechetInfinity:
    """FAD extrapolated to infinitely many clips; `points` are the (clips or rows, distance) behind the line."""

    value: float
    slope: float
    r_squared: float
    points: tuple[tuple[int, float], ...]


def frechet_infinity(
    reference: Moments | Any,
    embeddings: Any,
    *,
    paired: bool = True,
    steps: int = 15,
    draws: int = 4,
    smallest: int | None = None,
    seed: int = 0,
) -> FrechetInfinity:
    """Fréchet distance without its sample-size bias: intercept of distance against 1/n.

    The bias of the distance is linear in 1/n (Chong and Forsyth 2020). Subsets of `steps` sizes, equally spaced in
    1/n, are drawn without replacement with a seeded generator. What is drawn is a clip with all its windows where
    the sets are given clip by clip, since windows of one clip are not independent.

    Paired sets (reconstructions and their originals) are cut to the same clips on both sides. Against the whole
    reference, a subset lacks what its partners would have shared with it, and the line starts far below zero. The
    value is exactly 0 for identical paired sets, and may be slightly negative for nearly identical ones.

    Args:
        reference: a sequence of (windows, dim) per clip, or (n, dim) where each row stands for itself; for
            independent sets also `Moments`.
        embeddings: the same for the set under test.
        paired: clip i of both sets belongs together. False for independent sets, where the reference is used whole
            and only `embeddings` is cut.
        steps: sizes of subsets.
        draws: subsets of each size, whose mean distance is taken; the whole set is used once.
        smallest: smallest subset; default half of the clips for paired sets, else the larger of n / 10 and
            dim + 1, where the line holds.

    Raises:
        ValueError: too few embeddings for two different sizes, or paired sets of different sizes.
    """
    groups = _groups(embeddings)
    n, dim = len(groups), groups[0].shape[1]
    partners: Sequence[Array] | None = None
    if paired:
        if isinstance(reference, Moments):
            raise ValueError("moments have no clips to pair: give the embeddings, or paired=False")
        partners = _groups(reference)
        if len(partners) != n:
            raise ValueError(
                f"the sets have {len(partners)} and {n} clips and cannot be paired; paired=False compares "
                "independent sets"
            )
    elif not isinstance(reference, Moments):
        reference = Moments.from_embeddings(np.concatenate(_groups(reference)))
    if smallest is None:
        smallest = max(n // 2, 2) if paired else max(n // 10, min(dim + 1, n // 2), 2)
    if steps < 2 or draws < 1 or not 2 <= smallest < n:
        raise ValueError(
            f"FAD-infinity needs 2 <= smallest < n, 2 steps and 1 draw; {smallest=}, n={n}, {steps=}, {draws=}"
        )
    sizes = np.unique(np.round(1.0 / np.linspace(1.0 / smallest, 1.0 / n, steps)).astype(int))
    generator = np.random.Generator(np.random.PCG64([seed, n]))

    def distance(chosen: Array) -> float:
        own = Moments.from_embeddings(np.concatenate([groups[i] for i in chosen]))
        if partners is None:
            return frechet_distance(reference, own)
        return frechet_distance(Moments.from_embeddings(np.concatenate([partners[i] for i in chosen])), own)

    points = []
    for size in (int(size) for size in sizes):
        times = 1 if size == n else draws
        subsets = [generator.choice(n, size, replace=False) for _ in range(times)]
        points.append((size, float(np.mean([distance(np.sort(chosen)) for chosen in subsets]))))
    inverse, values = 1.0 / np.array([p[0] for p in points]), np.array([p[1] for p in points])
    slope, intercept = np.polyfit(inverse, values, 1) if values.any() else (0.0, 0.0)
    spread = float(np.sum((values - values.mean()) ** 2))
    unexplained = float(np.sum((values - (slope * inverse + intercept)) ** 2))
    r_squared = 1.0 if spread == 0.0 else 1.0 - unexplained / spread
    return FrechetInfinity(float(intercept), float(slope), r_squared, tuple(points))


def _groups(x: Any) -> list[Array]:
    """Clips of (windows, dim) from a sequence of them; the rows of one (n, dim) array are a clip each."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    if not isinstance(x, np.ndarray) and len(x) and np.ndim(x[0]) == 2:
        return [np.asarray(clip, dtype=np.float64) for clip in x]
    rows = np.atleast_2d(np.asarray(x, dtype=np.float64))
    return list(rows[:, None, :])


#: 0.001 is the last digit that tables show; libopus of another processor moved a distance by 2.1 %.
FAD = CorpusMetric(
    name="fad",
    title="FAD",
    higher_is_better=False,
    digits=3,
    note="Fréchet distance of the embeddings of these clips, larger the fewer they are (fad_debiased takes that off); "
    "its interval holds the expected distance of as many clips",
    distance="fad",
    covariances=True,
    tolerance=1e-3,
    relative_tolerance=0.02,
    elsewhere_tolerance=0.04,
)

FAD_DEBIASED = CorpusMetric(
    name="fad_debiased",
    title="FAD debiased",
    higher_is_better=False,
    digits=3,
    note="Fréchet distance less its bias of few clips, by the jackknife over groups; its interval holds the distance "
    "of all such music",
    distance="fad_debiased",
    covariances=True,
    tolerance=1e-3,
    relative_tolerance=0.05,
    elsewhere_tolerance=0.05,
)

FAD_INF = CorpusMetric(
    name="fad_inf",
    title="FAD∞",
    higher_is_better=False,
    digits=3,
    note="Fréchet distance extrapolated to infinitely many groups of clips, paired with their originals, without an "
    "interval (fad_debiased has one)",
    distance="fad_inf",
    covariances=True,
    tolerance=1e-3,
    relative_tolerance=0.05,
)
