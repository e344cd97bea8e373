"""Short-time spectra for metrics: centered frames with reflected ends, in blocks that stay in the processor's cache.

float32, as in the tools whose conventions the metrics follow: the rounding noise of a transform lies below the
floors of all logarithms here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from scipy import fft

#: Samples of the frames that are transformed at once.
_BLOCK = 1 << 17


@cache
def hann(length: int, n_fft: int = 0) -> np.ndarray:
    """A periodic Hann window, (n_fft,) float32, with zeros on both sides where `n_fft` is longer than `length`."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    left = max(n_fft - length, 0) // 2
    return np.pad(window, (left, max(n_fft - length, 0) - left)).astype(np.float32)


def spectra(audio: np.ndarray, window: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """Blocks `(channels, frames, bins)` complex64 of `(channels, samples)`, 1 + samples // hop frames in all.

    Frames are centered on multiples of `hop`; both ends are reflected, so there must be more than half as many
    samples as the window has.
    """
    n_fft = len(window)
    padded = np.pad(np.asarray(audio, np.float32), [(0, 0), (n_fft // 2, n_fft // 2)], mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
    rows = max(1, _BLOCK // (n_fft * len(audio)))
    for start in range(0, frames.shape[1], rows):
        yield fft.rfft(frames[:, start : start + rows] * window, axis=-1)


def powers(audio: np.ndarray, window: np.ndarray, hop: int) -> Iterator[np.ndarray]:
    """As `spectra`, but squared magnitudes in float32."""
    for block in spectra(audio, window, hop):
        squares = np.square(block.view(np.float32))
        yield squares[..., ::2] + squares[..., 1::2]
