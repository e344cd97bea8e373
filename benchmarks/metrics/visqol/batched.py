"""ViSQOL for many pairs at once on a torch device: the same stages as `core`, in batches.

The gammatone filters run as products in the frequency domain: their impulse response cut to one window
and a frame padded to two give exactly the zero-state output, since nothing wraps into the first half.
Audio and filters are float32; similarities are float64, because a variance of decibel values as a
difference of squares would lose its digits in float32. The result is within 1e-5 MOS of the CPU path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.metrics.visqol.core import Mapper, Reference, TooShortError, describe, no_details, summarize
from benchmarks.metrics.visqol.gammatone import FilterBank
from benchmarks.metrics.visqol.modes import (
    ABSOLUTE_FLOOR_DB,
    C1,
    C3,
    KERNEL,
    RELATIVE_FLOOR_DB,
    SEARCH_RADIUS_PATCHES,
    Mode,
    VisqolResult,
)
from benchmarks.metrics.visqol.nsim import band_details
from benchmarks.metrics.visqol.patches import Piece, plan_patches, shift, usable_lag
from benchmarks.metrics.visqol.search import Match, best_path, scorable_patches

Signal = NDArray[np.float64]

#: Bytes that one intermediate tensor may take, by kind of device.
_BUDGET = {"cpu": 32 << 20, "cuda": 512 << 20}
_PAIRS_AT_ONCE = 64


def _chunks(count: int, bytes_each: int, device: torch.device) -> Iterator[slice]:
    size = max(_BUDGET.get(device.type, 128 << 20) // bytes_each, 1)
    return (slice(i, min(i + size, count)) for i in range(0, count, size))


class _Filters:
    """The filter bank as spectra on a device."""

    def __init__(self, bank: FilterBank, device: torch.device) -> None:
        n = len(bank.window)
        response = np.fft.rfft(bank.impulse_response(n), 2 * n, axis=1)
        self.bank, self.device = bank, device
        self.response = torch.from_numpy(response.astype(np.complex64)).to(device)
        self.window = torch.from_numpy(bank.window.astype(np.float32)).to(device)

    def band_rms(self, frames: Tensor) -> Tensor:
        """(frames, window) samples to (bands, frames) RMS in float64."""
        n = len(self.window)
        out = torch.empty(self.bank.n_bands, len(frames), dtype=torch.float64, device=self.device)
        for part in _chunks(len(frames), 8 * n * self.bank.n_bands, self.device):
            spectra = torch.fft.rfft(frames[part] * self.window, 2 * n)
            filtered = torch.fft.irfft(spectra[:, None] * self.response, 2 * n)[..., :n]
            out[:, part] = filtered.square().mean(-1).double().sqrt().T
        return out

    def frames(self, signal: Tensor) -> Tensor:
        """All frames of a signal, (frames, window), as a view."""
        return signal.unfold(0, len(self.window), self.bank.hop)


def _decibels(rms: Tensor) -> Tensor:
    eps = torch.finfo(torch.float64).eps
    return 10.0 * torch.log10(torch.where(rms == 0, eps, rms))


def _floors(target: Tensor, preds: Tensor) -> tuple[Tensor, Tensor]:
    """`visqol_nsim.apply_floors` over leading axes: (…, bands, frames)."""
    target, preds = (
        torch.where(x > ABSOLUTE_FLOOR_DB, x, ABSOLUTE_FLOOR_DB) for x in (target, preds)
    )  # NaN too becomes the floor
    n = min(target.shape[-1], preds.shape[-1])
    peak = torch.maximum(target[..., :n].amax(-2, keepdim=True), preds[..., :n].amax(-2, keepdim=True))
    floor = peak - RELATIVE_FLOOR_DB
    target[..., :n] = torch.maximum(target[..., :n], floor)
    preds[..., :n] = torch.maximum(preds[..., :n], floor)
    lowest = torch.minimum(target.amin((-2, -1), keepdim=True), preds.amin((-2, -1), keepdim=True))
    return target - lowest, preds - lowest


def _neighbors(x: Tensor, axis: int) -> Tensor:
    """Sum of the cells before and after each along `axis`, edges repeated."""
    n = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
    return before.add_(after)


def _smooth(x: Tensor) -> Tensor:
    """The 3x3 window over the last two axes."""
    corner, edge, center = KERNEL
    vertical = _neighbors(x, -2)
    return _neighbors(vertical * corner + x * edge, -1).add_(vertical, alpha=edge).add_(x, alpha=center)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and signed deviation of each neighborhood."""
    mean = _smooth(x)
    variance = _smooth(x * x) - mean * mean
    return mean, variance.abs().sqrt() * variance.sign()


def _similarity(
    target: Tensor, preds: Tensor, target_stats: tuple[Tensor, Tensor], preds_stats: tuple[Tensor, Tensor]
) -> Tensor:
    """NSIM averaged over frames: (…, bands, frames) to (…, bands)."""
    (mean_r, deviation_r), (mean_d, deviation_d) = target_stats, preds_stats
    product = mean_r * mean_d
    structure = (_smooth(target * preds) - product + C3) / ((deviation_r * deviation_d).clamp_(min=0) + C3)
    return ((2 * product + C1) / (mean_r * mean_r + mean_d * mean_d + C1) * structure).mean(-1)


def _match(target: Tensor, preds: Tensor, reference: Reference) -> Match:
    """`visqol_search.match_patches` on the device; only the table of similarities comes back."""
    size = reference.mode.patch_frames
    radius, n_preds = SEARCH_RADIUS_PATCHES * size, preds.shape[1]
    n = scorable_patches(reference.starts, n_preds, size)
    if n == 0:
        raise TooShortError(f"preds is too short to score any reference patch ({n_preds} frames)")
    starts = reference.starts[:n]
    windows = torch.nn.functional.pad(preds, (0, size)).unfold(1, size, 1).transpose(0, 1)[:n_preds]
    windows = windows.contiguous()
    mean, deviation = _statistics(windows)
    patches = torch.stack([target[:, s : s + size] for s in starts])
    statistics = _statistics(patches)
    table = torch.zeros(n, n_preds, dtype=torch.float64, device=preds.device)
    reach = min(n_preds, 2 * radius + 1)
    for part in _chunks(n, 8 * reach * patches[0].numel(), preds.device):
        low = max(int(starts[part.start]) - radius, 0)
        high = min(int(starts[part.stop - 1]) + radius + 1, n_preds)
        if high <= low:
            continue
        r, stats = patches[part, None], (statistics[0][part, None], statistics[1][part, None])
        near = slice(low, high)
        table[part, near] = _similarity(r, windows[near], stats, (mean[near], deviation[near])).mean(-1)
    offsets, lost = best_path(table.cpu().numpy(), starts, radius)
    return Match(starts, offsets, lost, len(reference.starts) - n)


def _envelopes(slices: Sequence[Tensor], n_fft: int) -> Tensor:
    """Rectified envelopes of slices of any length, zero-padded: (slices, n_fft)."""
    out = torch.zeros(len(slices), n_fft, dtype=torch.float32, device=slices[0].device)
    for row, x in zip(out, slices, strict=True):
        mean = x.double().mean().float()
        row[: len(x)] = 2.0 * (x - mean).abs() + mean
    return out


def _lags(target: Sequence[Tensor], preds: Sequence[Tensor]) -> NDArray[np.int64]:
    """Lag of each pair, 0 where it is over half of the target."""
    n = max(len(x) for x in (*target, *preds))
    n_fft = scipy.fft.next_fast_len(2 * n - 1, real=True)
    found = []
    for part in _chunks(len(target), 16 * n_fft, target[0].device):
        a = torch.fft.rfft(_envelopes(target[part], n_fft))
        b = torch.fft.rfft(_envelopes(preds[part], n_fft))
        correlation = torch.fft.irfft(a * b.conj(), n_fft).roll(n - 1, -1)[:, : 2 * n - 1]
        found.append(correlation.argmax(-1).cpu().numpy() - (n - 1))
    lags = np.concatenate(found)
    return np.array([usable_lag(int(lag), len(x)) for lag, x in zip(lags, target, strict=True)])


@dataclass
class _Pair:
    """One pair on its way through the stages."""

    reference: Reference
    target: Tensor
    target_db: Tensor
    aligned: Signal
    lag: int
    preds: Tensor
    preds_db: Tensor
    match: Match
    bands: NDArray[np.float64]
    details: NDArray[np.float64]
    times: NDArray[np.float64]


def score_pairs(
    pairs: Sequence[tuple[Signal, Signal]], sample_rate: int, mode: Mode, mapper: Mapper, device: str
) -> list[VisqolResult | TooShortError]:
    """Score pairs of mono signals of one rate.

    Args:
        pairs: (target, preds), each (samples,); a target that occurs again is transformed once.
        sample_rate: in Hz.
        mode: audio or speech.
        mapper: a pair's features to MOS-LQO.
        device: torch device.

    Returns:
        A result, or the reason as an error, for each pair.
    """
    place = torch.device(device)
    results: list[VisqolResult | TooShortError] = []
    for i in range(0, len(pairs), _PAIRS_AT_ONCE):
        with torch.inference_mode():
            results += _score_group(pairs[i : i + _PAIRS_AT_ONCE], sample_rate, mode, mapper, place)
    return results


def _score_group(
    pairs: Sequence[tuple[Signal, Signal]], sample_rate: int, mode: Mode, mapper: Mapper, device: torch.device
) -> list[VisqolResult | TooShortError]:
    results: dict[int, VisqolResult | TooShortError] = {}
    targets: dict[int, tuple[Reference, Tensor, Tensor] | TooShortError] = {}
    filters: _Filters | None = None
    for target, _ in pairs:
        if id(target) in targets:
            continue
        try:
            reference = describe(target, sample_rate, mode)
        except TooShortError as error:
            targets[id(target)] = error
            continue
        filters = filters or _Filters(reference.bank, device)
        tensor = torch.from_numpy(target.astype(np.float32)).to(device)
        targets[id(target)] = reference, tensor, _decibels(filters.band_rms(filters.frames(tensor)))

    ready = []
    for i, (target, _) in enumerate(pairs):
        prepared = targets[id(target)]
        if isinstance(prepared, TooShortError):
            results[i] = prepared
        else:
            ready.append((i, *prepared))
    if ready:
        assert filters is not None
        preds = [torch.from_numpy(pairs[i][1].astype(np.float32)).to(device) for i, *_ in ready]
        lags = _lags([tensor for _, _, tensor, _ in ready], preds)
        matched: dict[int, _Pair] = {}
        for (i, reference, tensor, db), lag in zip(ready, lags, strict=True):
            try:
                matched[i] = _match_pair(reference, tensor, db, pairs[i][1], int(lag), filters)
            except TooShortError as error:
                results[i] = error
        _realign(list(matched.values()), filters)
        for i, pair in matched.items():
            results[i] = summarize(pair.reference, pair.match, pair.bands, pair.details, pair.times, pair.lag, mapper)
    return [results[i] for i in range(len(pairs))]


def _match_pair(
    reference: Reference, target: Tensor, target_db: Tensor, preds: Signal, lag: int, filters: _Filters
) -> _Pair:
    """Spectrogram of the aligned estimate, patch search, and the matched patches' coarse similarity."""
    aligned = np.ascontiguousarray(shift(preds, lag))
    if not reference.bank.n_frames(len(aligned)):
        raise TooShortError(f"preds has {len(aligned)} samples after alignment; one window has {len(filters.window)}")
    tensor = torch.from_numpy(aligned.astype(np.float32)).to(target.device)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = float(np.float64(reference.rms) / np.sqrt(np.mean(aligned**2)))
        aligned = aligned * gain
    # The filters are linear, so the loudness is matched afterward, in float64.
    preds_db = _decibels(filters.band_rms(filters.frames(tensor)) * gain)
    r, d = _floors(target_db, preds_db)
    match = _match(r, d, reference)
    size = reference.mode.patch_frames
    padded = torch.nn.functional.pad(d, (0, size))
    a = torch.stack([r[:, s : s + size] for s in match.starts])
    b = torch.stack([padded[:, o : o + size] for o in match.offsets])
    bands = _similarity(a, b, _statistics(a), _statistics(b)).cpu().numpy()
    bands[match.lost] = 0.0
    details = no_details(len(bands), reference.mode)
    for p in range(len(details)):
        details[p] = _details(a[p], b[p])
    times = np.empty((0, 4))
    return _Pair(reference, target, target_db, aligned, lag, tensor, preds_db, match, bands, details, times)


def _details(target: Tensor, preds: Tensor) -> NDArray[np.float64]:
    return band_details(target.cpu().double().numpy(), preds.cpu().double().numpy())


def _realign(pairs: Sequence[_Pair], filters: _Filters) -> None:
    """Align every matched patch's audio and keep the new similarity where it is no worse, for all pairs."""
    bank, rate = filters.bank, filters.bank.sample_rate
    plans, where, cuts = [], [], []
    for k, pair in enumerate(pairs):
        plan, extended = plan_patches(pair.match, pair.reference, pair.aligned)
        plans.append(plan)
        pair.times = plan.coarse_times(pair.match.lost)
        pair.preds = torch.from_numpy(extended.astype(np.float32)).to(filters.device)
        for p in np.flatnonzero(~pair.match.lost):
            where.append((k, int(p)))
            a, b = plan.target_start[p], plan.preds_start[p]
            cuts.append((pair.target[a : plan.target_stop[p]], pair.preds[b : plan.preds_stop[p]]))
    if not where:
        return
    lags = _lags([a for a, _ in cuts], [b for _, b in cuts])
    pieces = [plans[k].realign(p, int(lag), rate) for (k, p), lag in zip(where, lags, strict=True)]
    frames = _Frames(filters)
    for n in sorted({bank.n_frames(piece.n_target) for piece in pieces} - {0}):
        rows = [i for i, piece in enumerate(pieces) if n in _frame_counts(bank, piece)]
        target = frames.gather([(pairs[where[i][0]].target, pairs[where[i][0]].target_db,
                                 pieces[i].target_start, 0) for i in rows], n)  # fmt: skip
        preds = frames.gather([(pairs[where[i][0]].preds, pairs[where[i][0]].preds_db,
                                pieces[i].preds_start, pieces[i].preds_zeros) for i in rows], n)  # fmt: skip
        a, b = _floors(target, preds)
        fine = _similarity(a, b, _statistics(a), _statistics(b)).cpu().numpy()
        for row, (bands, i) in enumerate(zip(fine, rows, strict=True)):
            k, p = where[i]
            if not bands.mean() < pairs[k].bands[p].mean():
                pairs[k].bands[p] = bands
                pairs[k].times[p] = pieces[i].times
                if len(pairs[k].details):
                    pairs[k].details[p] = _details(a[row], b[row])


def _frame_counts(bank: FilterBank, piece: Piece) -> set[int]:
    """The number of frames of both stretches if they agree, else nothing."""
    n = bank.n_frames(piece.n_target)
    return {n} if bank.n_frames(piece.n_preds) == n else set()


class _Frames:
    """Spectrograms of stretches of audio: from the grid where they lie on it, else computed together."""

    def __init__(self, filters: _Filters) -> None:
        self.filters = filters

    def gather(self, wanted: Sequence[tuple[Tensor, Tensor, int, int]], n: int) -> Tensor:
        """(stretches, bands, n) dB of (signal, its spectrogram, first sample, zeros before it) each."""
        bank, found, missing = self.filters.bank, {}, []
        for i, (signal, decibels, start, zeros) in enumerate(wanted):
            frame, rest = divmod(start, bank.hop)
            if rest == 0 and zeros == 0 and frame + n <= decibels.shape[1]:
                found[i] = decibels[:, frame : frame + n]
                continue
            length = len(bank.window) + (n - 1) * bank.hop
            piece = torch.nn.functional.pad(signal[start : start + length - zeros], (zeros, 0))
            missing.append((i, self.filters.frames(piece)))
        if missing:
            computed = _decibels(self.filters.band_rms(torch.cat([frames for _, frames in missing])))
            for j, (i, _) in enumerate(missing):
                found[i] = computed[:, j * n : (j + 1) * n]
        return torch.stack([found[i] for i in range(len(wanted))])
