"""What becomes of the stereo image: errors of inter-channel coherence and of inter-channel phase.

The cues are those of parametric stereo coding (Baumgarte and Faller 2003; Breebaart et al. 2005, section 2), per band
of two ERB and block of some 120 ms, from the cross-spectrum Φ of left L and right R:

    Φ = Σ L R*      coherence |Φ| / sqrt(Σ|L|² Σ|R|²)      phase difference ∠Φ

`stereo_coherence` is the mean |difference of coherences|, weighted over time by the original's sqrt(Σ|L|² Σ|R|²);
`stereo_phase` the mean |difference of phase differences| in radians up to 1.5 kHz, above which ears do not follow the
phase, weighted by the original's |Φ|. Bands count alike, if they are within 60 dB of the loudest.

    swapped channels    coherence: no change (|Φ| is the same); phase: changes unless Φ is real
    polarity of one     coherence: no change; phase: π everywhere
    mono fold           coherence: 1 everywhere; phase: 0 everywhere
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from benchmarks.metrics.base import PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.metrics.spectra import hann, spectra

_FRAMES = 4  # per block
_ERB_WIDTH = 2.0
_HIGHEST_PHASE_HZ = 1500.0
_QUIET = 1e-6
#: A channel this far below the other (in amplitude) is empty: there is no image to keep.
_ONE_SIDED = 1e-3


def coherence_error(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Mean difference of inter-channel coherence, 0 to 1, of stereo `(2, samples)`; or NaN and the reason."""
    n_fft = _window_length(sample_rate)
    if reason := undefined(preds, target, samples=n_fft // 2 + 1, stereo=True):
        return math.nan, reason
    (cross_p, power_p), (cross_t, power_t) = (_cues(audio, sample_rate, n_fft) for audio in (preds, target))
    weights = np.sqrt(power_t[0] * power_t[1])
    coherence_t = _ratio(np.abs(cross_t), weights)
    coherence_p = _ratio(np.abs(cross_p), np.sqrt(power_p[0] * power_p[1]))
    return _mean_over_bands(np.abs(coherence_p - coherence_t), weights, power_t)


def phase_error(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Mean difference of inter-channel phase in radians, 0 to π, of stereo `(2, samples)`; or NaN and the reason.

    Where the output has no cross-spectrum (an empty channel), the error counts as π.
    """
    n_fft = _window_length(sample_rate)
    if reason := undefined(preds, target, samples=n_fft // 2 + 1, stereo=True):
        return math.nan, reason
    (cross_p, _), (cross_t, power_t) = (_cues(audio, sample_rate, n_fft) for audio in (preds, target))
    used = np.searchsorted(band_edges(sample_rate, n_fft)[1:] * sample_rate / n_fft, _HIGHEST_PHASE_HZ, side="right")
    cross_p, cross_t, power_t = cross_p[:, :used], cross_t[:, :used], power_t[..., :used]
    errors = np.where(cross_p == 0, np.pi, np.abs(np.angle(cross_p * cross_t.conj())))
    return _mean_over_bands(errors, np.abs(cross_t), power_t)


def _cues(audio: np.ndarray, sample_rate: int, n_fft: int) -> tuple[np.ndarray, np.ndarray]:
    """Cross-spectra `(blocks, bands)` and powers of the channels `(2, blocks, bands)`."""
    starts = band_edges(sample_rate, n_fft)[:-1]
    crosses, powers = [], []
    for block in spectra(audio, hann(n_fft), n_fft // 2):
        left, right = block.astype(np.complex128)
        crosses.append(np.add.reduceat(left * right.conj(), starts, axis=1))
        powers.append(np.add.reduceat(np.abs(block).astype(np.float64) ** 2, starts, axis=2))
    times = np.arange(0, sum(map(len, crosses)), _FRAMES)
    return (
        np.add.reduceat(np.concatenate(crosses), times, axis=0),
        np.add.reduceat(np.concatenate(powers, axis=1), times, axis=1),
    )


def _mean_over_bands(errors: np.ndarray, weights: np.ndarray, powers: np.ndarray) -> Score:
    """Errors `(blocks, bands)` averaged over time by their weights, then over the bands that the original has."""
    total, weight = powers.sum(axis=(0, 1)), weights.sum(axis=0)
    used = (total > _QUIET * total.max()) & (weight > _ONE_SIDED * total)
    if not used.any():
        return math.nan, "target has one channel only, the other is empty"
    return float(np.mean((errors * weights).sum(axis=0)[used] / weight[used])), None


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _window_length(sample_rate: int) -> int:
    """2048 samples at 44.1 kHz, and the power of two that is nearest to as many seconds at other rates."""
    return max(128, 2 ** round(11 + math.log2(sample_rate / 44100)))


@cache
def band_edges(sample_rate: int, n_fft: int) -> np.ndarray:
    """Edges of the bands in bins, from 0 to `n_fft / 2 + 1`: two ERB wide (Glasberg and Moore 1990), at least a bin."""
    top = 21.4 * math.log10(1 + 0.00437 * sample_rate / 2)
    hz = (10 ** (np.arange(0, top, _ERB_WIDTH) / 21.4) - 1) / 0.00437
    return np.unique([*np.round(hz * n_fft / sample_rate).astype(int), n_fft // 2 + 1])


_MODULES = ("benchmarks.metrics.stereo", "benchmarks.metrics.clip_score")
STEREO_COHERENCE = PairMetric(
    name="stereo_coherence",
    title="Coherence error",
    higher_is_better=False,
    digits=3,
    note="mean difference of inter-channel coherence from the original's, in bands of two ERB (0 to 1)",
    function=coherence_error,
    modules=_MODULES,
    worst=1.0,
    best=0.0,
    tolerance=0.002,
    elsewhere_tolerance=0.01,
    collapse=0.2,
)
STEREO_PHASE = PairMetric(
    name="stereo_phase",
    title="Phase error",
    higher_is_better=False,
    digits=3,
    unit="rad",
    note="mean difference of inter-channel phase from the original's, up to 1.5 kHz, in radians",
    function=phase_error,
    modules=_MODULES,
    worst=math.pi,
    best=0.0,
    tolerance=0.01,
    elsewhere_tolerance=0.01,
    collapse=0.5,
)
