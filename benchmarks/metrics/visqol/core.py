"""ViSQOL v3 on two mono signals of one sample rate: the stages in the order in which audio flows.

    align as a whole -> match loudness -> gammatone spectrograms -> match patches -> align each patch
    -> NSIM per band -> MOS

A `Reference` keeps what depends on the reference alone, so that many estimates pay for it once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.visqol.correlate import correlator
from benchmarks.metrics.visqol.gammatone import FilterBank, band_rms, make_filter_bank, to_decibels
from benchmarks.metrics.visqol.mapper import Features
from benchmarks.metrics.visqol.modes import (
    HOP_FRACTION,
    MIN_VNSIM,
    SEARCH_RADIUS_PATCHES,
    Mode,
    VisqolResult,
    hop_length,
    window_length,
)
from benchmarks.metrics.visqol.nsim import apply_floors, band_details, band_similarity
from benchmarks.metrics.visqol.patches import (
    PatchPlan,
    n_required_frames,
    patch_starts,
    plan_patches,
    shift,
    usable_lag,
)
from benchmarks.metrics.visqol.search import Match, match_patches

#: Maps a pair's features to MOS-LQO.
Mapper = Callable[[Features], float]
#: Called with a stage's name when it ends; for profiles.
Lap = Callable[[str], None]


def no_lap(stage: str) -> None:
    pass


class TooShortError(ValueError):
    """A signal has too few samples for a single patch, or nothing in it can be scored."""


@dataclass
class Reference:
    """The reference side of a measurement.

    Attributes:
        signal: mono, (samples,), float64.
        mode: audio or speech.
        sample_rate: in Hz.
        bank: the gammatone filter bank.
        decibels: spectrogram before flooring, (bands, frames).
        starts: first frame of each patch.
        rms: of the whole signal.
    """

    signal: NDArray[np.float64]
    mode: Mode
    sample_rate: int
    bank: FilterBank
    decibels: NDArray[np.float64]
    starts: NDArray[np.int64]
    rms: float
    _spectra: dict[tuple[int, int, int], NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _slice_decibels: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    @property
    def frame_seconds(self) -> float:
        """Seconds between frames: a quarter of the window, before the hop is rounded to samples."""
        return window_length(self.sample_rate) * HOP_FRACTION / self.sample_rate

    def __getstate__(self) -> dict[str, object]:
        """Without what can be computed again: it is several times as large as the rest."""
        return {**self.__dict__, "_spectra": {}, "_slice_decibels": {}}

    def lag_of(self, start: int, stop: int, preds: NDArray[np.float64], preds_start: int, preds_stop: int) -> int:
        """Lag of a slice of the estimate against the slice [start, stop) of the reference, 0 where it is not
        believed. The reference's spectrum is kept for the next estimate."""
        n = max(stop - start, preds_stop - preds_start)
        correlate = correlator(n)
        key = start, stop, correlate.capacity
        if key not in self._spectra:
            self._spectra[key] = correlate.spectrum(self.signal, start, stop)
        lag = correlate.lag_of(self._spectra[key], preds, preds_start, preds_stop, n)
        return usable_lag(lag, stop - start)

    def slice_decibels(self, start: int, n_frames: int, keep: bool) -> NDArray[np.float64]:
        """Spectrogram of `n_frames` frames from sample `start`; frames on the hop grid are at hand."""
        key = (start, n_frames)
        if key in self._slice_decibels:
            return self._slice_decibels[key]
        decibels = frames_at(self.signal, self.decibels, self.bank, start, n_frames)
        if keep:
            self._slice_decibels[key] = decibels
        return decibels


def frames_at(
    signal: NDArray[np.float64], decibels: NDArray[np.float64], bank: FilterBank, start: int, n_frames: int
) -> NDArray[np.float64]:
    """Frames from sample `start`: taken from `decibels` if `start` is on the hop grid, else computed."""
    frame, rest = divmod(start, bank.hop)
    if rest == 0 and frame + n_frames <= decibels.shape[1]:
        return decibels[:, frame : frame + n_frames]
    return to_decibels(band_rms(signal, bank, start=start, n_frames=n_frames)).T


def root_mean_square(signal: NDArray[np.float64]) -> float:
    """RMS of a signal."""
    return float(np.sqrt(np.dot(signal, signal) / len(signal)))


def spectrogram(signal: NDArray[np.float64], bank: FilterBank) -> NDArray[np.float64]:
    """Gammatone spectrogram in dB before flooring, (bands, frames)."""
    return np.ascontiguousarray(to_decibels(band_rms(signal, bank)).T)


def describe(signal: NDArray[np.float64], sample_rate: int, mode: Mode) -> Reference:
    """A reference without its spectrogram: patches, loudness, filter bank.

    Args:
        signal: mono, (samples,), float64.
        sample_rate: in Hz.
        mode: audio or speech.

    Raises:
        TooShortError: no patch fits into the signal, or (speech) none has voice activity.
    """
    signal = np.ascontiguousarray(signal, dtype=np.float64)
    bank = make_filter_bank(sample_rate, mode.n_bands, mode.max_frequency)
    n_frames, wanted = bank.n_frames(len(signal)), n_required_frames(mode)
    if n_frames < wanted:
        shortest = window_length(sample_rate) + (wanted - 1) * hop_length(sample_rate)
        raise TooShortError(f"target has {len(signal)} samples at {sample_rate} Hz; ViSQOL needs at least {shortest}")
    starts = patch_starts(signal, n_frames, bank.hop, mode)
    if not len(starts):
        raise TooShortError("target has no voice activity (every frame is below the level that counts)")
    empty = np.empty((mode.n_bands, 0))
    return Reference(signal, mode, sample_rate, bank, empty, starts, root_mean_square(signal))


def prepare(signal: NDArray[np.float64], sample_rate: int, mode: Mode) -> Reference:
    """Everything that depends on the reference alone; arguments and errors as for `describe`."""
    reference = describe(signal, sample_rate, mode)
    reference.decibels = spectrogram(reference.signal, reference.bank)
    return reference


def align(reference: Reference, preds: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Align the estimate as a whole.

    Returns:
        The aligned estimate, and the lag in samples.
    """
    lag = reference.lag_of(0, len(reference.signal), preds, 0, len(preds))
    return np.ascontiguousarray(shift(preds, lag)), lag


def _realigned_patch(
    reference: Reference, preds: NDArray[np.float64], decibels: NDArray[np.float64], plan: PatchPlan, row: int, lag: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float, float, float]] | None:
    """Both floored patches and their times after aligning their audio; None if too little audio is left."""
    bank, piece = reference.bank, plan.realign(row, lag, reference.sample_rate)
    n_frames = bank.n_frames(piece.n_target)
    if n_frames < 1 or bank.n_frames(piece.n_preds) != n_frames:
        return None
    target = reference.slice_decibels(piece.target_start, n_frames, keep=lag <= 0)
    if piece.preds_zeros:
        stop = piece.preds_start + piece.n_preds - piece.preds_zeros
        padded = np.concatenate([np.zeros(piece.preds_zeros), preds[piece.preds_start : stop]])
        other = to_decibels(band_rms(padded, bank, n_frames=n_frames)).T
    else:
        other = frames_at(preds, decibels, bank, piece.preds_start, n_frames)
    return *apply_floors(target, other), piece.times


def score(reference: Reference, preds: NDArray[np.float64], mapper: Mapper, *, lap: Lap = no_lap) -> VisqolResult:
    """Score one estimate.

    Args:
        reference: the prepared reference.
        preds: mono estimate at the reference's rate, (samples,).
        mapper: a pair's features to MOS-LQO.
        lap: told the name of each stage as it ends.

    Raises:
        TooShortError: `preds` is too short to be scored.
    """
    bank, mode = reference.bank, reference.mode
    preds, lag = align(reference, np.ascontiguousarray(preds, dtype=np.float64))
    lap("global alignment")
    if not bank.n_frames(len(preds)):
        raise TooShortError(f"preds has {len(preds)} samples after alignment; one window has {len(bank.window)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        preds = preds * (np.float64(reference.rms) / root_mean_square(preds))
        lap("loudness")
        decibels = spectrogram(preds, bank)
    lap("gammatone")
    target_floored, preds_floored = apply_floors(reference.decibels, decibels)
    radius = SEARCH_RADIUS_PATCHES * mode.patch_frames
    try:
        match = match_patches(target_floored, preds_floored, reference.starts, mode.patch_frames, radius)
    except ValueError as error:
        raise TooShortError(str(error)) from error
    lap("patch search")
    bands, details, times = _patch_similarities(reference, preds, decibels, match, target_floored, preds_floored, lap)
    result = summarize(reference, match, bands, details, times, lag, mapper)
    lap("mapping")
    return result


def _patch_similarities(
    reference: Reference,
    preds: NDArray[np.float64],
    decibels: NDArray[np.float64],
    match: Match,
    target_floored: NDArray[np.float64],
    preds_floored: NDArray[np.float64],
    lap: Lap,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Band NSIM (patches, bands), details (patches, 2, bands) in speech mode, and times (patches, 4).

    After fine alignment, where that is no worse.
    """
    width = reference.mode.patch_frames
    plan, preds = plan_patches(match, reference, preds)
    found = np.flatnonzero(~match.lost)
    lags = {
        p: reference.lag_of(
            int(plan.target_start[p]), int(plan.target_stop[p]),
            preds, int(plan.preds_start[p]), int(plan.preds_stop[p]),
        )
        for p in found
    }  # fmt: skip
    lap("patch alignment")
    bands = np.zeros((len(match.starts), reference.mode.n_bands))
    details = no_details(len(bands), reference.mode)
    # Two perfect matches are equal but for rounding, and differ in loudness, which counts in speech mode alone.
    tie = 1e-12 if details.size else 0.0
    times = plan.coarse_times(match.lost)
    for p in range(len(bands)):
        start, offset = match.starts[p], match.offsets[p]
        target = target_floored[:, start : start + width]
        patch: NDArray[np.float64] = np.zeros((len(bands[p]), width))
        overlap = preds_floored[:, offset : offset + width]
        patch[:, : overlap.shape[1]] = overlap
        if not match.lost[p]:
            bands[p] = band_similarity(target, patch)
            fine = _realigned_patch(reference, preds, decibels, plan, p, lags[p])
            if fine is not None:
                similarity = band_similarity(*fine[:2])
                if not similarity.mean() < bands[p].mean() - tie:
                    target, patch, times[p] = fine
                    bands[p] = similarity
        if details.size:  # of lost patches, too, as in the C++
            details[p] = band_details(target, patch)
    lap("patch similarity")
    return bands, details, times


def no_details(n_patches: int, mode: Mode) -> NDArray[np.float64]:
    """Room for the details of each patch, (patches, 2, bands); none in audio mode, which does without."""
    return np.zeros((n_patches if mode.voice_activity else 0, 2, mode.n_bands))


def summarize(
    reference: Reference,
    match: Match,
    bands: NDArray[np.float64],
    details: NDArray[np.float64],
    times: NDArray[np.float64],
    lag: int,
    mapper: Mapper,
) -> VisqolResult:
    """Average the patches and map them to MOS-LQO."""
    features = features_of(bands, details, times, reference.frame_seconds)
    band_nsim = features.nsim
    vnsim = float(band_nsim.mean())
    return VisqolResult(
        moslqo=1.0 if vnsim < MIN_VNSIM else mapper(features),
        vnsim=vnsim,
        band_nsim=band_nsim,
        center_frequencies=reference.bank.center_frequencies,
        patch_nsim=bands.mean(axis=1),
        patch_band_nsim=bands,
        patch_times=times,
        lag=lag,
        sample_rate=reference.sample_rate,
        dropped_share=match.n_dropped / len(reference.starts),
        lost_share=float(match.lost.mean()),
    )


def features_of(
    bands: NDArray[np.float64], details: NDArray[np.float64], times: NDArray[np.float64], frame_seconds: float
) -> Features:
    """Features of a pair from its patches: see `summarize` and `Features`."""
    nsim = bands.sum(axis=0) / len(bands)
    worst = np.sort(bands, axis=0)[: max(1, int(len(bands) * 0.1))].mean(axis=0)
    if not len(details):
        return Features(nsim, worst, np.empty(0), np.empty(0))
    # The variance over all frames from each patch's own mean and variance.
    frames = np.ceil((times[:, 1] - times[:, 0]) / frame_seconds)[:, None]
    total = float(frames.sum())
    squares = ((frames - 1) * details[:, 0] ** 2 + frames * bands**2).sum(axis=0)
    variance = (squares - nsim**2 * total) / (total - 1)
    return Features(nsim, worst, np.sqrt(np.maximum(variance, 0.0)), details[:, 1].mean(axis=0))
