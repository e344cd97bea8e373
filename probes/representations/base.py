"""What a representation is: audio in, one vector per frame out, and a record of what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from m2l.audio import resample, to_mono

#: Name of the only output of representations that have one.
FEATURES = "features"


@dataclass(frozen=True)
class RepresentationSpec:
    """Everything that decides the vectors; JSON-ready, and part of content keys.

    Attributes:
        name: registry name.
        sample_rate: rate in Hz audio is resampled to; None takes any rate.
        outputs: names of the vectors it gives per frame, the first one being the default.
        training_datasets: data sets the weights have seen, for contamination flags.
        weights: sha256 of the weights; None without weights.
        license: of the weights.
        source: where code and weights come from.
        version: raised when the adapter's own processing changes.
        options: window, hop, layers, and whatever else changes the vectors.
    """

    name: str
    sample_rate: int | None
    outputs: tuple[str, ...] = (FEATURES,)
    training_datasets: tuple[str, ...] = ()
    weights: str | None = None
    license: str = ""
    source: str = ""
    version: str = "1"
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready copy."""
        return asdict(self)


@runtime_checkable
class Representation(Protocol):
    """Frame-wise vectors of a clip. The runner averages them over time."""

    @property
    def spec(self) -> RepresentationSpec: ...

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """Vectors of one clip.

        Args:
            audio: float32 (channels, samples) in [-1, 1].
            sample_rate: its rate in Hz.

        Returns:
            Output name -> (n_frames, dim) float32, n_frames >= 1: time first, unlike latents, which are (dim, frames).
            `dim` must not depend on the length of the audio.

        Raises:
            ValueError: the clip cannot be processed; the message is reported with the cell.
        """
        ...


def mono_at(audio: np.ndarray, sample_rate: int, target_rate: int) -> np.ndarray:
    """(samples,) float32: channels averaged, then resampled (soxr HQ)."""
    return np.ascontiguousarray(resample(to_mono(audio), sample_rate, target_rate, exact=False)[0], dtype=np.float32)


def windows_of(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(n, size) windows of (samples,) audio, the last one padded with zeros."""
    n = max(1, -(-(len(audio) - size) // hop) + 1)
    padded = np.pad(audio, (0, max(0, (n - 1) * hop + size - len(audio))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:n]
