"""Sound sources: evolving harmonic spectra, struck modes, plucked strings, FM, filtered noise.

All of them return float64 mono arrays `(samples,)`, unnormalized but of the order of 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

Array = npt.NDArray[np.float64]

TABLE_SIZE = 2048
NYQUIST_MARGIN = 0.45  # partials above this share of the sample rate are left out


def midi_to_hz(midi: float) -> float:
    """Return the equal-tempered frequency in Hz (A4 = MIDI 69 = 440 Hz)."""
    return float(440.0 * 2.0 ** ((midi - 69.0) / 12.0))


def harmonic_tone(spectra: Array, knots: Array, frequency: Array, phases: Array, sample_rate: int) -> Array:
    """A harmonic tone whose spectrum moves from knot to knot.

    Each spectrum becomes one period of a waveform (a wavetable); samples are read from the two tables
    around their moment and cross-faded, which equals adding up sinusoids with piecewise-linear amplitudes
    at a cost that does not grow with the number of harmonics.

    Args:
        spectra: Harmonic amplitudes at the knots, `(knots, harmonics)`, first column = fundamental.
        knots: Ascending times in seconds, `(knots,)`; the spectrum stays constant outside.
        frequency: Fundamental in Hz for each sample, `(samples,)`.
        phases: Phase of each harmonic in radians, `(harmonics,)`.
        sample_rate: In Hz.

    Returns:
        `(samples,)`.
    """
    n_samples = len(frequency)
    top = max(1, int(NYQUIST_MARGIN * sample_rate / float(frequency.max())))
    spectra, phases = spectra[:, :top], phases[:top]
    bins = np.zeros((len(spectra), TABLE_SIZE // 2 + 1), dtype=np.complex128)
    kept = min(spectra.shape[1], TABLE_SIZE // 2 - 1)
    bins[:, 1 : kept + 1] = spectra[:, :kept] * np.exp(1j * phases[:kept]) * (TABLE_SIZE / 2)
    tables = np.fft.irfft(bins, TABLE_SIZE, axis=1)
    slopes = np.roll(tables, -1, axis=1) - tables

    position = np.cumsum(frequency) * (TABLE_SIZE / sample_rate)
    index = position.astype(np.int64)
    fraction = position - index
    index &= TABLE_SIZE - 1

    edges = np.clip(np.round(knots * sample_rate).astype(np.int64), 0, n_samples)
    out = np.empty(n_samples)

    def read(table: int, first: int, last: int) -> Array:
        i = index[first:last]
        value: Array = tables[table][i] + fraction[first:last] * slopes[table][i]
        return value

    out[: edges[0]] = read(0, 0, edges[0])
    for k in range(len(edges) - 1):
        first, last = int(edges[k]), int(edges[k + 1])
        if last > first:
            before, after = read(k, first, last), read(k + 1, first, last)
            out[first:last] = before + (after - before) * (np.arange(last - first) / (last - first))
    out[edges[-1] :] = read(len(edges) - 1, edges[-1], n_samples)
    return out


def struck_modes(frequencies: Array, amplitudes: Array, decays: Array, n_samples: int, sample_rate: int) -> Array:
    """Decaying sinusoids, one two-pole resonator each: bars, bells, stiff strings.

    Args:
        frequencies: In Hz, `(modes,)`; modes near or above the Nyquist frequency are left out.
        amplitudes: `(modes,)`.
        decays: Time constants (to 1/e) in seconds, `(modes,)`.
        n_samples: Length.
        sample_rate: In Hz.
    """
    impulse = np.zeros(n_samples)
    impulse[0] = 1.0
    out = np.zeros(n_samples)
    for f, a, tau in zip(frequencies, amplitudes, decays, strict=True):
        if f >= NYQUIST_MARGIN * sample_rate:
            continue
        w, r = 2.0 * np.pi * f / sample_rate, np.exp(-1.0 / (tau * sample_rate))
        length = min(n_samples, int(9.0 * tau * sample_rate) + 64)  # below -78 dB after nine time constants
        out[:length] += scipy.signal.lfilter(
            [0.0, a * r * np.sin(w)], [1.0, -2.0 * r * np.cos(w), r * r], impulse[:length]
        )
    return out


def plucked_string(
    frequency: float, excitation: Array, decay: float, damping: float, n_samples: int, sample_rate: int
) -> Array:
    """Karplus-Strong: a delay line of one period fed back through a two-point average.

    y[n] = x[n] + g ((1 - s) y[n - N] + s y[n - N - 1])  (Karplus and Strong 1983; s: their stretch).

    One period depends only on the one before it, so it is computed a period at a time. The line's delay,
    N + s samples, is made a little longer than the wanted period, and the result is read a little faster
    (at most 1 part in N): that tunes it exactly for any damping.

    Args:
        frequency: In Hz.
        excitation: The pluck: at least one period of noise, `(>= N,)`.
        decay: Time constant of the fundamental in seconds.
        damping: s in (0, 0.5]: how much faster high partials decay.
        n_samples: Length.
        sample_rate: In Hz.

    Raises:
        ValueError: The excitation is shorter than one period.
    """
    period = sample_rate / frequency
    n = int(np.ceil(period - damping))
    rate = (n + damping) / period
    if len(excitation) < n:
        raise ValueError(f"excitation has {len(excitation)} samples, one period has {n}")
    loss = float(np.exp(-period / (decay * sample_rate)))
    near, far = loss * (1.0 - damping), loss * damping
    total = int(np.ceil(n_samples * rate)) + 2
    line = np.zeros(n + 1 + total + n)  # one period of silence and one sample before the pluck
    first = n + 1
    line[first : first + n] = excitation[:n]
    for i in range(first + n, first + total, n):
        np.multiply(line[i - n : i], near, out=line[i : i + n])
        line[i : i + n] += far * line[i - n - 1 : i - 1]
    read = np.arange(n_samples) * rate
    return np.interp(read, np.arange(total), line[first : first + total])


def fm_tone(frequency: Array, ratio: float, index: Array, sample_rate: int) -> Array:
    """Two-operator frequency modulation (Chowning 1973): sin(θ + I(t) sin(ratio θ)).

    Args:
        frequency: Carrier in Hz for each sample, `(samples,)`.
        ratio: Modulator frequency over carrier frequency.
        index: Modulation index I for each sample, `(samples,)`.
        sample_rate: In Hz.
    """
    theta = np.cumsum(frequency) * (2.0 * np.pi / sample_rate)
    out: Array = np.sin(theta + index * np.sin(ratio * theta))
    return out


@lru_cache(maxsize=256)
def _band(low: float | None, high: float | None, order: int, sample_rate: int) -> Any:
    if low is None:
        return scipy.signal.butter(order, high, "lowpass", fs=sample_rate, output="sos")
    if high is None:
        return scipy.signal.butter(order, low, "highpass", fs=sample_rate, output="sos")
    return scipy.signal.butter(order, [low, high], "bandpass", fs=sample_rate, output="sos")


def filtered(signal: Array, low: float | None, high: float | None, sample_rate: int, order: int = 2) -> Array:
    """Butterworth low-, high- or band-pass; None leaves that edge open. Edges are kept below Nyquist."""
    limit = NYQUIST_MARGIN * sample_rate
    low = None if low is None else round(min(low, 0.9 * limit), 3)
    high = None if high is None or high >= limit else round(high, 3)
    if low is None and high is None:
        return signal
    out: Array = scipy.signal.sosfilt(_band(low, high, order, sample_rate), signal, axis=-1)
    return out


def resonant_noise(noise: Array, frequency: float, quality: float, sample_rate: int) -> Array:
    """Noise through a sharp two-pole resonance: a pitched whisper of about unit variance."""
    w = 2.0 * np.pi * min(frequency, NYQUIST_MARGIN * sample_rate) / sample_rate
    r = np.exp(-w / (2.0 * quality))
    gain = np.sqrt((1 - r * r) * (1 - 2 * r * r * np.cos(2 * w) + r**4) / (1 + r * r))
    out: Array = scipy.signal.lfilter([gain], [1.0, -2.0 * r * np.cos(w), r * r], noise)
    return out
