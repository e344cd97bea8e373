"""Fréchet distance and its moments: exactness, invariants, and sets that break the usual formula."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metrics.frechet import frechet_distance, frechet_infinity
from benchmarks.metrics.moments import Moments, merge


def rotation(dim: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


def related(dim: int, condition: float, shift: float, seed: int = 0) -> tuple[Moments, Moments, float]:
    """N(0, S) and N(m, T S T): T is the optimal map between them, so d² = tr((1-T) S (1-T)) + |m|²."""
    rng = np.random.default_rng(seed)
    root = rotation(dim, seed) * np.sqrt(np.geomspace(1, 1 / condition, dim))
    change = (rotation(dim, seed + 1) * np.expm1(shift * rng.standard_normal(dim))) @ rotation(dim, seed + 1).T
    moved, step = root + change @ root, shift * rng.standard_normal(dim) / dim
    a = Moments.from_statistics(np.zeros(dim), root @ root.T, 5000)
    b = Moments.from_statistics(step, moved @ moved.T, 5000)
    return a, b, float(np.square(change @ root).sum() + step @ step)


@pytest.mark.parametrize("dim", [128, 512])
@pytest.mark.parametrize(("condition", "shift"), [(1e3, 1.0), (1e8, 0.3), (1e8, 0.03), (1e5, 1e-4)])
def test_equals_the_closed_form(dim: int, condition: float, shift: float) -> None:
    a, b, truth = related(dim, condition, shift)
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("dim", [128, 512])
def test_equals_the_closed_form_of_rotated_diagonals(dim: int) -> None:
    basis, rng = rotation(dim), np.random.default_rng(1)
    first = np.geomspace(1, 1e-9, dim)
    second = first * np.exp(0.5 * rng.standard_normal(dim))
    a, b = (Moments.from_statistics(np.zeros(dim), (basis * v) @ basis.T, 9999) for v in (first, second))
    truth = np.square(np.sqrt(first) - np.sqrt(second)).sum()
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-9)


def by_mpmath(x: np.ndarray, y: np.ndarray) -> float:
    """60 digits, from the data; singular values of the cross product of the centered rows."""
    with mpmath.workdps(60):
        sets = []
        for rows in (x, y):
            exact = mpmath.matrix(rows.tolist())
            mean = [mpmath.fsum(exact[i, j] for i in range(exact.rows)) / exact.rows for j in range(exact.cols)]
            for i in range(exact.rows):
                for j in range(exact.cols):
                    exact[i, j] -= mean[j]
            sets.append((exact / mpmath.sqrt(exact.rows - 1), mean))
        (a, mu), (b, nu) = sets
        traces = mpmath.fsum(v * v for v in a) + mpmath.fsum(v * v for v in b)
        cross = a * b.T if a.rows < a.cols else (a.T * a) * (b.T * b)
        if a.rows < a.cols:
            nuclear = mpmath.fsum(mpmath.svd_r(cross, compute_uv=False))
        else:
            values = mpmath.eig(cross, left=False, right=False)
            nuclear = mpmath.fsum(mpmath.sqrt(mpmath.re(v)) for v in values)
        return float(mpmath.fsum((p - q) ** 2 for p, q in zip(mu, nu, strict=True)) + traces - 2 * nuclear)


@pytest.mark.parametrize(("n", "m", "dim"), [(60, 80, 12), (40, 30, 8), (7, 9, 20), (6, 6, 16)])
@pytest.mark.parametrize("spread", [1.0, 1e-3], ids=["apart", "close"])
def test_equals_60_digits(n: int, m: int, dim: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    scales = np.geomspace(1, 1e-3, dim)
    x = rng.standard_normal((n, dim)) * scales
    y = (np.resize(x, (m, dim)) + spread * rng.standard_normal((m, dim)) * scales).round(12)
    assert frechet_distance(x, y) == pytest.approx(by_mpmath(x, y), rel=1e-9)


@pytest.mark.parametrize("n", [3, 50, 513, 1500])
def test_identical_sets_are_at_distance_zero(n: int) -> None:
    x = np.random.default_rng(0).standard_normal((n, 512)).astype(np.float32)
    assert frechet_distance(x, x.copy()) == 0.0
    permuted = frechet_distance(x, x[::-1])
    assert 0.0 <= permuted < 1e-20
    in_parts = merge(Moments.from_embeddings(part) for part in np.array_split(x, 3))
    assert 0.0 <= frechet_distance(in_parts, x) < 1e-20


def test_singular_covariances() -> None:
    """Constant and repeated dimensions, where a matrix root of the product returns NaN or 1e-3 errors."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((200, 4))
    x = np.hstack([base, base, np.ones((200, 2))])
    y = 2 * x
    truth = np.square(x.mean(0)).sum() + np.trace(np.cov(x.T))  # (2 - 1)² of both
    assert frechet_distance(x, y) == pytest.approx(truth, rel=1e-12)
    a, b = (Moments.from_statistics(z.mean(0), np.cov(z.T), 200) for z in (x, y))  # without the rows
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-7)


def test_a_few_rows_against_a_stored_reference() -> None:
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((4000, 24))
    few = reference[:9] * 1.5
    stored = Moments.from_statistics(reference.mean(0), np.cov(reference.T), len(reference))
    assert frechet_distance(stored, few) == pytest.approx(frechet_distance(reference, few), rel=1e-9)


sets = st.tuples(st.integers(2, 24), st.integers(2, 24), st.integers(1, 10), st.integers(0, 2**31))


@settings(max_examples=60, deadline=None)
@given(sets, st.sampled_from([0.0, 1e-12, 1e-6, 1.0]), st.sampled_from([1e-3, 1.0, 1e4]))
def test_never_negative_symmetric_and_scales(sizes: tuple, apart: float, scale: float) -> None:
    n, m, dim, seed = sizes
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal((n, dim))
    y = np.resize(x, (m, dim)) + apart * scale * rng.standard_normal((m, dim))
    distance = frechet_distance(x, y)
    assert distance >= 0
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-6, abs=1e-24 * scale**2)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, rel=1e-6, abs=1e-24 * scale**2)
    moved = frechet_distance(x @ rotation(dim), y @ rotation(dim))
    assert moved == pytest.approx(distance, rel=1e-6, abs=1e-22 * scale**2)


def test_wrong_input_is_named() -> None:
    x = np.ones((5, 3))
    with pytest.raises(ValueError, match="dimensions 3 and 4"):
        frechet_distance(x, np.ones((5, 4)))
    with pytest.raises(ValueError, match="second set has 1"):
        frechet_distance(np.eye(3), x[:1])
    with pytest.raises(ValueError, match=r"2 embeddings have non-finite values, the first is row 1"):
        frechet_distance(x, [[0, 0, 0], [np.nan, 0, 0], [0, np.inf, 0]])
    with pytest.raises(ValueError, match="not symmetric"):
        Moments.from_statistics(np.zeros(2), [[1, 0.5], [0, 1]], 9)
    indefinite = Moments.from_statistics(np.zeros(2), [[1, 2], [2, 1]], 9)
    with pytest.raises(ValueError, match="not positive semi-definite"):
        frechet_distance(indefinite, np.eye(2))
    with pytest.raises(ArithmeticError, match="too large"), np.errstate(all="ignore"):
        frechet_distance(np.eye(3) * 1e200, np.ones((5, 3)))


# Moments


def close(a: Moments, b: Moments) -> bool:
    scale = np.abs(b.scatter).max() + 1e-300
    return (
        a.n == b.n
        and np.allclose(a.mean, b.mean, rtol=1e-12, atol=1e-12 * np.sqrt(scale))
        and bool(np.abs(a.scatter - b.scatter).max() <= 1e-12 * scale)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 2**31))
def test_merging_and_streaming_equal_the_whole(sizes: list[int], dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((size, dim)) + 100 for size in sizes]
    whole = Moments.from_embeddings(np.concatenate(parts))
    assert close(merge(Moments.from_embeddings(part) for part in parts), whole)
    streamed = Moments.empty(dim)
    for part in parts:
        streamed.update(part)
    assert close(streamed, whole)
    assert (whole.rows is not None) == (whole.n <= 2 * dim)
    assert close(Moments.empty(dim) + whole, whole)


def test_merge_at_full_width_is_exact_to_1e_12_and_small() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5_000, 512)) * np.geomspace(1, 1e-3, 512) + 0.5).astype(np.float32)
    state = Moments.empty(512)
    for start in range(0, len(x), 10):  # as one clip after the other would give them
        state.update(x[start : start + 10])
    assert state.nbytes <= 10e6
    assert len(state.to_bytes()) <= 10e6
    halves = Moments.from_embeddings(x[:2_000]) + Moments.from_embeddings(x[2_000:])
    rows = x.astype(np.float64)
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / (len(x) - 1)
    for moments in (state, halves):
        assert moments.n == 5_000
        assert np.abs(moments.mean - mean).max() < 1e-12
        assert np.abs(moments.covariance - covariance).max() < 1e-12


def test_operands_do_not_change_and_torch_is_taken() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    a, b = Moments.from_embeddings(x), Moments.from_embeddings(2 * x)
    before = a.to_bytes(), b.to_bytes()
    assert (a + b).n == 12
    assert (a.to_bytes(), b.to_bytes()) == before
    x *= 0  # the moments own their rows
    assert a.to_bytes() == before[0]


def test_save_and_load(tmp_path: Path) -> None:
    few = Moments.from_embeddings(np.random.default_rng(0).standard_normal((5, 8)))
    many = Moments.from_embeddings(np.random.default_rng(0).standard_normal((50, 8)))
    for moments in (few, many):
        moments.save(tmp_path / "m.npz")
        loaded = Moments.load(tmp_path / "m.npz")
        assert loaded.same_as(moments)
        assert (loaded.rows is None) == (moments.rows is None)
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]
    assert frechet_distance(loaded, few) == frechet_distance(many, few)
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(ValueError, match="no n, scatter"):
        Moments.load(tmp_path / "other.npz")


def test_moments_refuse_what_does_not_fit() -> None:
    a = Moments.from_embeddings(np.eye(3))
    with pytest.raises(ValueError, match="dimension 3 and 2"):
        a + Moments.from_embeddings(np.eye(2))
    with pytest.raises(ValueError, match="dimension 2, the set has 3"):
        a.update(np.eye(2))
    with pytest.raises(ValueError, match="at least one row"):
        Moments.from_embeddings(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="at least 2 embeddings, this set has 1"):
        _ = Moments.from_embeddings(np.ones((1, 3))).covariance


def test_fad_infinity_removes_the_sample_size_bias() -> None:
    rng = np.random.default_rng(0)
    reference = Moments.from_statistics(np.zeros(16), np.eye(16), 10**6)
    x = rng.standard_normal((2000, 16))
    biased = frechet_distance(reference, Moments.from_embeddings(x[:300]))
    result = frechet_infinity(reference, x, paired=False, smallest=100)
    assert abs(result.value) < 0.3 * biased
    assert result.slope > 0
    assert result.r_squared > 0.9
    assert result.points[-1][0] == 2000
    assert result.points[-1][1] == pytest.approx(frechet_distance(reference, x), rel=1e-9)
    assert frechet_infinity(reference, x, paired=False, smallest=100) == result
    assert frechet_infinity(reference, x, paired=False, smallest=100, seed=1) != result
    with pytest.raises(ValueError, match="n=3"):
        frechet_infinity(reference, x[:3], paired=False, smallest=3)


def test_fad_infinity_of_reconstructions_is_that_of_many_clips() -> None:
    """Outputs and originals share their clips: cut on one side only, the line starts far below zero."""
    rng = np.random.default_rng(0)
    dim, spread = 24, 4 / np.arange(1, 25)

    def corpus(n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        music = (rng.standard_normal((n, 1, dim)) + 0.6 * rng.standard_normal((n, 3, dim))) * spread
        return list(music), list(0.98 * music + 0.02 + 0.1 * spread * rng.standard_normal(music.shape))

    truth = frechet_distance(*(np.concatenate(side) for side in corpus(30_000)))
    for n in (20, 42, 200):
        values, plain = [], []
        for _ in range(12):
            reference, outputs = corpus(n)
            values.append(frechet_infinity(reference, outputs).value)
            plain.append(frechet_distance(np.concatenate(reference), np.concatenate(outputs)))
        assert 0.5 * truth < np.mean(values) < truth + 0.8 * (np.mean(plain) - truth)
        assert frechet_infinity(reference, outputs, paired=False).value < 0
    assert np.mean(values) == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(("n", "dim"), [(12, 40), (64, 200), (300, 20)])
def test_fad_infinity_of_identical_paired_sets_is_exactly_0(n: int, dim: int) -> None:
    x = np.random.default_rng(0).standard_normal((n, dim))
    clips = [x[i : i + 3] for i in range(0, n, 3)]
    for same in ((x, x.copy()), (clips, [clip.copy() for clip in clips])):
        found = frechet_infinity(*same)
        assert (found.value, found.slope, found.r_squared) == (0.0, 0.0, 1.0)
    near = frechet_infinity(x, x + 0.01 * np.random.default_rng(1).standard_normal(x.shape))
    assert abs(near.value) < 0.01 * dim


def test_fad_infinity_draws_clips_and_names_what_cannot_be_paired() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((1 + i % 3, 4)) for i in range(10)]
    assert [n for n, _ in frechet_infinity(clips, [1.1 * clip for clip in clips]).points] == [5, 6, 7, 8, 9, 10]
    with pytest.raises(ValueError, match=r"9 and 10 clips.*paired=False"):
        frechet_infinity(clips[:9], clips)
    with pytest.raises(ValueError, match="no clips to pair"):
        frechet_infinity(Moments.from_embeddings(np.concatenate(clips)), clips)
    independent = [rng.standard_normal((2, 4)) for _ in range(9)]
    assert frechet_infinity(independent, clips, paired=False).points[-1][0] == 10
