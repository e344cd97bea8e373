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

from benchmarks.metrics.kernel import kernel_distance, median_bandwidth


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
    sigma = float(np.median(pdist(x)))
    assert kernel_distance(x, y) == pytest.approx(direct(x, y, sigma), abs=1e-4)
    assert kernel_distance(x, y, bandwidth=2.0) == pytest.approx(direct(x, y, 2.0), abs=1e-4)
    assert kernel_distance(x, y, scale=1.0) == pytest.approx(kernel_distance(x, y) / 100)


def test_blocks_do_not_change_the_value() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4500, 8)), rng.standard_normal((2300, 8)) + 0.1
    sigma = float(np.median(pdist(x)))
    assert kernel_distance(x, y, bandwidth=sigma) == pytest.approx(direct(x, y, sigma), abs=1e-5)
    # Above 4096 rows the median is that of a sample: off by its sampling error only.
    assert median_bandwidth(x) == pytest.approx(sigma, rel=2e-3)
    assert median_bandwidth(x) == median_bandwidth(x)


def test_bandwidth_comes_from_the_reference_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 4)), 9 * rng.standard_normal((50, 4))
    assert median_bandwidth(x) == pytest.approx(float(np.median(pdist(x))), rel=1e-5)
    assert kernel_distance(x, y) != pytest.approx(kernel_distance(y, x), rel=0.1)


def test_paired_sets_leave_out_their_own_pairs() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6))
    assert kernel_distance(x, x, paired=True) == pytest.approx(0.0, abs=1e-4)
    assert kernel_distance(x, x) < -1
    y, sigma = x + 0.5 * rng.standard_normal(x.shape), 3.0
    kernel = np.exp(-cdist(x, y, "sqeuclidean") / (2 * sigma**2))
    own = kernel.trace()
    wanted = direct(x, y, sigma) + 200 * (kernel.mean() - (kernel.sum() - own) / (40 * 39))
    assert kernel_distance(x, y, bandwidth=sigma, paired=True) == pytest.approx(wanted, abs=1e-4)


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
        (np.ones((5, 3)), np.eye(3), {}, "bandwidth=0.0"),
        (np.eye(3), np.eye(3)[:2], {"paired": True}, "equal sizes, got 3 and 2"),
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
