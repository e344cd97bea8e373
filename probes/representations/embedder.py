"""Embedders of `benchmarks.embedders` as representations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from benchmarks.embedders import Embedder, create_embedder, embedder_entry, embedder_spec
from probes.representations.base import FEATURES, RepresentationSpec, mono_at


class EmbedderRepresentation:
    """One vector per window of an embedder.

    Args:
        embedder: registered name.
        name: name of the row; default the embedder's.
        training: data sets its weights have seen.
        license: of its weights.
        device: torch device.
    """

    def __init__(
        self,
        embedder: str,
        name: str | None = None,
        training: tuple[str, ...] = (),
        license: str = "",
        device: str = "cpu",
    ) -> None:
        options = embedder_spec(embedder)
        self._name, self._device = embedder, device
        self.spec = RepresentationSpec(
            name=name or embedder,
            sample_rate=embedder_entry(embedder).sample_rate,
            training_datasets=training,
            weights=options["weights_sha256"],
            license=license,
            source="benchmarks.embedders",
            options=options,
        )

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, made at first use."""
        return create_embedder(self._name, device=self._device)

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`."""
        return {FEATURES: self.embedder.embed(mono_at(audio, sample_rate, self.embedder.sample_rate))}


def musicnn(device: str = "cpu") -> EmbedderRepresentation:
    """MusiCNN-MSD, the 200-d point that mir_ref reads: before ReLU and normalization, patches of 3 s, hop 93."""
    return EmbedderRepresentation("musicnn-msd", training=("msd",), license="ISC", device=device)


def musicnn_mtt(device: str = "cpu") -> EmbedderRepresentation:
    """MusiCNN trained on MagnaTagATune, at the same point: what it scores on that task is contaminated, and flagged."""
    return EmbedderRepresentation(
        "musicnn-mtt", "mtt-musicnn", training=("magnatagatune",), license="ISC", device=device
    )


def vggish(device: str = "cpu") -> EmbedderRepresentation:
    """VGGish, 128-d, 0.96 s windows."""
    return EmbedderRepresentation("vggish", training=("youtube-8m",), license="Apache-2.0", device=device)
