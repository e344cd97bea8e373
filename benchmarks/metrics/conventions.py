"""What other tools compute under the name SI-SDR, as formulas on one pair of float64 signals.

They are here so that a published number can be compared with one measured here, not because they are
better: with their epsilons, silence gets a finite score and quiet signals a wrong one. Each was written
from the tool's documented formula and keeps its epsilons; sums are float64 here, float32 there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float64]

_FLOAT32_EPS = float(np.finfo(np.float32).eps)
_LOSS_EPS = 1e-8


@dataclass(frozen=True)
class Convention:
    """A tool's formula and its defaults; `ratio_db(preds, target, zero_mean, sample_rate)` is in dB."""

    source: str
    zero_mean: bool
    channels: Any
    ratio_db: Callable[[Signal, Signal, bool, int | None], float]


def _torchmetrics(preds: Signal, target: Signal, zero_mean: bool, sample_rate: int | None) -> float:
    """float32 eps in both halves of α and of the ratio: silence against silence is 0 dB."""
    preds, target = _without_mean(preds, target, zero_mean)
    eps = _FLOAT32_EPS
    scaled = target * ((preds @ target + eps) / (target @ target + eps))
    noise = scaled - preds
    return _db((scaled @ scaled + eps) / (noise @ noise + eps))


def _eps_in_denominators(preds: Signal, target: Signal, zero_mean: bool, sample_rate: int | None) -> float:
    """auraloss and asteroid: 1e-8 in both denominators and inside the logarithm, hence -80 dB on silence."""
    preds, target = _without_mean(preds, target, zero_mean)
    eps = _LOSS_EPS
    scaled = target * ((preds @ target) / (target @ target + eps))
    noise = preds - scaled
    return _db((scaled @ scaled) / (noise @ noise + eps) + eps)


def _audiotools(preds: Signal, target: Signal, zero_mean: bool, sample_rate: int | None) -> float:
    """1e-8 in both halves of α and added to the ratio; the noise power has none."""
    preds, target = _without_mean(preds, target, zero_mean)
    eps = _LOSS_EPS
    scaled = target * ((preds @ target + eps) / (target @ target + eps))
    noise = preds - scaled
    signal_power, noise_power = float(scaled @ scaled), float(noise @ noise)
    if noise_power == 0.0:
        return math.nan if signal_power == 0.0 else math.inf
    return _db(signal_power / noise_power + eps)


def _audiocraft(preds: Signal, target: Signal, zero_mean: bool, sample_rate: int | None) -> float:
    """Mean over 20 s segments (hop 10 s, zero-padded) of a ratio with eps = float32 eps x segment length."""
    if sample_rate is None:
        raise ValueError("convention='audiocraft' cuts 20 s segments: give sample_rate")
    frame = int(20 * sample_rate)
    hop = frame // 2
    eps = _FLOAT32_EPS * frame
    n_frames = -(-len(target) // hop)
    padding = (0, (n_frames - 1) * hop + frame - len(target))
    preds, target = np.pad(preds, padding), np.pad(target, padding)
    values = []
    for start in range(0, n_frames * hop, hop):
        # The means are taken over the padded segment, so the padding is not silent afterward.
        p, t = _without_mean(preds[start : start + frame], target[start : start + frame], zero_mean)
        projection = t * ((p @ t) / (t @ t + eps))
        noise = p - projection
        values.append(_db((projection @ projection + eps) / (noise @ noise + eps)))
    return float(np.mean(values))


CONVENTIONS: dict[str, Convention] = {
    "torchmetrics": Convention(
        "torchmetrics 1.9 scale_invariant_signal_distortion_ratio", False, "per_channel", _torchmetrics
    ),
    "auraloss": Convention("auraloss 0.4 SISDRLoss", True, "per_channel", _eps_in_denominators),
    "asteroid": Convention("asteroid singlesrc_neg_sisdr", True, "per_channel", _eps_in_denominators),
    "audiotools": Convention("audiotools 0.7 SISDRLoss (DAC's evaluation)", True, "joint", _audiotools),
    "audiocraft": Convention("audiocraft SISNR (EnCodec's training)", True, "per_channel", _audiocraft),
}


def _without_mean(preds: Signal, target: Signal, zero_mean: bool) -> tuple[Signal, Signal]:
    return (preds - preds.mean(), target - target.mean()) if zero_mean else (preds, target)


def _db(ratio: Any) -> float:
    return 10.0 * math.log10(ratio) if ratio > 0 else -math.inf
