"""The interface of an autoencoder, and the record of its properties."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np


#: How a system treats channels: it folds to mono, is stereo itself, or runs once per channel.
CHANNEL_POLICIES = ("mono", "stereo", "per_channel")


@dataclass(frozen=True)
class AutoencoderSpec:
    """What defines a system's output, and its costs. All of it is part of the content key.

    Constructing an adapter must be cheap (no torch import, no weights read beyond a header or digest), so
    that a run with nothing to do finds that out in a second. Values that need the loaded model are None.

    Attributes:
        name: name on the command line and in the tables.
        sample_rate: the system's own rate in Hz; None when it takes any rate as it is.
        channels: "mono", "stereo" or "per_channel".
        latent_rate: latent vectors (or code frames) per second of audio, per channel processed.
        latent_dim: numbers per latent vector.
        compression_ratio: numbers in (waveform samples) per number out, as the paper counts (64x).
        bitrate: bits per second, for systems that write a bit stream.
        n_parameters: all parameters of the network.
        n_steps: denoising steps at decoding; None when the system has none.
        source: where code and weights come from.
        license: license of the weights (or of the codec).
        weights_digest: sha256 of the weights; None for systems without weights.
        training_datasets: data that the weights were trained on, for contamination flags.
        version: raised by hand when the adapter's own processing changes.
        options: anything else that changes the output.
    """

    name: str
    sample_rate: int | None
    channels: str
    latent_rate: float | None = None
    latent_dim: int | None = None
    compression_ratio: float | None = None
    bitrate: float | None = None
    n_parameters: int | None = None
    n_steps: int | None = None
    source: str = ""
    license: str = ""
    weights_digest: str | None = None
    training_datasets: tuple[str, ...] = ()
    version: str = "1"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.channels not in CHANNEL_POLICIES:
            raise ValueError(f"channels must be one of {CHANNEL_POLICIES}, got {self.channels!r}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready copy."""
        return asdict(self)


@runtime_checkable
class Autoencoder(Protocol):
    """A system under test.

    Audio is float32 `(channels, samples)` in [-1, 1] at the caller's rate; the adapter resamples, folds
    channels and pads, and `reconstruct` returns exactly the shape and rate it was given. Optional:
    `features(audio, sample_rate) -> (dim, frames)`, the representation Table 1 probes.
    """

    @property
    def spec(self) -> AutoencoderSpec: ...

    def encode(self, audio: np.ndarray, sample_rate: int) -> Any:
        """Latents (or a byte stream) of `(channels, samples)` audio."""
        ...

    def decode(
        self, latents: Any, *, length: int, sample_rate: int, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Audio `(channels, length)` at `sample_rate`."""
        ...

    def reconstruct(
        self, audio: np.ndarray, sample_rate: int, *, seed: int = 0, n_steps: int | None = None
    ) -> np.ndarray:
        """Encode and decode: audio of exactly the input's shape, at the input's rate.

        Raises:
            ValueError: the clip cannot be processed (too short, unsupported number of channels, ...); the
                message is the reason the tables report.
        """
        ...
