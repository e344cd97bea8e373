"""Moments, Fréchet and kernel distances by hand, in closed form and pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.metrics.frechet import frechet_distance, frechet_infinity
from benchmarks.metrics.kernel import kernel_distance, kernel_terms, median_bandwidth, paired_kernel_distance
from benchmarks.metrics.moments import BUFFER_ROWS, Moments, merge


def test_moments_by_hand_and_without_some_rows() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 0.0], [2.0, 7.0], [6.0, 3.0], [0.0, 1.0]])
    moments = Moments.from_embeddings(rows)
    assert (moments.n, moments.dim, moments.mean.tolist()) == (5, 2, [2.4, 2.6])
    assert moments.covariance == pytest.approx(np.cov(rows.T))
    assert moments.rows is None  # more than twice as many as dimensions
    assert Moments.from_embeddings(rows[:4]).rows is not None
    for kept in (1, 3, 4):
        left = moments.without(rows[kept:])
        assert left.n == kept
        assert left.mean == pytest.approx(rows[:kept].mean(axis=0))
        assert left.scatter == pytest.approx(
            (kept - 1) * np.cov(rows[:kept].T) if kept > 1 else np.zeros((2, 2)), abs=1e-9
        )
    with pytest.raises(ValueError, match="without 5 of them"):
        moments.without(rows)
    both = merge([Moments.from_embeddings(rows[:2]), Moments.empty(2), Moments.from_embeddings(rows[2:4])])
    assert both.rows is not None
    assert both.rows.tolist() == rows[:4].tolist()
    assert (both + Moments.from_embeddings(rows[4:])).rows is None
    assert both.covariance == pytest.approx(np.cov(rows[:4].T))
    uneven = Moments.from_embeddings(rows[:1]) + Moments.from_embeddings(rows[1:])
    assert uneven.mean == pytest.approx(rows.mean(axis=0))
    assert uneven.covariance == pytest.approx(np.cov(rows.T))
    stored = Moments.from_statistics(moments.mean, moments.covariance, 5)
    assert stored.scatter == pytest.approx(moments.scatter)
    assert moments.same_as(Moments.from_embeddings(rows))
    assert not moments.same_as(Moments.from_embeddings(rows + 1))
    assert not moments.same_as(Moments.from_embeddings(rows * [[1, -1]]))
    with pytest.raises(ValueError, match="this set has 1"):
        _ = Moments.from_embeddings(rows[:1]).covariance
    for n, ok in ((1, False), (2, True)):
        if ok:
            assert Moments.from_statistics([0.0], [[1.0]], n).n == 2
        else:
            with pytest.raises(ValueError, match="n=1"):
                Moments.from_statistics([0.0], [[1.0]], n)


def test_what_moments_refuse_and_hold() -> None:
    with pytest.raises(ValueError, match="not symmetric: largest difference 1"):
        Moments.from_statistics([0.0, 0.0], [[1.0, 1.0], [0.0, 1.0]], 3)
    assert Moments.from_statistics([0.0, 0.0], [[100.0, 1e-5], [0.0, 100.0]], 3).n == 3  # rounding of a large one
    assert Moments.from_statistics([0.0, 0.0], [[1.0, 1e-6], [0.0, 1.0]], 3).n == 3
    for mean, covariance in (([np.nan, 0.0], np.eye(2)), ([0.0, 0.0], np.diag([1.0, np.inf]))):
        with pytest.raises(ValueError, match="non-finite"):
            Moments.from_statistics(mean, covariance, 3)
    with pytest.raises(ValueError, match="the first is row 2"):
        Moments.from_embeddings([[0.0], [1.0], [np.nan], [np.inf]])
    streamed = Moments.empty(3)
    streamed.update(np.ones((BUFFER_ROWS - 1, 3)))
    held = 8 * (3 + 9)
    assert streamed.nbytes == held + 8 * 3 * (BUFFER_ROWS - 1)
    streamed.update(np.zeros(3))
    assert streamed.nbytes == held
    assert (streamed.n, streamed.mean[0]) == (BUFFER_ROWS, (BUFFER_ROWS - 1) / BUFFER_ROWS)
    assert Moments.from_embeddings(np.ones((2, 3))).nbytes == held + 8 * 6


def test_rows_are_taken_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((7, 2))
    monkeypatch.setattr("benchmarks.metrics.moments._BLOCK_ROWS", 3)
    moments = Moments.from_embeddings(rows)
    assert (moments.n, moments.mean) == (7, pytest.approx(rows.mean(axis=0)))
    assert moments.covariance == pytest.approx(np.cov(rows.T))
    rows[5, 1] = np.nan
    with pytest.raises(ValueError, match="1 embeddings have non-finite values, the first is row 5"):
        Moments.from_embeddings(rows)


def test_frechet_distance_of_normals_in_one_dimension() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2."""
    for (m1, s1), (m2, s2) in (((0.0, 1.0), (2.0, 3.0)), ((1.0, 0.5), (1.0, 0.5001)), ((0.0, 0.0), (1.0, 2.0))):
        a, b = Moments.from_statistics([m1], [[s1**2]], 9), Moments.from_statistics([m2], [[s2**2]], 30)
        assert frechet_distance(a, b) == pytest.approx((m1 - m2) ** 2 + (s1 - s2) ** 2, rel=1e-6)
    two = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert frechet_distance(two, two + np.array([0.0, 3.0])) == pytest.approx(9.0)
    assert frechet_distance(two, 2 * two) == pytest.approx(1.0 + (math.sqrt(8) - math.sqrt(2)) ** 2)
    with pytest.raises(ValueError, match="not positive semi-definite"):
        frechet_distance(
            Moments.from_statistics([0.0, 0.0], [[1.0, 0.0], [0.0, -0.5]], 9),
            Moments.from_statistics([0.0, 0.0], np.eye(2), 9),
        )
    with pytest.raises(ValueError, match="the second set has 1"):
        frechet_distance(two, two[:1])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("factor", [1 + 1e-6, 1.01, 1.5])
@pytest.mark.parametrize("n", [40, 9, 5])
def test_frechet_distance_of_a_multiple(scale: float, factor: float, n: int) -> None:
    """(c - 1)² (|mean|² + trace), however small beside the traces; with more rows than dimensions and with fewer."""
    x = scale * (np.random.default_rng(0).standard_normal((n, 6)) + 0.5)
    wanted = (factor - 1) ** 2 * (np.square(x.mean(axis=0)).sum() + x.var(axis=0, ddof=1).sum())
    assert frechet_distance(x, factor * x) == pytest.approx(wanted, rel=1e-6 if factor < 1.001 else 1e-10)


def test_covariances_without_rank() -> None:
    def of(mean: list[float], *spread: float) -> Moments:
        return Moments.from_statistics(mean, np.diag(spread), 9)

    assert frechet_distance(of([0.0, 0.0], 0.0, 0.0), of([1.0, 0.0], 0.0, 0.0)) == pytest.approx(1.0)
    assert frechet_distance(of([0.0, 0.0], 1.0, -1e-12), of([0.0, 0.0], 4.0, 0.0)) == pytest.approx(1.0)  # rounding
    for spread in ((1.0, -1e-8), (-1.0, -1.0)):
        with pytest.raises(ValueError, match=f"not positive semi-definite: smallest eigenvalue {min(spread):.3g}"):
            frechet_distance(of([0.0, 0.0], *spread), of([0.0, 0.0], 1.0, 1.0))


def test_fad_infinity_is_the_intercept_of_a_line() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), 1.5 * rng.standard_normal((20, 3))
    found = frechet_infinity(x, y, steps=4, draws=2, seed=3)
    sizes = [size for size, _ in found.points]
    assert sizes == sorted({round(1 / v) for v in np.linspace(1 / 10, 1 / 20, 4)})
    assert found.points[-1] == (20, pytest.approx(frechet_distance(x, y)))
    slope, intercept = np.polyfit([1 / size for size in sizes], [value for _, value in found.points], 1)
    assert (found.slope, found.value) == (pytest.approx(slope), pytest.approx(intercept))
    correlation = np.corrcoef([1 / size for size in sizes], [value for _, value in found.points])[0, 1]
    assert found.r_squared == pytest.approx(correlation**2)
    generator = np.random.Generator(np.random.PCG64([3, 20]))
    drawn = [np.sort(generator.choice(20, 10, replace=False)) for _ in range(2)]
    assert found.points[0][1] == pytest.approx(np.mean([frechet_distance(x[i], y[i]) for i in drawn]))
    unpaired = frechet_infinity(Moments.from_embeddings(x), y, paired=False, steps=3, draws=1)
    assert unpaired.points[0][0] == 4  # dim + 1, more than n / 10 and less than n / 2
    assert frechet_infinity(x, np.concatenate([y] * 5), paired=False, steps=2, draws=1).points[0][0] == 10
    assert frechet_infinity(x[:6, :1], y[:6, :1], paired=False, steps=2, draws=1).points[0][0] == 2
    wide = rng.standard_normal((6, 5))
    assert frechet_infinity(wide, 2 * wide, paired=False, steps=2, draws=1).points[0][0] == 3
    fifteen = sorted({round(1 / v) for v in np.linspace(1 / 10, 1 / 20, 15)})
    assert [size for size, _ in frechet_infinity(x, y).points] == fifteen
    assert frechet_infinity(x, x).r_squared == 1.0
    assert frechet_infinity(x[:3], y[:3], steps=2, draws=1, smallest=2).points[0][0] == 2
    for options in ({"smallest": 1}, {"smallest": 20}, {"steps": 1}, {"draws": 0}):
        with pytest.raises(ValueError, match="FAD-infinity needs"):
            frechet_infinity(x, y, **options)  # type: ignore[arg-type]


def test_kernel_distances_pair_by_pair() -> None:
    rng = np.random.default_rng(4)
    reference = [rng.standard_normal((n, 3)) for n in (2, 1, 3)]
    outputs = [clip + 0.3 * rng.standard_normal(clip.shape) for clip in reference]
    of = [0, 0, 1, 2, 2, 2]
    x, y = np.concatenate(reference), np.concatenate(outputs)

    def mean(a: np.ndarray, b: np.ndarray, sigma: float, keep: Callable[[int, int], bool]) -> float:
        return float(np.mean([
            math.exp(-np.square(p - q).sum() / (2 * sigma**2))
            for i, p in enumerate(a) for j, q in enumerate(b) if keep(i, j)
        ]))  # fmt: skip

    distances = sorted(math.dist(y[i], y[j]) for i in range(6) for j in range(i))
    sigma = distances[7 - 1 + 1]  # the middle one of 15
    assert median_bandwidth(y) == pytest.approx(sigma, rel=1e-6)
    different = lambda i, j: i != j  # noqa: E731
    wanted = mean(x, x, sigma, different) + mean(y, y, sigma, different) - 2 * mean(x, y, sigma, lambda i, j: True)
    assert kernel_distance(x, y) == pytest.approx(100 * wanted, rel=1e-5)
    apart = lambda i, j: of[i] != of[j]  # noqa: E731
    wanted = mean(x, x, 1.3, apart) + mean(y, y, 1.3, apart) - 2 * mean(x, y, 1.3, apart)
    assert paired_kernel_distance(reference, outputs, bandwidth=1.3, scale=7.0) == pytest.approx(7 * wanted)
    assert median_bandwidth(np.array([[0.0], [1.0], [4.0], [9.0]])) == pytest.approx(
        4.0
    )  # of 1, 3, 4, 5, 8, 9 the third
    assert median_bandwidth(np.array([[0.0], [3.0]])) == pytest.approx(3.0)


@pytest.mark.parametrize("paired", [False, True])
def test_sums_of_the_kernel_block_by_block_and_tile_by_tile(monkeypatch: pytest.MonkeyPatch, paired: bool) -> None:
    """Clips of three blocks, in the order of which the sums are: in a tile as in tiles of two rows and of three."""
    rng = np.random.default_rng(5)
    reference = [rng.standard_normal((n, 3)) for n in (2, 1, 3, 2)]
    outputs = [rng.standard_normal((n, 3)) for n in (1, 2, 3, 2)]
    blocks = np.array([1, 0, 2, 1], dtype=np.int32)
    sums, pairs = np.zeros((3, 3, 3)), np.zeros((3, 3, 3))
    for term, (first, second) in enumerate(((reference, reference), (outputs, outputs), (reference, outputs))):
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                for k, p in enumerate(a):
                    for m, q in enumerate(b):
                        if (i == j) if paired else (term < 2 and (i, k) == (j, m)):
                            continue
                        sums[term, blocks[i], blocks[j]] += math.exp(-np.square(p - q).sum() / (2 * 1.3**2))
                        pairs[term, blocks[i], blocks[j]] += 1
    for tile in (1024, 2, 3):
        monkeypatch.setattr("benchmarks.metrics.kernel._TILE", tile)
        found = kernel_terms(reference, outputs, blocks, paired=paired, bandwidth=1.3)
        assert found.sums == pytest.approx(sums)
        assert found.pairs.tolist() == pairs.tolist()
    kept = np.ix_(range(3), [0, 2], [0, 2])
    means = sums[kept].sum(axis=(1, 2)) / pairs[kept].sum(axis=(1, 2))
    assert found.left_out[1] == pytest.approx(means[0] + means[1] - 2 * means[2])
