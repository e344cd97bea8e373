"""Scale-invariant signal-to-distortion ratio, and the variants that other tools report under its name.

    SI-SDR = 10 log10(||α s||² / ||α s - ŝ||²),   α = <ŝ, s> / ||s||²       [Le Roux et al. 2019, Eq. 3-5]

The tools differ in mean removal, in the epsilons that keep them finite, and in how channels are folded:
the same pair can read 18.7 dB in one and 21.3 dB in another. `conventions.py` has their formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.metrics.base import PairMetric, Score, ScoreFunction
from benchmarks.metrics.conventions import CONVENTIONS, Convention
from benchmarks.metrics.defined import undefined
from benchmarks.registry import load_target
from m2l.audio import cancels, is_silent

_NOT_FINITE = "non-finite samples"
#: dB: what a silent output of an audible clip counts as, and what an exact one does.
_WORST, _BEST = -100.0, 100.0

Channels = Literal["mono", "per_channel", "joint"]

#: Below this noise-to-signal ratio (60 dB) `||ŝ||² - <ŝ,s>²/||s||²` loses digits to cancellation, and the
#: residual is formed sample by sample instead.
_CANCELLATION = 1e-6
#: Sums are taken about the first sample, which removes the mean afterward; if that was this much further
#: off (in power) than the signal is wide, they are taken again about the mean itself.
_BAD_ORIGIN = 1e4
#: The compiled sums may be reordered for vector units; NaN and infinity keep their meaning.
_REORDER = {"reassoc", "nsz", "contract"}


@dataclass(frozen=True)
class SiSdr:
    """One SI-SDR value in dB; `reason` says why `value` is NaN, and is empty otherwise."""

    value: float
    reason: str = ""


def si_sdr(
    preds: Any,
    target: Any,
    zero_mean: bool | None = None,
    channels: Channels | None = None,
    *,
    convention: str | None = None,
    sample_rate: int | None = None,
) -> float:
    """SI-SDR of `preds` against `target` in dB; NaN where it is undefined (see `si_sdr_detailed`).

    Args:
        preds: estimate, (samples,) or (channels, samples), numpy array or torch tensor.
        target: reference of the same shape.
        zero_mean: remove each signal's mean first. Default: True, or the convention's own default.
        channels: `mono` averages the channels to one signal first, `per_channel` averages the channels'
            dB values, `joint` treats all channels as one long signal with one mean and one α.
            Default: `mono`, or the convention's own.
        convention: None for the definition above in float64 without epsilons, or the name of a tool whose
            formula to follow: torchmetrics, auraloss, asteroid, audiotools, audiocraft. Higher is better in
            all of them (the sign of a loss is undone).
        sample_rate: Hz; only audiocraft needs it, to cut 20 s segments.

    Raises:
        ValueError: shapes differ, are empty, or not 1-D or 2-D; unknown `channels` or `convention`.
    """
    return si_sdr_detailed(preds, target, zero_mean, channels, convention=convention, sample_rate=sample_rate).value


def si_sdr_detailed(
    preds: Any,
    target: Any,
    zero_mean: bool | None = None,
    channels: Channels | None = None,
    *,
    convention: str | None = None,
    sample_rate: int | None = None,
) -> SiSdr:
    """As `si_sdr`, with the reason where the value is NaN.

    Undefined by the definition: a silent (or, with `zero_mean`, constant) reference or estimate, and
    non-finite samples. With `per_channel`, undefined channels are left out of the average and named in
    `reason`; the value is NaN only when no channel is left. A tool's convention returns whatever
    number the tool gives for silence; only non-finite samples are NaN there too.
    """
    tool = _convention(convention)
    p, t = _as_channels(preds, "preds"), _as_channels(target, "target")
    if p.shape != t.shape:
        raise ValueError(f"preds has shape {p.shape}, target {t.shape}: they must be equal")
    policy = channels or (tool.channels if tool else "mono")
    if policy not in get_args(Channels):
        raise ValueError(f"channels={policy!r}: must be one of {', '.join(get_args(Channels))}")
    remove_mean = zero_mean if zero_mean is not None else (tool.zero_mean if tool else True)
    folded = list(zip(_fold(p, policy), _fold(t, policy), strict=True))
    if tool is not None:
        if reason := _not_finite(p, t):
            return SiSdr(math.nan, reason)
        values = [
            tool.ratio_db(a.astype(np.float64), b.astype(np.float64), remove_mean, sample_rate) for a, b in folded
        ]
        return SiSdr(float(np.mean(values)))
    results = [_definition(a, b, remove_mean) for a, b in folded]
    if any(r.reason == _NOT_FINITE for r in results):
        return SiSdr(math.nan, _not_finite(p, t) or _NOT_FINITE)
    defined = [r.value for r in results if not r.reason]
    reasons = [f"channel {i}: {r.reason}" for i, r in enumerate(results) if r.reason]
    if not defined:
        return SiSdr(math.nan, results[0].reason if len(results) == 1 else "; ".join(reasons))
    return SiSdr(float(np.mean(defined)), "; ".join(reasons))


def _definition(preds: np.ndarray, target: np.ndarray, zero_mean: bool) -> SiSdr:
    """Le Roux's SI-SDR of two signals (samples,), by sums in float64 over one pass."""
    n = len(target)
    origin_p, origin_t = (float(preds[0]), float(target[0])) if zero_mean else (0.0, 0.0)
    for _ in range(2):
        sum_p, sum_t, pp, tt, pt = _compiled(_sums)(preds, target, origin_p, origin_t)
        if not math.isfinite(pp + tt + pt):
            return SiSdr(math.nan, _NOT_FINITE)
        if not zero_mean:
            break
        # About the origin, Σ(x - x̄)² = Σ(x - o)² - n (x̄ - o)²; a constant signal gives exactly 0.
        mean_p, mean_t = sum_p / n, sum_t / n
        off_p, off_t = n * mean_p * mean_p, n * mean_t * mean_t
        power_p, power_t = pp - off_p, tt - off_t
        far = off_p > _BAD_ORIGIN * abs(power_p) or off_t > _BAD_ORIGIN * abs(power_t)
        pp, tt, pt = power_p, power_t, pt - n * mean_p * mean_t
        origin_p, origin_t = origin_p + mean_p, origin_t + mean_t
        if not far:
            break
    if tt <= 0.0:
        return SiSdr(math.nan, "target is silent")
    if pp <= 0.0:
        return SiSdr(math.nan, "preds is silent")
    alpha = pt / tt
    signal = alpha * pt
    noise = pp - signal
    if noise < _CANCELLATION * pp:
        # The reordered sums of equal signals may differ in the last bit, which would leave a residual.
        same = np.array_equal(preds, target)
        noise = 0.0 if same else _compiled(_residual)(preds, target, origin_p, origin_t, alpha)
    if signal == 0.0:
        return SiSdr(-math.inf)
    return SiSdr(math.inf if noise == 0.0 else 10.0 * (math.log10(signal) - math.log10(noise)))


def _not_finite(preds: np.ndarray, target: np.ndarray) -> str:
    for name, signal in (("preds", preds), ("target", target)):
        bad = np.flatnonzero(~np.isfinite(signal).all(axis=0))
        if bad.size:
            return f"{name} has {bad.size} non-finite samples, the first at {bad[0]}"
    return ""


def _as_channels(x: Any, name: str) -> np.ndarray:
    """(channels, samples) float64 from an array or tensor of shape (samples,) or (channels, samples)."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().resolve_conj().resolve_neg().numpy()
    array = np.asarray(x)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must be (samples,) or (channels, samples) and not empty, got {array.shape}")
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{name} must be real numbers, got {array.dtype}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    return np.ascontiguousarray(np.atleast_2d(array))


def _fold(x: np.ndarray, channels: str) -> np.ndarray:
    if channels == "mono":
        return x.mean(axis=0, keepdims=True, dtype=np.float64) if len(x) > 1 else x
    return x.reshape(1, -1) if channels == "joint" else x


def _convention(name: str | None) -> Convention | None:
    if name is None:
        return None
    if name not in CONVENTIONS:
        raise ValueError(f"convention={name!r}: must be None or one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


@cache
def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """A loop over samples of float32 or float64 with sums in float64, compiled at its first use."""
    compiled: Callable[..., Any] = load_target("m2l.kernels.jit:jit")(fastmath=_REORDER)(loop)
    return compiled


def _sums(
    preds: np.ndarray, target: np.ndarray, origin_p: float, origin_t: float
) -> tuple[float, float, float, float, float]:
    """(Σp, Σt, Σp², Σt², Σpt) of two signals (samples,), each about its origin."""
    sum_p = sum_t = pp = tt = pt = 0.0
    for i in range(preds.shape[0]):
        p = np.float64(preds[i]) - origin_p
        t = np.float64(target[i]) - origin_t
        sum_p += p
        sum_t += t
        pp += p * p
        tt += t * t
        pt += p * t
    return sum_p, sum_t, pp, tt, pt


def _residual(preds: np.ndarray, target: np.ndarray, origin_p: float, origin_t: float, alpha: float) -> float:
    """Σ (p - α t)², each signal about its origin."""
    total = 0.0
    for i in range(preds.shape[0]):
        difference = (np.float64(preds[i]) - origin_p) - alpha * (np.float64(target[i]) - origin_t)
        total += difference * difference
    return total


def clip_si_sdr(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Zero-mean SI-SDR of the mono fold of `(channels, samples)` in dB, or NaN and the reason."""
    found = si_sdr_detailed(preds, target, zero_mean=True, channels="mono")
    return float(found.value), found.reason


def joint_si_sdr(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """SI-SDR of the channels as one long signal: swapped channels and a wrong polarity of one change it."""
    if reason := undefined(preds, target, samples=2):
        return math.nan, reason
    found = si_sdr_detailed(preds, target, zero_mean=True, channels="joint")
    return found.value, found.reason


def mean_si_sdr(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """Mean of the channels' SI-SDR: swapped channels change it; polarity does not, as α takes it up."""
    if reason := undefined(preds, target, samples=2):
        return math.nan, reason
    channels = [_channel(p[None], t[None]) for p, t in zip(preds, target, strict=True)]
    defined = [value for value, _ in channels if not math.isnan(value)]
    reasons = {f"channel {i}: {reason}": None for i, (_, reason) in enumerate(channels) if reason}
    return float(np.mean(defined)) if defined else math.nan, "; ".join(reasons)


def mid_si_sdr(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """SI-SDR of (left + right) / 2: polarity of one channel changes it; swapped channels do not, they add alike."""
    return _of_sum(preds, target, 1, "mid")


def side_si_sdr(preds: np.ndarray, target: np.ndarray, sample_rate: int) -> Score:
    """SI-SDR of (left - right) / 2: a mono fold leaves nothing of it, and polarity of one channel changes it.

    Swapped channels do not: they turn its sign, which α takes up.
    """
    return _of_sum(preds, target, -1, "side")


def _of_sum(preds: np.ndarray, target: np.ndarray, sign: int, name: str) -> Score:
    """SI-SDR of (left + sign * right) / 2, where the original has any of it."""
    if reason := undefined(preds, target, samples=2, stereo=True):
        return math.nan, reason
    right = np.array([[1.0], [sign]], dtype=np.float32)
    if cancels(target * right):
        return math.nan, f"target has nothing in its {name}"
    return _channel(*((audio * right).mean(axis=0, keepdims=True) for audio in (preds, target)))


def _channel(preds: np.ndarray, target: np.ndarray) -> Score:
    """SI-SDR of signals (1, samples); a silent one counts as the worst where the original is audible."""
    if is_silent(preds) and not is_silent(target):
        return _WORST, f"silent output, counted as {_WORST:g} dB"
    found = si_sdr_detailed(preds, target, zero_mean=True)
    return min(max(found.value, _WORST), _BEST) if not found.reason else math.nan, found.reason


#: float32 audio holds no difference from its original above 100 dB, and as far below 0 dB all that an output
#: shares with its original is rounding. Unrelated audio stays above (-40 to -90 dB), so silence never beats it.
#: By chance it scores about -40 dB, where a last bit moves the score by whole decibels: the gate looks no lower.
SI_SDR = PairMetric(
    name="si_sdr",
    title="SI-SDR",
    unit="dB",
    note="scale-invariant signal-to-distortion ratio in dB, zero-mean, of the mono fold, float64",
    function=clip_si_sdr,
    modules=("benchmarks.metrics.si_sdr", "m2l.kernels.jit", "benchmarks.metrics.clip_score"),
    folds=True,
    exact=True,
    worst=_WORST,
    best=_BEST,
    tolerance=0.1,
    floor=-40.0,
    collapse=10.0,
)


def _of_channels(name: str, title: str, what: str, function: ScoreFunction) -> PairMetric:
    note = f"scale-invariant signal-to-distortion ratio in dB, zero-mean, {what}, float64"
    return replace(SI_SDR, name=f"si_sdr:{name}", title=title, note=note, function=function, folds=False)


SI_SDR_MID = _of_channels("mid", "SI-SDR mid", "of the mean of left and right", mid_si_sdr)
SI_SDR_SIDE = _of_channels("side", "SI-SDR side", "of half the difference of left and right", side_si_sdr)
SI_SDR_JOINT = _of_channels("joint", "SI-SDR joint", "of all channels as one signal", joint_si_sdr)
SI_SDR_PER_CHANNEL = _of_channels("per_channel", "SI-SDR channels", "mean of the channels' values", mean_si_sdr)
