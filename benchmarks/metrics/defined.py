"""Pairs that a metric gives no number for, with the reason; the same words for every metric."""

from __future__ import annotations

import numpy as np

from m2l.audio import is_silent


def undefined(preds: np.ndarray, target: np.ndarray, *, samples: int = 1, stereo: bool = False) -> str | None:
    """Why a metric gives no number for a pair; None where it gives one.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        samples: the shortest audio that the metric is defined for.
        stereo: whether it compares the two channels of a clip.

    Raises:
        ValueError: the shapes differ, or are not (channels, samples).
    """
    if preds.shape != target.shape or target.ndim != 2:
        raise ValueError(f"preds has shape {preds.shape}, target {target.shape}: both must be (channels, samples)")
    for name, audio in (("preds", preds), ("target", target)):
        if not np.isfinite(audio).all():
            return f"{name} has samples that are not finite"
    if target.shape[1] < samples:
        return f"{target.shape[1]} samples, at least {samples} needed"
    if stereo and len(target) != 2:
        return f"{len(target)} channel{'s' if len(target) > 1 else ''}, a stereo clip needed"
    return "target is silent" if all_silent(target) else None


def all_silent(audio: np.ndarray) -> bool:
    """Whether every channel of `(channels, samples)` is silent; their mean may be silent where none of them is."""
    return all(is_silent(channel[None]) for channel in audio)
