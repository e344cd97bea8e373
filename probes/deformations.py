"""Changes of the audio under which a probe trained on clean audio is tested again.

A deformation is a text such as `noise:15` and a pure function of audio: same clip, same result.

    noise:DB     white noise at a signal-to-noise ratio of DB
    gain:DB      gain, clipped at full scale
    mp3:KBPS     one pass through the MP3 codec at a constant bit rate (one of MPEG-1's)
    pitch:N      shifted by N semitones, same length
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.autoencoders.codecs import LibsndfileCodec
from m2l.audio import fit_length


@dataclass(frozen=True)
class Deformation:
    """Steps of (kind, amount), applied in order; `str()` gives the text it was made from."""

    steps: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return "+".join(f"{kind}:{amount:g}" for kind, amount in self.steps)

    def apply(self, audio: np.ndarray, sample_rate: int, seed: int) -> np.ndarray:
        """Deformed float32 audio of the same shape.

        Args:
            audio: (channels, samples) float32.
            sample_rate: in Hz.
            seed: of the noise.
        """
        changed = np.asarray(audio, dtype=np.float32)
        for kind, amount in self.steps:
            changed = fit_length(_KINDS[kind](changed, sample_rate, amount, seed), audio.shape[1])
        return changed.astype(np.float32)


def parse_deformation(text: str) -> Deformation:
    """A deformation from its text; `+` joins steps: `noise:15+mp3:64`.

    Raises:
        ValueError: unknown kind, no number, or an amount out of range.
    """
    return Deformation(tuple(_parse_step(step) for step in text.split("+")))


def _parse_step(text: str) -> tuple[str, float]:
    kind, _, number = text.partition(":")
    if kind not in _KINDS:
        raise ValueError(f"unknown deformation {text!r}; kinds: {', '.join(_KINDS)}")
    try:
        amount = float(number)
    except ValueError:
        raise ValueError(f"deformation {text!r} needs a number, as in {kind}:{_EXAMPLES[kind]}") from None
    low, high = _RANGES[kind]
    if not low <= amount <= high:
        raise ValueError(f"deformation {text!r}: the amount must lie in {low:g}..{high:g}")
    return kind, amount


def _noise(audio: np.ndarray, sample_rate: int, snr_db: float, seed: int) -> np.ndarray:
    level = np.sqrt(np.mean(np.square(audio, dtype=np.float64)))
    noise = np.random.default_rng(seed).standard_normal(audio.shape)
    noise *= level * 10 ** (-snr_db / 20) / np.sqrt(np.mean(noise**2))
    return audio + noise


def _gain(audio: np.ndarray, sample_rate: int, gain_db: float, seed: int) -> np.ndarray:
    return np.clip(audio * 10 ** (gain_db / 20), -1.0, 1.0)


def _mp3(audio: np.ndarray, sample_rate: int, kbps: float, seed: int) -> np.ndarray:
    return LibsndfileCodec("mp3", round(kbps * 1000)).reconstruct(audio, sample_rate)


def _pitch(audio: np.ndarray, sample_rate: int, semitones: float, seed: int) -> np.ndarray:
    import soxr

    factor = 2 ** (semitones / 12)
    stretched = np.stack([stretch(channel, factor) for channel in audio])
    # played faster by `factor`, the stretched signal has its old length and the new pitch
    return soxr.resample(stretched.T, sample_rate * factor, sample_rate, quality="HQ").T


def stretch(signal: np.ndarray, factor: float, n_fft: int = 2048) -> np.ndarray:
    """A phase vocoder: (samples,) -> about (samples * factor,) at the same pitch."""
    hop = n_fft // 4
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    padded = np.pad(signal.astype(np.float64), (n_fft // 2, n_fft))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop] * window
    spectra = np.fft.rfft(frames, axis=1)
    positions = np.arange(0, len(spectra) - 1, 1 / factor)
    advance = 2 * np.pi * hop * np.arange(spectra.shape[1]) / n_fft
    magnitude, angle = np.abs(spectra), np.angle(spectra)
    phase = angle[0].copy()
    out = np.zeros(len(positions) * hop + n_fft)
    norm = np.zeros_like(out)
    for number, position in enumerate(positions):
        left = int(position)
        share = position - left
        level = (1 - share) * magnitude[left] + share * magnitude[left + 1]
        frame = np.fft.irfft(level * np.exp(1j * phase)) * window
        out[number * hop : number * hop + n_fft] += frame
        norm[number * hop : number * hop + n_fft] += window**2
        step = angle[left + 1] - angle[left] - advance
        phase += advance + step - 2 * np.pi * np.round(step / (2 * np.pi))
    length = round(len(signal) * factor)
    return (out / np.maximum(norm, 1e-3))[n_fft // 2 : n_fft // 2 + length]


_KINDS: dict[str, Callable[[np.ndarray, int, float, int], np.ndarray]] = {
    "noise": _noise,
    "gain": _gain,
    "mp3": _mp3,
    "pitch": _pitch,
}
_EXAMPLES = {"noise": "15", "gain": "-12", "mp3": "64", "pitch": "1"}
_RANGES = {"noise": (-60.0, 100.0), "gain": (-80.0, 40.0), "mp3": (32.0, 320.0), "pitch": (-12.0, 12.0)}
