"""The ceiling: audio as it came."""

from __future__ import annotations

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec, check_audio


class Identity:
    """Returns its input, bit for bit: what every metric says about a perfect system."""

    spec = AutoencoderSpec(
        name="identity", sample_rate=None, channels="per_channel", compression_ratio=1.0, source="input"
    )

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return check_audio(audio, sample_rate)

    def decode(
        self, latents: np.ndarray, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        return latents[:, :length]

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        return check_audio(audio, sample_rate).copy()
