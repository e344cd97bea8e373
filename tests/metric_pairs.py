"""A pair of clips for the tests of metrics; figures that other tools gave for it stand as literals in the tests.

They were computed in an environment of their own (torch 2.13, auraloss 0.4.0, descript-audiotools 0.7.2,
librosa 0.11.0, pyloudnorm 0.2.0, torchmetrics 1.9.0) on the arrays of `pair`; the call stands beside each.
"""

from __future__ import annotations

import numpy as np


def pair(rate: int = 44100, seconds: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """(output, original), stereo: decaying tones with noise, and a copy with less treble and some of the other side."""
    rng = np.random.default_rng(7)
    time = np.arange(round(seconds * rate)) / rate
    made = []
    for channel in range(2):
        tones = sum(np.sin(2 * np.pi * f * time + channel) * np.exp(-2 * time) for f in (110.0, 277.2, 1318.5, 3000.0))
        made.append(0.1 * tones + 0.01 * rng.standard_normal(len(time)))
    target = np.stack(made)
    preds = 0.9 * target + 0.3 * np.roll(target, 1, axis=1) - 0.2 * np.roll(target[::-1], 2, axis=1)
    preds += 0.002 * rng.standard_normal(target.shape)
    return preds.astype(np.float32), target.astype(np.float32)
