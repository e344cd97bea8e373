"""The two loops of SI-SDR, compiled: samples of float32 or float64, sums in float64."""

from __future__ import annotations

import numpy as np

from benchmarks.metrics.visqol.jit import jit

#: Sums may be reordered for vector units; NaN and infinity keep their meaning.
_REORDER = {"reassoc", "nsz", "contract"}


@jit(fastmath=_REORDER)
def sums(
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


@jit(fastmath=_REORDER)
def residual(preds: np.ndarray, target: np.ndarray, origin_p: float, origin_t: float, alpha: float) -> float:
    """Σ (p - α t)², each signal about its origin."""
    total = 0.0
    for i in range(preds.shape[0]):
        difference = (np.float64(preds[i]) - origin_p) - alpha * (np.float64(target[i]) - origin_t)
        total += difference * difference
    return total
