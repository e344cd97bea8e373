"""A short synthetic clip to try systems on."""

from __future__ import annotations

import numpy as np


def notes(channels: int, seconds: float, rate: int) -> np.ndarray:
    """Decaying harmonic notes over a little noise, with an odd number of samples."""
    rng = np.random.default_rng(0)
    samples = round(seconds * rate) | 1
    time = np.arange(samples) / rate
    out = 0.002 * rng.standard_normal((channels, samples))
    for start in np.arange(0.05, seconds, 0.2):
        pitch = 110 * 2 ** (int(rng.integers(0, 24)) / 12)
        age = np.clip(time - start, 0, None)
        note = sum(np.sin(2 * np.pi * pitch * k * age) / k for k in range(1, 6)) * np.exp(-8 * age)
        out += 0.1 * rng.uniform(0.5, 1, (channels, 1)) * note
    return out.astype(np.float32)
