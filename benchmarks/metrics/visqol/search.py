"""The search for the patches of the estimate that match the reference patches best.

Every reference patch meets every offset in reach (up to 36 s on either side): some seven million NSIM
cells for ten seconds of audio. Offsets are the SIMD lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchmarks.metrics.visqol.lanes import Lanes
from benchmarks.metrics.visqol.modes import C1, C3, KERNEL
from benchmarks.metrics.visqol.nsim import local_statistics
from m2l.kernels.jit import jit

_CORNER, _EDGE, _CENTER = KERNEL
_LOWEST = -np.finfo(np.float64).max
#: Offsets that are compared together.
LANES = 16
#: Numbers about each reference cell: nine weighted neighbors, mean, signed deviation, mean² + C1.
_CELL = 12


@intrinsic
def _compare_row(
    typing_context: Any, preds: Any, means: Any, deviations: Any, cells: Any, rows: Any, offset: Any, out: Any
) -> tuple[Any, Any]:
    """out[lane] = Σ over frames j of the similarity of one band at offset + lane.

    Written as vector instructions: the 3x3 neighborhood then slides along the patch in registers, and
    each step loads three new columns instead of nine.

    Args of note: `rows` holds the band above, the band itself and the band below; `cells` is
    (bands, frames, 12); `means` and `deviations` are (3, bands, frames): first, inner, last frame.
    """
    signature = types.void(preds, means, deviations, cells, rows, offset, out)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = Lanes(context, builder, ir.DoubleType(), LANES)
        x, mean, deviation, cell, row, result = v.arrays(signature, args, 0, 1, 2, 3, 4, 6)
        start = v.index(signature, args, 5)
        n_bands, n_columns = (builder.extract_value(x.shape, i) for i in (0, 1))
        n_frames = builder.extract_value(cell.shape, 1)
        plane = builder.mul(n_bands, n_columns)
        row_index = [builder.load(builder.gep(row.data, [v.number(i)])) for i in range(3)]
        row_start = [builder.add(builder.mul(i, n_columns), start) for i in row_index]
        cell_start = builder.mul(builder.mul(row_index[1], n_frames), v.number(_CELL))
        first_columns = [v.load(x.data, s) for s in row_start]

        entry, loop = builder.block, builder.append_basic_block("frames")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        frame, total = builder.phi(v.integer), builder.phi(v.vector)
        before, here = [builder.phi(v.vector) for _ in range(3)], [builder.phi(v.vector) for _ in range(3)]
        following = builder.add(frame, v.number(1))
        after = [v.load(x.data, builder.add(s, following)) for s in row_start]
        base = builder.add(cell_start, builder.mul(frame, v.number(_CELL)))
        known = [v.splat(cell.data, builder.add(base, v.number(k))) for k in range(_CELL)]
        weights, (mean_r, deviation_r, square_r) = known[:9], known[9:]
        neighbors = [column[i] for i in range(3) for column in (before, here, after)]
        cross = builder.fmul(weights[0], neighbors[0])
        for weight, neighbor in zip(weights[1:], neighbors[1:], strict=True):
            cross = v.fused(weight, neighbor, cross)

        is_last = builder.icmp_signed("==", following, n_frames)
        is_first = builder.icmp_signed("==", frame, v.number(0))
        variant = builder.select(is_first, v.number(0), builder.select(is_last, v.number(2), v.number(1)))
        place = builder.add(builder.add(builder.mul(variant, plane), row_start[1]), frame)
        mean_d, deviation_d = v.load(mean.data, place), v.load(deviation.data, place)
        product = builder.fmul(mean_r, mean_d)
        spread = builder.fmul(deviation_r, deviation_d)
        spread = builder.select(builder.fcmp_ordered(">", spread, v.constant(0.0)), spread, v.constant(0.0))
        luminance = v.fused(v.constant(2.0), product, v.constant(C1))
        structure = builder.fadd(builder.fsub(cross, product), v.constant(C3))
        denominator = builder.fmul(v.fused(mean_d, mean_d, square_r), builder.fadd(spread, v.constant(C3)))
        similarity = builder.fdiv(builder.fmul(luminance, structure), denominator)
        new_total = builder.fadd(total, similarity)
        builder.cbranch(is_last, done, loop)
        carried = [(frame, v.number(0), following), (total, v.constant(0.0), new_total)]
        carried += [(b, c, h) for b, c, h in zip(before, first_columns, here, strict=True)]
        carried += [(h, c, a) for h, c, a in zip(here, first_columns, after, strict=True)]
        for phi, initial, value in carried:
            phi.add_incoming(initial, entry)
            phi.add_incoming(value, loop)

        builder.position_at_end(done)
        v.store(new_total, result.data, v.number(0))
        return context.get_dummy_value()

    return signature, generate


@jit()
def _describe_cells(
    patch: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64], cells: NDArray[np.float64]
) -> None:
    """Fill `cells` (bands, frames, 12). Neighbors beyond the first and last frame repeat the edge: their
    weight goes to the edge column, and the column outside gets weight 0."""
    bands, n = patch.shape
    for b in range(bands):
        above, below = max(b - 1, 0), min(b + 1, bands - 1)
        for j in range(n):
            for k in range(_CELL):
                cells[b, j, k] = 0.0
            for column in range(-1, 2):
                t = min(max(j + column, 0), n - 1)
                k = t - j + 1
                side = _CORNER if column != 0 else _EDGE
                cells[b, j, k] += side * patch[above, t]
                cells[b, j, 3 + k] += (_EDGE if column != 0 else _CENTER) * patch[b, t]
                cells[b, j, 6 + k] += side * patch[below, t]
            cells[b, j, 9] = mean[b, j]
            cells[b, j, 10] = deviation[b, j]
            cells[b, j, 11] = mean[b, j] * mean[b, j] + C1


@jit()
def _search(
    target: NDArray[np.float64],
    patch_frames: int,
    patch_starts: NDArray[np.int64],
    preds: NDArray[np.float64],
    n_preds: int,
    radius: int,
    similarity: NDArray[np.float64],
) -> None:
    """similarity[patch, offset] = NSIM of each reference patch with each patch of `preds` in reach."""
    bands, columns = preds.shape
    means, deviations = np.empty((3, bands, columns)), np.empty((3, bands, columns))
    local_statistics(preds, 0, 1, means[0], deviations[0])
    local_statistics(preds, -1, 1, means[1], deviations[1])
    local_statistics(preds, -1, 0, means[2], deviations[2])
    patch_mean, patch_deviation = np.empty((bands, patch_frames)), np.empty((bands, patch_frames))
    cells = np.empty((bands, patch_frames, _CELL))
    rows = np.empty(3, dtype=np.int64)
    sums = np.empty(LANES)
    for p in range(patch_starts.shape[0]):
        start = patch_starts[p]
        patch = np.ascontiguousarray(target[:, start : start + patch_frames])
        local_statistics(patch, -1, 1, patch_mean, patch_deviation)
        _describe_cells(patch, patch_mean, patch_deviation, cells)
        last = min(start + radius, n_preds - 1)
        for first in range(max(start - radius, 0), last + 1, LANES):
            n = min(LANES, last + 1 - first)
            for b in range(bands):
                rows[0], rows[1], rows[2] = max(b - 1, 0), b, min(b + 1, bands - 1)
                _compare_row(preds, means, deviations, cells, rows, first, sums)  # type: ignore[call-arg]
                for lane in range(n):
                    similarity[p, first + lane] += sums[lane]
            for lane in range(n):
                similarity[p, first + lane] /= bands * patch_frames


@jit()
def _best_path(
    similarity: NDArray[np.float64],
    patch_starts: NDArray[np.int64],
    radius: int,
    offsets: NDArray[np.int64],
    lost: NDArray[np.bool_],
) -> None:
    """Dynamic programming: offsets that raise the summed similarity most, strictly increasing.

    A patch may also be lost: it then takes the offset of the patch before it and adds nothing.
    """
    n_patches, n_offsets = similarity.shape
    score = np.zeros((n_patches, n_offsets))
    previous = np.full((n_patches, n_offsets), -1)
    for p in range(n_patches):
        low, high = max(patch_starts[p] - radius, 0), min(patch_starts[p] + radius, n_offsets - 1)
        if p == 0:
            for o in range(low, high + 1):
                score[0, o] = similarity[0, o]
            continue
        seen = max(patch_starts[p - 1] - radius, 0)
        best, best_offset = _LOWEST, -1
        for o in range(low, high + 1):
            while seen < o:  # the running maximum over earlier offsets; of equals the last one counts
                if score[p - 1, seen] >= best and score[p - 1, seen] > _LOWEST:
                    best, best_offset = score[p - 1, seen], seen
                seen += 1
            total, origin = similarity[p, o] + best, best_offset
            if score[p - 1, o] > total:
                total, origin = score[p - 1, o], o
            score[p, o] = total
            previous[p, o] = origin

    last = n_patches - 1
    low, high = max(patch_starts[last] - radius, 0), min(patch_starts[last] + radius, n_offsets - 1)
    best, offset = _LOWEST, low
    for o in range(low, high + 1):
        if score[last, o] > best:
            best, offset = score[last, o], o
    for p in range(last, -1, -1):
        offsets[p] = offset
        lost[p] = offset == previous[p, offset]
        offset = previous[p, offset]


@dataclass(frozen=True)
class Match:
    """Which frames of the estimate each scored reference patch was matched with.

    Attributes:
        starts: first reference frame of each patch, (patches,).
        offsets: first matched frame of the estimate, (patches,).
        lost: no match was found; the patch counts with similarity 0, (patches,).
        n_dropped: reference patches that begin after the end of the estimate and are not scored.
    """

    starts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    lost: NDArray[np.bool_]
    n_dropped: int


def scorable_patches(starts: NDArray[np.int64], n_preds: int, patch_frames: int) -> int:
    """Number of reference patches that begin at most half a patch after the end of the estimate."""
    reach = n_preds + patch_frames // 2
    n = len(starts)
    while n and starts[n - 1] > reach:
        n -= 1
    return n


def best_path(
    similarity: NDArray[np.float64], starts: NDArray[np.int64], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Offsets and lost flags of the best strictly increasing path through `similarity` (patches, offsets)."""
    offsets, lost = np.empty(len(starts), dtype=np.int64), np.empty(len(starts), dtype=np.bool_)
    _best_path(similarity, starts, radius, offsets, lost)
    return offsets, lost


def match_patches(
    target: NDArray[np.float64], preds: NDArray[np.float64], starts: NDArray[np.int64], patch_frames: int, radius: int
) -> Match:
    """Find the patches of `preds` that match the reference patches best, all together.

    Args:
        target: floored spectrogram, (bands, frames).
        preds: floored spectrogram, (bands, frames).
        starts: first frame of each reference patch.
        patch_frames: frames in a patch.
        radius: search radius in frames.

    Raises:
        ValueError: `preds` is too short for even one patch.
    """
    n_preds = preds.shape[1]
    n = scorable_patches(starts, n_preds, patch_frames)
    if n == 0:
        raise ValueError(f"preds is too short to score any reference patch ({n_preds} frames)")
    kept = np.ascontiguousarray(starts[:n], dtype=np.int64)
    # Patches that run over the end see zeros; the last group of lanes reads some more of them.
    padded = np.zeros((preds.shape[0], n_preds + patch_frames + LANES + 1))
    padded[:, :n_preds] = preds
    similarity = np.zeros((n, n_preds))
    _search(np.ascontiguousarray(target), patch_frames, kept, padded, n_preds, radius, similarity)
    offsets, lost = best_path(similarity, kept, radius)
    return Match(kept, offsets, lost, len(starts) - n)
