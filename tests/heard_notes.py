"""A melody for the tests of metrics that hear notes, and speech-like noise for those of speech; all seeded."""

from __future__ import annotations

import numpy as np

#: MIDI pitches, half a second each.
MELODY = (60, 64, 67, 72, 71, 65)


def melody(rate: int = 22050, pitches: tuple[float, ...] = MELODY, seconds: float = 0.5) -> np.ndarray:
    """(1, samples) float32: one decaying note of eight partials after the other."""
    time = np.arange(round(seconds * rate)) / rate
    notes = []
    for pitch in pitches:
        hertz = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
        partials = [np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 9) if k * hertz < rate / 2]
        notes.append(0.2 * sum(partials) * np.exp(-3 * time) * np.minimum(1, 200 * time))
    return np.concatenate(notes)[None].astype(np.float32)


def babble(rate: int = 16000, seconds: float = 3.0, seed: int = 4) -> np.ndarray:
    """(1, samples) float32: a buzz of 120 Hz through slow random formants, syllables of a quarter of a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    syllables = np.interp(time, np.arange(0, seconds + 0.25, 0.125), rng.uniform(0, 1, int(seconds / 0.125) + 2) ** 2)
    made = np.zeros_like(time)
    for k in range(1, 30):
        slow = np.interp(time, np.arange(0, seconds + 0.5, 0.25), rng.uniform(0, 1, int(seconds / 0.25) + 2))
        made += slow**3 * np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) / np.sqrt(k)
    return (0.1 * syllables * made)[None].astype(np.float32)
