"""What every embedder checks of a clip before it embeds it."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.embedders.base import ShortClipError


def checked_mono(audio: Any, name: str) -> np.ndarray:
    """Mono `(samples,)` or `(1, samples)` as contiguous float32 `(samples,)`.

    Args:
        audio: the clip.
        name: the embedder's, for the message.

    Raises:
        ShortClipError: no samples.
        ValueError: not mono, or non-finite samples.
    """
    array = np.asarray(audio)
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 1:
        raise ValueError(f"{name} takes mono (samples,), got shape {array.shape}")
    if array.size == 0:
        raise ShortClipError(f"{name}: the clip has no samples")
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}: non-finite sample at {first}")
    return np.ascontiguousarray(array, np.float32)
