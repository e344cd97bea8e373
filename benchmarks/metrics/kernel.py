"""Kernel audio distance: squared maximum mean discrepancy between two sets of embeddings, times 100.

    MMD² = mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j),   k(x, y) = exp(-||x - y||² / (2 σ²))

KAD (Chung et al. 2025, Eq. 4-6) is this with the Gaussian kernel and σ the median distance within one set. Two
conventions differ in which pairs the three means hold, and in that set:

  kad          kadtk 1.1.0: i != j within a set, all pairs across; σ from the set under test. For independent sets it is
               unbiased. Reconstructions share each window with their original, so k(x_i, y_i) is close to 1 and the
               distance falls below 0 by up to 200 / n: identical sets are at -200 (1 - mean k) / n, not at 0.
  kad_paired   pairs of windows of different clips only, in all three means; σ from the originals, so that systems are
               measured with one ruler. Neither a window's own reconstruction nor the likeness of windows of one clip
               enters: unbiased for reconstructions of independent clips, and exactly 0 for identical ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.metrics.base import CorpusMetric
from benchmarks.metrics.moments import Array

#: Rows per tile: a tile of kernel values takes 8 MB at most.
_TILE = 1024
#: Sets of up to this many rows are computed in float64; larger ones in float32 with float64 sums: errors average out.
_DOUBLE_ROWS = 4096

SCALE = 100.0


def kernel_distance(reference: Any, embeddings: Any, *, bandwidth: float | None = None, scale: float = SCALE) -> float:
    """KAD of two sets as kadtk 1.1.0 computes it. Lower is better; about 0 for independent sets of equal laws.

    Memory does not grow with the product of the sets' sizes.

    Args:
        reference: (m, dim) embeddings of the reference set.
        embeddings: (n, dim) of the set under test.
        bandwidth: σ; default the median distance within `embeddings`.
        scale: 100 for KAD.

    Raises:
        ValueError: fewer than 2 rows in a set, different dimensions, non-finite values or bandwidth <= 0.
    """
    x, y = _checked(reference, "reference"), _checked(embeddings, "embeddings")
    return scale * kernel_terms([x], [y], np.zeros(1, dtype=np.int32), paired=False, bandwidth=bandwidth).value


def paired_kernel_distance(
    reference: Sequence[Any], outputs: Sequence[Any], *, bandwidth: float | None = None, scale: float = SCALE
) -> float:
    """Unbiased squared MMD of originals and their reconstructions, by pairs of windows of different clips.

    Args:
        reference: per clip, embeddings (windows, dim).
        outputs: the same clips in the same order.
        bandwidth: σ; default the median distance within `reference`.
        scale: 100 for KAD.

    Raises:
        ValueError: fewer than 2 clips, different numbers of clips or dimensions, non-finite values or bandwidth <= 0.
    """
    if len(reference) < 2 or len(reference) != len(outputs):
        raise ValueError(
            f"{len(reference)} and {len(outputs)} clips: two lists of the same clips are needed, 2 or more"
        )
    blocks = np.zeros(len(reference), dtype=np.int32)
    return scale * kernel_terms(reference, outputs, blocks, paired=True, bandwidth=bandwidth).value


@dataclass(frozen=True)
class KernelTerms:
    """Sums of the kernel between blocks of clips, and the numbers of pairs in them.

    Attributes:
        sums: (3, blocks, blocks) within the reference, within the outputs, across.
        pairs: the same of pairs.
    """

    sums: Array
    pairs: Array

    @property
    def value(self) -> float:
        """MMD² of all clips; NaN where a mean has no pairs."""
        return float(_mmd(self.sums.sum(axis=(1, 2)), self.pairs.sum(axis=(1, 2))))

    @property
    def left_out(self) -> Array:
        """(blocks,) MMD² without each block of clips, at the bandwidth of all; NaN where a mean has no pairs."""
        return _mmd(_without_each(self.sums), _without_each(self.pairs))


def _without_each(table: Array) -> Array:
    """(3, blocks): the total of each table without row and column b."""
    own = np.diagonal(table, axis1=1, axis2=2)
    total: Array = table.sum(axis=(1, 2))[:, None] - table.sum(axis=1) - table.sum(axis=2) + own
    return total


def _mmd(sums: Array, pairs: Array) -> Array:
    means = np.where(pairs > 0.5, sums / np.maximum(pairs, 1.0), math.nan)
    value: Array = means[0] + means[1] - 2.0 * means[2]
    return value


def kernel_terms(
    reference: Sequence[Any],
    outputs: Sequence[Any],
    blocks: np.ndarray,
    *,
    paired: bool,
    bandwidth: float | None = None,
) -> KernelTerms:
    """What `kad` (`paired` False) or `kad_paired` is made of, by blocks of clips.

    Args:
        reference: per clip, embeddings (windows, dim).
        outputs: the same clips; with `paired` False they need not correspond.
        blocks: (clips,) block of each clip, numbered from 0.
        paired: leave out all pairs of windows of one clip, instead of each window with itself.
        bandwidth: σ; default the median distance within the reference (`paired`) or the outputs.

    Raises:
        ValueError: different dimensions, or bandwidth <= 0.
    """
    # Clips in the order of their blocks, so that a block is a run of rows.
    order = np.argsort(blocks, kind="stable")
    n_blocks = 1 + int(blocks.max())
    lengths = [np.array([len(side[i]) for i in order]) for side in (reference, outputs)]
    x, y = (np.concatenate([side[i] for i in order]) for side in (reference, outputs))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the sets have dimensions {x.shape[1]} and {y.shape[1]}")
    sigma = median_bandwidth(x if paired else y) if bandwidth is None else float(bandwidth)
    if not sigma > 0.0:
        raise ValueError(f"bandwidth={sigma}: must be positive (are all embeddings of the set equal?)")
    # Distances do not change with the origin, and products lose fewer digits near it.
    center, unit = x.mean(axis=0, dtype=np.float64), sigma * math.sqrt(2.0)
    rows = [_placed(z, center, unit, max(len(x), len(y))) for z in (x, y)]
    of = [np.repeat(blocks[order], length) for length in lengths]
    sizes = [np.bincount(block, minlength=n_blocks).astype(np.float64) for block in of]
    sums, pairs = np.empty((3, n_blocks, n_blocks)), np.empty((3, n_blocks, n_blocks))
    for term, (a, b) in enumerate(((0, 0), (1, 1), (0, 1))):
        sums[term] = _sums_by_block(rows[a], rows[b], of[a], of[b], n_blocks)
        pairs[term] = np.outer(sizes[a], sizes[b])
        # What does not count lies in the blocks' own cells.
        if paired:
            first, second = (np.cumsum([0, *lengths[side]]) for side in (a, b))
            for i, block in enumerate(blocks[order]):
                p, q = rows[a][first[i] : first[i + 1]], rows[b][second[i] : second[i + 1]]
                sums[term, block, block] -= _kernel(p, q).sum(dtype=np.float64)
                pairs[term, block, block] -= len(p) * len(q)
        elif term < 2:
            sums[term, range(n_blocks), range(n_blocks)] -= sizes[a]  # k(x, x) = 1
            pairs[term, range(n_blocks), range(n_blocks)] -= sizes[a]
    return KernelTerms(sums, pairs)


def _placed(x: np.ndarray, center: Array, unit: float, n_rows: int) -> np.ndarray:
    """(x - center) / unit in the type that sets of `n_rows` are computed in."""
    if n_rows <= _DOUBLE_ROWS:
        placed: np.ndarray = (x - center) / unit
        return placed
    placed = np.empty(x.shape, dtype=np.float32)
    for start in range(0, len(x), _TILE):
        placed[start : start + _TILE] = (x[start : start + _TILE] - center) / unit
    return placed


def _sums_by_block(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray, n_blocks: int) -> Array:
    """(blocks, blocks) sums of exp(-||a_i - b_j||²) over rows of every two blocks; `of_a`, `of_b` ascend."""
    total = np.zeros((n_blocks, n_blocks))
    same = a is b
    for i in range(0, len(a), _TILE):
        rows, kinds = a[i : i + _TILE], of_a[i : i + _TILE]
        starts = np.flatnonzero(np.diff(kinds, prepend=-1))
        for j in range(i if same else 0, len(b), _TILE):
            others = of_b[j : j + _TILE]
            edges = np.flatnonzero(np.diff(others, prepend=-1))
            kernel = _kernel(rows, b[j : j + _TILE])
            part = np.add.reduceat(np.add.reduceat(kernel, edges, axis=1, dtype=np.float64), starts, axis=0)
            cell = np.ix_(kinds[starts], others[edges])
            total[cell] += part
            if same and j > i:  # the tile below the diagonal is the transpose of this one
                total[cell[1].T, cell[0].T] += part.T
    return total


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """exp(-||a_i - b_j||²) (len(a), len(b)), in the rows' type."""
    kernel = a @ (2 * b).T
    kernel -= np.einsum("ij,ij->i", a, a)[:, None]
    kernel -= np.einsum("ij,ij->i", b, b)[None, :]
    # Rounding can leave -||a - b||² slightly above 0 for nearly equal rows.
    np.minimum(kernel, 0, out=kernel)
    return np.exp(kernel, out=kernel)


def median_bandwidth(embeddings: Any) -> float:
    """Median Euclidean distance between different rows; the lower of the middle two, as torch's median.

    It is exact for any number of rows: the middle float32 is found by its upper and then its lower 16 bits, so that
    memory does not grow with the pairs.
    """
    x = _checked(embeddings, "embeddings")
    x = _placed(x, x.mean(axis=0, dtype=np.float64), 1.0, len(x))
    rank = (len(x) * (len(x) - 1) // 2 - 1) // 2
    upper = lower = 0
    for shift in (16, 0):
        counts = np.zeros(2**16, dtype=np.int64)
        for bits in _squared_distances(x):
            kept = bits >> 16 if shift else bits[bits >> 16 == upper] & 0xFFFF
            counts += np.bincount(kept, minlength=2**16)
        below = np.cumsum(counts)
        found = int(np.searchsorted(below, rank, side="right"))
        rank -= int(below[found - 1]) if found else 0
        upper, lower = (found, 0) if shift else (upper, found)
    return math.sqrt(float(np.uint32(upper << 16 | lower).view(np.float32)))


def _squared_distances(rows: np.ndarray) -> Iterator[npt.NDArray[np.uint32]]:
    """Squared distances of all pairs of rows, tile by tile, as the bits of float32: these ascend with the number."""
    squares = np.einsum("ij,ij->i", rows, rows)
    for i in range(0, len(rows), _TILE):
        for j in range(i, len(rows), _TILE):
            first, second = slice(i, i + _TILE), slice(j, j + _TILE)
            tile = squares[first, None] + squares[second] - 2 * (rows[first] @ rows[second].T)
            kept = tile[np.triu_indices(len(tile), 1)] if i == j else tile.ravel()
            yield np.maximum(kept, 0.0).astype(np.float32).view(np.uint32)


def _checked(x: Any, name: str) -> np.ndarray:
    """(n, dim) with n >= 2, finite; of a real floating-point type."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().resolve_conj().resolve_neg().numpy()
    rows = np.asarray(x)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"{name} must be (n, dim) with n >= 2, got shape {rows.shape}")
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(f"{name}: {len(bad)} rows have non-finite values, the first is row {bad[0]}")
    return rows


KAD = CorpusMetric(
    name="kad",
    title="KAD",
    higher_is_better=False,
    digits=3,
    note="100 x squared maximum mean discrepancy of embeddings, Gaussian kernel, as kadtk computes it: bandwidth from "
    "the outputs, pairs of a window and its own reconstruction counted (kad_paired leaves them out)",
    distance="kad",
    tolerance=1e-3,
    relative_tolerance=0.02,
    elsewhere_tolerance=0.04,
)

KAD_PAIRED = CorpusMetric(
    name="kad_paired",
    title="KAD paired",
    higher_is_better=False,
    digits=3,
    note="100 x unbiased squared maximum mean discrepancy of embeddings, Gaussian kernel, over pairs of windows of "
    "different clips, bandwidth from the originals (not kadtk's convention, which is kad)",
    distance="kad_paired",
    tolerance=1e-3,
    relative_tolerance=0.02,
    elsewhere_tolerance=0.04,
)
