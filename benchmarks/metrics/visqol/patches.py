"""Which stretches of audio make the patches: where they start, and how they are cut and aligned.

The truncations to whole samples repeat those of Google's C++ in double arithmetic: 28 of 1,500 start
times k·0.02 s come out one sample early, and exactness needs them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol.modes import Mode
from benchmarks.metrics.visqol.search import Match

#: Voice activity: RMS of a frame on a 16-bit scale, with the signal's largest sample at full scale.
_ACTIVE_RMS = 5000.0
#: A frame is silent if it and the two before it are below that level.
_SILENT_FRAMES = 3


def n_required_frames(mode: Mode) -> int:
    """Frames a reference must have for a single patch."""
    lead = mode.patch_frames // 2
    return mode.patch_frames + (lead - 1 if mode.voice_activity else lead)


def voice_activity(signal: NDArray[np.float64], start: int, n_frames: int, hop: int) -> NDArray[np.bool_]:
    """Frames with voice activity, by level.

    Args:
        signal: mono, (samples,).
        start: first sample of the first frame.
        n_frames: number of frames.
        hop: samples in a frame; frames do not overlap here.

    Returns:
        (n_frames,); the first two always count as active.
    """
    peak = signal.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.clip(signal[start : start + n_frames * hop] / peak * 32768, -32768, 32767)
    frames = np.trunc(np.nan_to_num(scaled)).reshape(n_frames, hop)
    loud = np.sqrt(np.mean(frames**2, axis=1)) >= _ACTIVE_RMS
    active = loud.copy()
    for before in range(1, _SILENT_FRAMES):
        active[before:] |= loud[:-before]
    active[: _SILENT_FRAMES - 1] = True
    return active


def patch_starts(signal: NDArray[np.float64], n_frames: int, hop: int, mode: Mode) -> NDArray[np.int64]:
    """First frame of each reference patch.

    Audio mode tiles the signal with patches; speech mode keeps those with a frame of voice activity.
    """
    size = mode.patch_frames
    first = size // 2 - 1
    if not mode.voice_activity:
        end = max(n_frames - size, size // 2 + 1)
        return np.arange(size // 2, end, size, dtype=np.int64) - 1
    count = (n_frames - first) // size
    # The C++ passes the frame number `first` where a sample number is meant; exactness keeps it.
    active = voice_activity(signal, first, count * size, hop).reshape(count, size).any(axis=1)
    return first + size * np.flatnonzero(active).astype(np.int64)


@dataclass(frozen=True)
class Piece:
    """One patch's audio after fine alignment: equally long stretches of both signals.

    Attributes:
        target_start: first sample in the reference.
        n_target: samples of the reference.
        preds_start: first sample in the estimate.
        preds_zeros: zeros that come before it.
        n_preds: samples of the estimate, zeros included.
        times: start and end in the reference, start and end in the estimate, in seconds.
    """

    target_start: int
    n_target: int
    preds_start: int
    preds_zeros: int
    n_preds: int
    times: tuple[float, float, float, float]


@dataclass(frozen=True)
class PatchPlan:
    """The slices of both signals that belong to each matched patch, in samples and seconds."""

    target_start: NDArray[np.int64]
    target_stop: NDArray[np.int64]
    preds_start: NDArray[np.int64]
    preds_stop: NDArray[np.int64]
    target_seconds: NDArray[np.float64]
    preds_seconds: NDArray[np.float64]
    patch_seconds: float

    def coarse_times(self, lost: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Times before fine alignment, (patches, 4), zeros in the estimate where a patch is lost."""
        start, other = self.target_seconds, self.preds_seconds
        times = np.stack([start, start + self.patch_seconds, other, other + self.patch_seconds], axis=1)
        times[lost, 2:] = 0.0
        return times

    def realign(self, row: int, lag: int, sample_rate: int) -> Piece:
        """Shift the estimate's slice by `lag` samples and cut both to what they share.

        Negative lags drop the first samples of the estimate; positive ones put zeros before it, and
        these zeros are cut off again together with the reference beside them.
        """
        a, b = int(self.target_start[row]), int(self.preds_start[row])
        n_target, n_preds = int(self.target_stop[row]) - a, int(self.preds_stop[row]) - b
        zeros = max(lag, 0)
        if lag < 0:
            b, n_preds = b - lag, n_preds + lag
        n_preds += zeros
        if n_target > n_preds:
            n_target = n_preds
        elif n_target < n_preds:
            # Seconds and back again may lose a sample; then one zero stays.
            cut = max(int(lag / sample_rate * sample_rate), 0)
            a, n_target, n_preds, zeros = a + cut, n_target - cut, n_target - cut, zeros - cut
        seconds = lag / sample_rate
        t, p = float(self.target_seconds[row]), float(self.preds_seconds[row])
        t, p = (t + seconds, p) if lag > 0 else (t, p - seconds)
        times = (t, t + n_target / sample_rate, p, p + n_preds / sample_rate)
        return Piece(a, n_target, b, zeros, n_preds, times)


def plan_patches(match: Match, reference: Any, preds: NDArray[np.float64]) -> tuple[PatchPlan, NDArray[np.float64]]:
    """Cut both signals at the matched patches.

    A match that runs over the end of the estimate is filled up with zeros, which the C++ puts *before*
    the slice; exactness keeps them there. Such slices are appended to the estimate.

    Args:
        match: reference patches and their matches.
        reference: the prepared reference (`benchmarks.metrics.visqol.core.Reference`).
        preds: the aligned estimate, (samples,).

    Returns:
        The plan, and the estimate with the filled-up slices behind it.
    """
    rate, step = reference.sample_rate, reference.frame_seconds
    duration = step * reference.mode.patch_frames
    target, other = match.starts * step, match.offsets * step
    n = len(preds)

    def samples(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.trunc(seconds * rate).astype(np.int64)

    # The end is one short of the last sample at most: the C++ counts its end index as inclusive.
    # At rates where a quarter of a window is no whole number of samples, times run ahead of the frames.
    starts = np.minimum(samples(other), n - 2)
    stops = np.minimum(samples(other + duration), n - 1)
    missing = np.trunc((other + duration) * rate - n).astype(np.int64)
    pieces, end = [preds], n
    for p in np.flatnonzero((missing > 0) & ~match.lost):
        pieces += [np.zeros(missing[p]), preds[starts[p] : stops[p]]]
        length = missing[p] + stops[p] - starts[p]
        starts[p], stops[p], end = end, end + length, end + length
    plan = PatchPlan(
        samples(target),
        np.minimum(samples(target + duration), len(reference.signal) - 1),
        starts,
        stops,
        target,
        other,
        duration,
    )
    return plan, np.concatenate(pieces) if len(pieces) > 1 else preds


def usable_lag(lag: int, n_target: int) -> int:
    """The lag, or 0 where it is over half the reference: such a match is not believed."""
    return 0 if abs(lag) > n_target / 2 else int(lag)


def shift(preds: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Drop the first |lag| samples (negative lag), or prepend `lag` zeros."""
    if lag < 0:
        return preds[-lag:]
    if lag > 0:
        return np.concatenate([np.zeros(lag), preds])
    return preds
