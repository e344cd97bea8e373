"""Bootstrap draws: which of n things a resample holds, and how often.

Every draw comes from a generator seeded by (seed, n), so two systems scored on the same clips are resampled alike,
whatever the order of evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

N_RESAMPLES = 2000
CONFIDENCE = 0.95
#: Resamples drawn at once, and the most indices among them: 8 MB as int32, whatever the number of clips.
_BLOCK_ROWS, _BLOCK_INDICES = 250, 2**21


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
