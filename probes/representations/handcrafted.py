"""The floors: mel spectrum, MFCC and chroma, computed with numpy from one STFT.

A representation that does not beat these has learned nothing that a page of signal processing lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from probes.representations.base import RepresentationSpec, mono_at

SAMPLE_RATE = 22050
N_FFT, HOP = 2048, 1024
#: Chroma needs to tell low notes apart: a longer window.
N_FFT_CHROMA = 8192
N_MELS, N_MFCC = 128, 20
LOWEST_HZ, HIGHEST_HZ = 55.0, 5000.0
FLOOR = 1e-10


def power_frames(audio: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """(n_frames, n_fft / 2 + 1) power spectra of Hann windows, frames centered, zeros beyond the ends."""
    padded = np.pad(audio, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return np.abs(np.fft.rfft(frames * window.astype(np.float32), axis=1)) ** 2


@cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> np.ndarray:
    """(n_mels, n_fft / 2 + 1) triangles of unit area, evenly spaced on Slaney's mel scale up to Nyquist."""
    step = np.log(6.4) / 27.0  # linear to 1 kHz (15 mels), then logarithmic

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (np.maximum(mel, 15) - 15)))

    top = 15 + np.log(sample_rate / 2 / 1000) / step
    edges = to_hz(np.linspace(0, top, n_mels + 2))
    frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


@cache
def chroma_filters(sample_rate: int, n_fft: int) -> np.ndarray:
    """(12, n_fft / 2 + 1): each bin's power shared between its two nearest pitch classes, C first."""
    frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    filters = np.zeros((12, len(frequencies)))
    used = np.flatnonzero((frequencies >= LOWEST_HZ) & (frequencies <= HIGHEST_HZ))
    pitch = 69 + 12 * np.log2(frequencies[used] / 440.0)
    below = np.floor(pitch).astype(int)
    share = pitch - below
    filters[below % 12, used] += 1 - share
    filters[(below + 1) % 12, used] += share
    return filters


@cache
def cosine_basis(n_in: int, n_out: int) -> np.ndarray:
    """(n_out, n_in) orthonormal DCT-II."""
    k, n = np.arange(n_out)[:, None], np.arange(n_in)[None]
    basis = np.cos(np.pi * k * (2 * n + 1) / (2 * n_in)) * np.sqrt(2 / n_in)
    basis[0] /= np.sqrt(2)
    return basis


class Handcrafted:
    """Outputs `mel` (128 log-mel energies), `mfcc` (20) and `chroma` (12, each frame summing to 1).

    At 22.05 kHz; frames of 93 ms (372 ms for chroma) with a hop of 46 ms.
    """

    spec = RepresentationSpec(
        name="handcrafted",
        sample_rate=SAMPLE_RATE,
        outputs=("mel", "mfcc", "chroma"),
        source="probes.representations.handcrafted",
        options={"n_fft": N_FFT, "hop": HOP, "n_mels": N_MELS, "n_mfcc": N_MFCC, "n_fft_chroma": N_FFT_CHROMA},
    )

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`."""
        mono = mono_at(audio, sample_rate, SAMPLE_RATE)
        power = power_frames(mono, N_FFT, HOP)
        mel = np.log10(power @ mel_filters(SAMPLE_RATE, N_FFT, N_MELS).T + FLOOR)
        long = power_frames(mono, N_FFT_CHROMA, HOP)
        chroma = long @ chroma_filters(SAMPLE_RATE, N_FFT_CHROMA).T
        total = chroma.sum(axis=1, keepdims=True)
        # silence has no pitch: an even chroma says so
        chroma = np.where(total > FLOOR, chroma / np.maximum(total, FLOOR), 1 / 12)
        outputs = {"mel": mel, "mfcc": mel @ cosine_basis(N_MELS, N_MFCC).T, "chroma": chroma}
        return {name: values.astype(np.float32) for name, values in outputs.items()}
