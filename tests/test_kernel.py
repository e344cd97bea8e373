"""Kernel audio distance: against the formula in float64, unbiasedness, bandwidth, memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from benchmarks.metrics.kernel import kernel_distance, median_bandwidth, paired_kernel_distance


def direct(x: np.ndarray, y: np.ndarray, sigma: float) -> float:
    """100 x unbiased MMD² with whole kernel matrices in float64."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-cdist(a, b, "sqeuclidean") / (2 * sigma**2))

    m, n = len(x), len(y)
    within_x = (kernel(x, x).sum() - m) / (m * (m - 1))
    within_y = (kernel(y, y).sum() - n) / (n * (n - 1))
    return 100 * (within_x + within_y - 2 * kernel(x, y).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 12), st.integers(0, 2**31))
def test_equals_the_formula(m: int, n: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((m, dim)) + 5, 1.3 * rng.standard_normal((n, dim)) + 5.2
    assert kernel_distance(x, y) == pytest.approx(direct(x, y, lower_median(y)), abs=1e-4)
    assert kernel_distance(x, y, bandwidth=2.0) == pytest.approx(direct(x, y, 2.0), abs=1e-9)
    assert kernel_distance(x, y, scale=1.0) == pytest.approx(kernel_distance(x, y) / 100)


def lower_median(x: np.ndarray) -> float:
    distances = np.sort(pdist(x))
    return float(distances[(len(distances) - 1) // 2])


@pytest.mark.parametrize(
    ("m", "n", "dim", "seed", "kadtk"),
    [(40, 40, 6, 0, 1.526077326746944), (61, 50, 16, 1, 3.1692397013672213), (300, 200, 64, 2, 2.247745818654767)],
)
def test_equals_kadtk(m: int, n: int, dim: int, seed: int, kadtk: float) -> None:
    """Numbers by `calc_kernel_audio_distance` of kadtk 1.1.0 on these arrays, with precision=torch.float64.

    Its default float32 is off by 4e-6 to 2e-5 here.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, dim))
    y = 0.3 + 1.2 * rng.standard_normal((n, dim))
    assert kernel_distance(x, y) == pytest.approx(kadtk, abs=1e-6)


def test_equals_kadtk_on_reconstructions() -> None:
    """The number is kadtk's as above: it counts a window and its own reconstruction, and lies far below 0."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((126, 200)).astype(np.float32)
    y = (x + 0.2 * rng.standard_normal(x.shape)).astype(np.float32)
    assert kernel_distance(x, y) == pytest.approx(-0.5917579137714624, abs=1e-6)
    clips = [list(z.reshape(42, 3, 200)) for z in (x, y)]
    assert 0.0 < paired_kernel_distance(*clips) < 0.05


def test_tiles_do_not_change_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large sets are computed in float32, tile by tile."""
    monkeypatch.setattr("benchmarks.metrics.kernel._TILE", 64)
    monkeypatch.setattr("benchmarks.metrics.kernel._DOUBLE_ROWS", 100)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((230, 8)), rng.standard_normal((450, 8)) + 0.1
    sigma = lower_median(y)
    assert kernel_distance(x, y, bandwidth=sigma) == pytest.approx(direct(x, y, sigma), abs=1e-5)
    assert median_bandwidth(y) == pytest.approx(sigma, rel=1e-6)
    clips = [list(z.reshape(45, 10, 8)) for z in (y[::-1], y)]
    monkeypatch.undo()
    whole = paired_kernel_distance(*clips)
    monkeypatch.setattr("benchmarks.metrics.kernel._TILE", 64)
    assert paired_kernel_distance(*clips) == pytest.approx(whole, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**31))
def test_the_bandwidth_is_the_lower_median(n: int, seed: int) -> None:
    x = 10 * np.random.default_rng(seed).standard_normal((n, 3))
    assert median_bandwidth(x) == pytest.approx(lower_median(x), rel=1e-6)


def test_which_set_the_bandwidth_comes_from() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4))
    y = 9 * rng.standard_normal((80, 4))
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(x, y, bandwidth=median_bandwidth(y)))
    clips = [list(z.reshape(20, 4, 4)) for z in (x, y)]
    of_reference = paired_kernel_distance(*clips, bandwidth=median_bandwidth(x))
    assert paired_kernel_distance(*clips) == pytest.approx(of_reference)
    assert paired_kernel_distance(*clips[::-1]) != pytest.approx(of_reference, rel=0.1)


def test_paired_sets_leave_out_all_pairs_of_one_clip() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 15)
    x = [rng.standard_normal(6) + 0.3 * rng.standard_normal((size, 6)) for size in sizes]
    y = [clip + 0.5 * rng.standard_normal(clip.shape) for clip in x]
    of = np.repeat(np.arange(15), sizes)
    apart = of[:, None] != of
    a, b = np.concatenate(x), np.concatenate(y)
    means = [np.exp(-cdist(p, q, "sqeuclidean") / (2 * 3.0**2))[apart].mean() for p, q in ((a, a), (b, b), (a, b))]
    expected = 100 * (means[0] + means[1] - 2 * means[2])
    assert paired_kernel_distance(x, y, bandwidth=3.0) == pytest.approx(expected, abs=1e-9)
    assert abs(paired_kernel_distance(x, x)) < 1e-9
    with pytest.raises(ValueError, match="15 and 14 clips"):
        paired_kernel_distance(x, y[1:])


def test_likeness_of_windows_of_a_clip_moves_only_kad() -> None:
    """Windows of one clip are alike: counted as pairs, they move the distance of few clips."""

    def mean(n: int, paired: bool) -> float:
        values = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            x = rng.standard_normal((n, 1, 4)) + 0.1 * rng.standard_normal((n, 4, 4))
            y = 1.3 * x
            if paired:
                values.append(paired_kernel_distance(list(x), list(y), bandwidth=2.0))
            else:
                values.append(kernel_distance(x.reshape(-1, 4), y.reshape(-1, 4), bandwidth=2.0))
        return float(np.mean(values))

    assert mean(6, True) == pytest.approx(mean(40, True), abs=0.3)
    assert abs(mean(6, False) - mean(40, False)) > 1.0


def test_unbiased_for_equal_laws() -> None:
    rng = np.random.default_rng(0)
    values = [
        kernel_distance(rng.standard_normal((30, 4)), rng.standard_normal((30, 4)), bandwidth=2.5) for _ in range(400)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.eye(3), np.eye(4), {}, "dimensions 3 and 4"),
        (np.ones((1, 3)), np.eye(3), {}, "reference must be"),
        (np.eye(3), [[0, 0, 0], [0, np.nan, 0]], {}, "embeddings: 1 rows .* first is row 1"),
        (np.eye(3), np.ones((5, 3)), {}, "bandwidth=0.0"),
        (np.eye(3), np.eye(3), {"bandwidth": -1.0}, "bandwidth=-1.0"),
    ],
)
def test_wrong_input_is_named(x: np.ndarray, y: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance(x, y, **options)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's account of a process's memory")
def test_20000_by_20000_in_under_a_gigabyte() -> None:
    # Not ru_maxrss: that of a child begins at its parent's size, and that of all children is the largest one's.
    code = (
        "import numpy as np; from pathlib import Path; from benchmarks.metrics.kernel import kernel_distance;"
        "x = np.random.default_rng(0).standard_normal((20000, 512)).astype(np.float32);"
        "assert kernel_distance(x, x + np.float32(0.1)) > 0;"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    peak_kib = int(done.stdout)
    assert peak_kib * 1024 < 1e9
