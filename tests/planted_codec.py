"""An autoencoder as another repository would bring it, with weights in a file: for planted regressions.

Frames of the signal are projected on a basis fitted to music and back: a linear autoencoder. It works at
32 kHz, so that resampling is part of what it does.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from m2l.audio import check_audio, fit_length, resample
from m2l.io.digest import file_sha256

RATE, FRAME = 32000, 128


def weights_path() -> Path:
    return Path(os.environ["PLANTED_WEIGHTS"])


def fit_weights(path: Path, latent_dim: int = 24) -> None:
    """The principal components of frames of the synthetic clips."""
    from benchmarks.datasets import create_dataset

    frames = []
    for clip in create_dataset("synthetic", size=4, seconds=2.0).clips(None):
        audio, rate = clip.load()
        mono = resample(audio.mean(axis=0, keepdims=True), rate, RATE, exact=False)[0]
        frames.append(mono[: len(mono) // FRAME * FRAME].reshape(-1, FRAME))
    data = np.concatenate(frames).astype(np.float64)
    _, vectors = np.linalg.eigh(data.T @ data)
    np.save(path, vectors[:, -latent_dim:].astype(np.float32))


class LinearCodec:
    """Frames times a basis, and back."""

    def __init__(self) -> None:
        path = weights_path()
        self.basis = np.load(path)
        self.spec = AutoencoderSpec(name="linear", sample_rate=RATE, channels="mono", weights_digest=file_sha256(path))

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        audio = resample(check_audio(audio, sample_rate), sample_rate, RATE, exact=False)
        count = -(-audio.shape[1] // FRAME)
        return fit_length(audio, count * FRAME).reshape(len(audio), count, FRAME) @ self.basis

    def decode(
        self, latents: np.ndarray, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        audio = (latents @ self.basis.T).reshape(len(latents), -1)
        return fit_length(resample(audio, RATE, sample_rate, exact=False), length)

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        return self.decode(self.encode(audio, sample_rate), length=audio.shape[1], sample_rate=sample_rate)
