"""Controls, for sanity checks of metrics: the unchanged input, and white noise at a given SNR."""

from __future__ import annotations

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from m2l.audio import check_audio


class Identity:
    """Returns its input bit for bit: the ceiling of every metric."""

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


class NoiseAtSnr:
    """Adds white Gaussian noise, scaled per channel to exactly `snr_db` over the clip.

    The noise is drawn independently of the clip, so SI-SDR equals the SNR up to their chance correlation
    (about 0.01 dB for 10 s).

    Args:
        snr_db: energy of the clip over energy of the noise, in dB; from -60 to 120.

    Raises:
        ValueError: a number beyond these: the clip, or the noise, would be lost in float32.
    """

    def __init__(self, snr_db: float) -> None:
        if not -60 <= snr_db <= 120:
            raise ValueError(f"noise can be from -60 to 120 dB below the clip, not {snr_db:g}")
        self.snr_db = float(snr_db)
        self.spec = AutoencoderSpec(
            name=f"noise-{snr_db:g}db",
            sample_rate=None,
            channels="per_channel",
            compression_ratio=1.0,
            source=f"input plus white Gaussian noise at {snr_db:g} dB SNR",
            options={"snr_db": self.snr_db},
        )

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return check_audio(audio, sample_rate)

    def decode(
        self, latents: np.ndarray, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal(latents.shape)
        signal_energy = np.square(latents, dtype=np.float64).sum(axis=1, keepdims=True)
        noise_energy = np.square(noise).sum(axis=1, keepdims=True)
        scale = np.sqrt(signal_energy / noise_energy * 10.0 ** (-self.snr_db / 10.0))
        return (latents + scale * noise).astype(np.float32)[:, :length]

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        audio = self.encode(audio, sample_rate)
        return self.decode(audio, length=audio.shape[1], sample_rate=sample_rate, seed=seed)
