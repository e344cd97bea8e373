"""Time alignment by cross-correlation of envelopes, of whole signals and of patches.

Google's C++ means to take the Hilbert envelope but keeps only the real part of the inverse FFT, which
makes it rectification: envelope = 2·|x - mean| + mean. Being exact means doing the same. Correlations
are float32 FFTs there (pffft) and here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from benchmarks.metrics.visqol_jit import jit


@jit(fastmath={"contract", "reassoc"})
def _mean(x: NDArray[np.float64], start: int, stop: int) -> float:
    total = 0.0
    for i in range(start, stop):
        total += x[i]
    return total / (stop - start)


@jit()
def _write_envelopes(
    x: NDArray[np.float64], starts: NDArray[np.int64], stops: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    for row in range(starts.shape[0]):
        start, stop = starts[row], stops[row]
        mean = _mean(x, start, stop)
        for i in range(stop - start):
            out[row, i] = 2.0 * abs(x[start + i] - mean) + mean
        for i in range(stop - start, out.shape[1]):
            out[row, i] = 0.0


@lru_cache(maxsize=64)
def correlation_length(n: int) -> int:
    """FFT length that holds every lag of two signals of at most `n` samples without wrapping."""
    return int(scipy.fft.next_fast_len(2 * n - 1, real=True))


def envelope_spectra(
    x: NDArray[np.float64], starts: NDArray[np.int64], stops: NDArray[np.int64], n_fft: int
) -> NDArray[np.complex64]:
    """Spectra of the envelopes of the slices x[start:stop], each with its own mean.

    Args:
        x: mono signal, (samples,).
        starts: first sample of each slice.
        stops: one past the last sample of each slice.
        n_fft: FFT length; slices are zero-padded to it.

    Returns:
        (slices, n_fft // 2 + 1).
    """
    padded = np.empty((len(starts), n_fft), dtype=np.float32)
    _write_envelopes(x, starts, stops, padded)
    return scipy.fft.rfft(padded, axis=-1, overwrite_x=True)


def best_lags(
    target_spectra: NDArray[np.complex64], preds_spectra: NDArray[np.complex64], n_fft: int, n: int
) -> NDArray[np.int64]:
    """Lag of each pair of envelopes: the first maximum of the correlation over -(n-1) … n-1.

    A positive lag means that `preds` is ahead of `target` and has to be delayed.

    Args:
        target_spectra: (pairs, n_fft // 2 + 1).
        preds_spectra: the same.
        n_fft: FFT length behind the spectra.
        n: samples of the longer of the two signals.
    """
    product = np.conj(preds_spectra)
    product *= target_spectra
    correlation = scipy.fft.irfft(product, n_fft, axis=-1, overwrite_x=True)
    negative, positive = correlation[:, n_fft - (n - 1) :], correlation[:, :n]
    lags = np.argmax(positive, axis=-1)
    if n > 1:
        rows = np.arange(len(lags))
        before = np.argmax(negative, axis=-1)
        earlier = negative[rows, before] >= positive[rows, lags]
        lags = np.where(earlier, before - (n - 1), lags)
    return lags.astype(np.int64)


def usable_lag(lag: int, n_target: int) -> int:
    """The lag, or 0 where it is over half the reference: such a match is not believed."""
    return 0 if abs(lag) > n_target / 2 else int(lag)


def shift(preds: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """Drop the first |lag| samples (negative lag), or prepend `lag` zeros."""
    if lag < 0:
        return preds[-lag:]
    if lag > 0:
        return np.concatenate([np.zeros(lag), preds])
    return preds
