"""`m2l-bench speed frechet`: our Fréchet distance against the usual ones by matrix square root.

The rivals compute tr((Σ₁ Σ₂)^½) by `scipy.linalg.sqrtm`: of a complex product as frechet-audio-distance
0.3.4 does, of a real one as pytorch-fid does, and by eigenvectors as well as fadtk 1.1 does. They are
written here from those formulas and get mean and covariance, as we do. Errors are against a distance known
in closed form (`related_gaussians`). Condition 1e8 is that of real CLAP embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg

from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.moments import Array, Moments
from benchmarks.speed.timing import Contest, alternate


def related_gaussians(dim: int, condition: float, shift: float, seed: int) -> tuple[Moments, Moments, float]:
    """Two sets with a known distance and covariances that do not commute.

    With Σ₂ = T Σ₁ T for a symmetric positive T, the optimal map from one Gaussian to the other is T, and
    d² = tr((1 - T) Σ₁ (1 - T)) + ||Δμ||² exactly. Σ₁ has eigenvalues over `condition`.
    """
    rng = np.random.Generator(np.random.PCG64([seed, dim]))
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    other = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    root = basis * np.sqrt(np.geomspace(1.0, 1.0 / condition, dim))
    change = (other * (np.exp(shift * rng.standard_normal(dim)) - 1.0)) @ other.T  # T - 1
    moved = root + change @ root
    step = shift * rng.standard_normal(dim) / dim
    a = Moments.from_statistics(np.zeros(dim), root @ root.T, n=20 * dim)
    b = Moments.from_statistics(step, moved @ moved.T, n=20 * dim)
    return a, b, float(np.sum((change @ root) ** 2) + np.sum(step**2))


def by_sqrtm(a: Moments, b: Moments, dtype: type) -> float:
    """The usual formula; `dtype` complex or float decides how the product enters `sqrtm`."""
    sigma_a, sigma_b = a.covariance, b.covariance
    return _assemble(a, b, sigma_a, sigma_b, linalg.sqrtm((sigma_a @ sigma_b).astype(dtype)))


def by_eig(a: Moments, b: Moments) -> float:
    """fadtk's: V √D V⁻¹ of the product, and `sqrtm` as well, from which it logs the discrepancy."""
    sigma_a, sigma_b = a.covariance, b.covariance
    product = sigma_a @ sigma_b
    values, vectors = linalg.eig(product)
    root = (vectors * np.sqrt(values.astype(complex))) @ linalg.inv(vectors)
    linalg.sqrtm(product)
    return _assemble(a, b, sigma_a, sigma_b, root)


def _assemble(a: Moments, b: Moments, sigma_a: Array, sigma_b: Array, root: Any) -> float:
    difference = a.mean - b.mean
    traces = np.trace(sigma_a) + np.trace(sigma_b)
    return float(difference @ difference + traces - 2.0 * np.trace(root).real)


def _times(calls: int, function: Callable[[], float]) -> float:
    return [function() for _ in range(calls)][-1]


def run(*, dims: Sequence[int], conditions: Sequence[float], repeats: int, clock: str) -> Contest:
    """The contest.

    Args:
        dims: embedding dimensions.
        conditions: condition numbers of the covariance.
        repeats: timed turns of each side.
        clock: "wall" or "cpu".
    """
    contest = Contest("Fréchet distance from mean and covariance", clock)
    for dim in dims:
        for condition in conditions:
            a, b, truth = related_gaussians(dim, condition, shift=0.3, seed=0)
            contestants: dict[str, Callable[[], float]] = {
                "m2l": partial(frechet_distance, a, b),
                "frechet-audio-distance (sqrtm, complex)": partial(by_sqrtm, a, b, complex),
                "fadtk (eig, inv, sqrtm)": partial(by_eig, a, b),
                "pytorch-fid (sqrtm, real)": partial(by_sqrtm, a, b, float),
            }
            # Under a millisecond a single call would time the clock and the garbage collector.
            calls = 20 if dim < 256 else 1
            timings, results = alternate(
                {name: partial(_times, calls, call) for name, call in contestants.items()}, repeats=repeats, clock=clock
            )
            for rival in list(timings)[1:]:
                contest.add(
                    f"d={dim}, condition {condition:.0e}, {calls} calls",
                    timings["m2l"],
                    timings[rival],
                    ours_relative_error=abs(results["m2l"] - truth) / truth,
                    rival_relative_error=abs(results[rival] - truth) / truth,
                )
    contest.notes.append("Errors are against the closed form. One process; BLAS threads as set in the environment.")
    return contest
