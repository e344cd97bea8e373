"""Groups of clips that belong together (excerpts of one track, notes of one instrument), and resampling by group.

Clips of a group resemble each other, so they are not independent: the unit that is drawn, left out or counted is the
group. Where every clip is its own group, everything here is what it would be without groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.statistics.bootstrap import Values, count_draws, resample_blocks

Index = npt.NDArray[np.int32]


def group_index(ids: Iterable[str], groups: Mapping[str, str] | None = None) -> Index:
    """(n,) number of each clip's group; groups are numbered in order of first appearance.

    Args:
        ids: names of the clips.
        groups: clip -> group. A clip that is missing, or whose group is empty, is a group of its own.
    """
    known = groups or {}
    return number_groups([known.get(clip) or clip for clip in ids])


def number_groups(labels: Sequence[Hashable] | npt.NDArray[np.generic]) -> Index:
    """(n,) the labels as numbers from 0, in order of first appearance."""
    values = labels.tolist() if isinstance(labels, np.ndarray) else labels
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in values], dtype=np.int32)


def group_weights(n_groups: int, n_resamples: int, seed: int) -> Iterator[npt.NDArray[np.int32]]:
    """How often each resample of the groups holds each group, in blocks (rows, n_groups) of n_resamples rows together.

    The groups are drawn by (seed, number of groups) alone, so what is measured on the same clips is resampled alike.

    Raises:
        ValueError: n_groups or n_resamples is below 1 (when the first block is asked for).
    """
    for block in resample_blocks(n_groups, n_resamples, seed):
        yield count_draws(block, n_groups).astype(np.int32)


def leave_out_blocks(n_groups: int, seed: int, most: int = 200) -> list[Index]:
    """The groups that each replicate of a jackknife leaves out: one each, or `most` blocks of nearly equal size.

    Blocks are drawn by (seed, n_groups), and each group is in exactly one.

    Raises:
        ValueError: n_groups or `most` is below 1.
    """
    if n_groups < 1 or most < 1:
        raise ValueError(f"n_groups={n_groups} and most={most} must be at least 1")
    order = np.arange(n_groups, dtype=np.int32)
    if n_groups > most:
        np.random.Generator(np.random.PCG64([seed, n_groups])).shuffle(order)
    return [np.sort(block) for block in np.array_split(order, min(n_groups, most))]


def group_sums(table: Values, index: Index) -> Values:
    """(groups, columns): the rows of a table `(n, columns)` added by group."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(1 + int(index.max())))
    return np.add.reduceat(table[order], starts, axis=0)


def effective_groups(index: Index) -> float:
    """How many groups of one size tell as much: `n^2 / sum(n_g^2)`, the number of groups where all sizes are equal.

    It replaces the number of groups in degrees of freedom where a few groups hold most clips (Carter, Schnepel and
    Steigerwald 2017).
    """
    sizes = np.bincount(index).astype(np.float64)
    return float(sizes.sum() ** 2 / np.square(sizes).sum())


def left_out_means(values: Values, index: Index) -> Values:
    """(groups,): the mean over clips without each group, the replicates of a jackknife. There must be two groups."""
    sizes = np.bincount(index)
    return (values.sum() - np.bincount(index, weights=values)) / (len(values) - sizes)
