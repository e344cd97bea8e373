"""The phase-discarding baseline: mel magnitudes at Music2Latent's rate, phase by Griffin-Lim.

64 mel bands, one frame per 4096 samples at 44.1 kHz: 64 numbers at 10.77 Hz, the shape and the rate of
Music2Latent's latents (64x), with no learning at all. What a learned autoencoder must beat.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft

from benchmarks.autoencoders.base import AutoencoderSpec
from m2l.audio import check_audio, fit_length, resample

SAMPLE_RATE = 44100
N_FFT = 4096
#: Frames the phase is built on; four of them share one stored frame.
HOP = 1024
POOL = 4
N_MELS = 64
_FLOOR = 1e-5


class MelGriffinLim:
    """Log-mel magnitudes (64 bands, 10.77 Hz) and fast Griffin-Lim.

    Encoding averages the mel magnitudes of four STFT frames; decoding interpolates them in time, spreads
    each band over its bins, and finds a phase by Griffin-Lim with momentum (Perraudin, Balazs and
    Sondergaard 2013) from a seeded random start.

    Args:
        iterations: Griffin-Lim iterations.
        momentum: 0 is the plain algorithm of Griffin and Lim (1984).
    """

    def __init__(self, iterations: int = 32, momentum: float = 0.99) -> None:
        self.iterations, self.momentum = int(iterations), float(momentum)
        self.spec = AutoencoderSpec(
            name="mel-griffinlim",
            sample_rate=SAMPLE_RATE,
            channels="per_channel",
            latent_rate=SAMPLE_RATE / (HOP * POOL),
            latent_dim=N_MELS,
            compression_ratio=HOP * POOL / N_MELS,
            n_parameters=0,
            source="this project",
            license="Apache-2.0",
            options={"iterations": self.iterations, "momentum": self.momentum},
        )

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Log-mel frames `(channels, 64, ceil(samples / 4096))` at 44.1 kHz."""
        audio = resample(check_audio(audio, sample_rate), sample_rate, SAMPLE_RATE, exact=False)
        frames = -(-audio.shape[1] // (HOP * POOL))
        audio = fit_length(audio, frames * HOP * POOL)
        magnitude = np.abs(_stft(audio))[:, : frames * POOL]  # (channels, frames * POOL, bins)
        mel = magnitude @ _mel_filters().T
        pooled = mel.reshape(mel.shape[0], frames, POOL, N_MELS).mean(axis=2)
        return np.log(np.maximum(pooled, _FLOOR)).transpose(0, 2, 1).astype(np.float32)

    def decode(
        self, latents: np.ndarray, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)` at `sample_rate` from log-mel frames."""
        log_mel = _interpolate(latents.transpose(0, 2, 1))  # (channels, frames * POOL, mels)
        magnitude = np.exp(log_mel) @ _spread()
        rng = np.random.default_rng(seed)
        audio = np.stack([self._phase(channel.astype(np.float32), rng) for channel in magnitude])
        return fit_length(resample(audio, SAMPLE_RATE, sample_rate, exact=False), length)

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        audio = check_audio(audio, sample_rate)
        latents = self.encode(audio, sample_rate)
        return self.decode(latents, length=audio.shape[1], sample_rate=sample_rate, seed=seed)

    def _phase(self, magnitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Waveform `(frames * HOP,)` whose STFT magnitude is near `(frames, bins)`."""
        samples = magnitude.shape[0] * HOP
        angles = np.exp(2j * np.pi * rng.random(magnitude.shape, dtype=np.float32)).astype(np.complex64)
        previous = np.zeros_like(angles)
        for _ in range(self.iterations):
            rebuilt = _stft(_istft(magnitude * angles, samples)[None])[0, : len(magnitude)]
            update = rebuilt - np.float32(self.momentum / (1 + self.momentum)) * previous
            angles = update / np.maximum(np.abs(update), np.float32(1e-12))
            previous = rebuilt
        return _istft(magnitude * angles, samples)


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    """Periodic Hann window of N_FFT samples."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def _stft(audio: np.ndarray) -> np.ndarray:
    """`(channels, samples)` -> `(channels, frames, bins)`, frames centered on multiples of HOP."""
    padded = np.pad(audio, [(0, 0), (N_FFT // 2, N_FFT // 2)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP]
    return fft.rfft(frames * _window(), axis=-1)


def _istft(spectrum: np.ndarray, samples: int) -> np.ndarray:
    """Least-squares inverse of `_stft` for one channel: `(frames, bins)` -> `(samples,)`."""
    window = _window()
    frames = fft.irfft(spectrum, n=N_FFT, axis=-1).astype(np.float32) * window
    blocks = N_FFT // HOP
    total = np.zeros((len(frames) + blocks - 1, HOP), dtype=np.float32)
    weight = np.zeros_like(total)
    for block in range(blocks):
        part = slice(block * HOP, (block + 1) * HOP)
        total[block : block + len(frames)] += frames[:, part]
        weight[block : block + len(frames)] += window[part] ** 2
    audio = (total / np.maximum(weight, 1e-3)).reshape(-1)
    return fit_length(audio[N_FFT // 2 :], samples)


@lru_cache(maxsize=1)
def _mel_filters() -> np.ndarray:
    """Triangular filters `(mels, bins)` on the mel scale 2595 log10(1 + f / 700), each with sum 1.

    Bands narrower than a bin (the lowest) take the nearest bin, so that no band is empty.
    """
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, N_MELS + 2) / 2595.0) - 1.0)
    bins = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0.0, np.minimum(rise, fall))
    for band in np.flatnonzero(filters.sum(axis=1) == 0):
        filters[band, np.argmin(np.abs(bins - edges[band + 1]))] = 1.0
    return (filters / filters.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=1)
def _spread() -> np.ndarray:
    """`(mels, bins)`: each bin takes the average of the bands it belongs to, weighted by their triangles."""
    filters = _mel_filters()
    peaks = filters / filters.max(axis=1, keepdims=True)
    return peaks / np.maximum(peaks.sum(axis=0, keepdims=True), 1e-6)


def _interpolate(frames: np.ndarray) -> np.ndarray:
    """`(channels, n, mels)` pooled frames -> `(channels, n * POOL, mels)`, linear in log magnitude."""
    n = frames.shape[1]
    position = np.clip((np.arange(n * POOL) - (POOL - 1) / 2) / POOL, 0, n - 1)
    left = np.minimum(position.astype(int), max(n - 2, 0))
    right = np.minimum(left + 1, n - 1)
    weight = (position - left)[None, :, None]
    return frames[:, left] * (1 - weight) + frames[:, right] * weight
