"""Latent MSE: mean squared difference of the latents that a Music2Latent checkpoint gives two clips.

With the published weights it is gensvs's embedding MSE (Bereuter et al. 2025, WASPAA), which of all metrics tried there
agreed best with listeners about discriminative source separation. `latent_mse:music2latent` are those weights,
`latent_mse:mini` the small model that ships, `latent_mse:PATH` any checkpoint; values of different checkpoints do not
compare. The mono fold at 44.1 kHz is encoded as the published package does, so up to 0.1 s at the end do not count.
gensvs rounds audio to 16 bit and latents to half precision, which moves its values by a few tenths of a percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from benchmarks.metrics.base import Metric, PairMetric, Score
from benchmarks.metrics.defined import undefined
from benchmarks.registry import load_target
from benchmarks.weights.find import find_weight
from m2l.audio import resample, to_mono
from m2l.io.checkpoint_files import find_checkpoint
from m2l.io.digest import file_sha256

#: The name of the published weights.
PUBLISHED = "music2latent"
#: A little more than one latent.
_SHORTEST_SECONDS = 0.15


def checkpoint_path(name: str) -> Path:
    """The file of weights that a name stands for: a shipped checkpoint, the published weights, or a path.

    Raises:
        WeightsNotFoundError: they are not on this machine; says how to get them.
    """
    found = find_weight(PUBLISHED) if name == PUBLISHED else find_checkpoint(name)
    return found / "model.safetensors" if found.is_dir() else found


@lru_cache(maxsize=2)
def _model(path: Path, modified_ns: int) -> Any:
    folder = path.name == "model.safetensors"
    return load_target("m2l.encoder_decoder:EncoderDecoder")(path.parent if folder else path, device="cpu")


def latent_mse(preds: np.ndarray, target: np.ndarray, sample_rate: int, *, checkpoint: str = "mini") -> Score:
    """Mean squared difference of the latents, or NaN and the reason.

    Args:
        preds: output, (channels, samples).
        target: original, the same shape.
        sample_rate: Hz.
        checkpoint: as in the metric's name.
    """
    if reason := undefined(preds, target, samples=math.ceil(_SHORTEST_SECONDS * sample_rate)):
        return math.nan, reason
    path = checkpoint_path(checkpoint)
    model = _model(path, path.stat().st_mtime_ns)
    mono = [resample(to_mono(audio), sample_rate, model.gen.config.sample_rate) for audio in (preds, target)]
    output, original = (model.encode(audio).double() for audio in mono)
    return float((output - original).square().mean()), None


@dataclass(frozen=True, kw_only=True)
class LatentMetric(PairMetric):
    """`latent_mse` of one checkpoint; as declared, of none."""

    checkpoint: str = ""

    __reduce__ = Metric.__reduce__
    needs = "a checkpoint, as in {name}:mini"

    def of(self, checkpoint: str) -> LatentMetric:
        """The metric in the latents of `checkpoint`."""
        label = checkpoint if PurePath(checkpoint).name == checkpoint else PurePath(checkpoint).stem
        return replace(
            self,
            name=f"{self.name}:{label}",
            title=f"{self.title} {label}",
            note=f"{self.note} of checkpoint {label}",
            given=f"{self.name}:{checkpoint}",
            function=partial(latent_mse, checkpoint=checkpoint),
            checkpoint=checkpoint,
        )

    @property
    def weight(self) -> str | None:
        return PUBLISHED if self.checkpoint == PUBLISHED else None

    def identity(self) -> dict[str, Any]:
        return {"weights": file_sha256(checkpoint_path(self.checkpoint))}

    def unavailable(self) -> str | None:
        try:
            checkpoint_path(self.checkpoint)
        except (OSError, ValueError) as error:
            return str(error)
        return None


LATENT_MSE = LatentMetric(
    name="latent_mse",
    title="Latent MSE",
    higher_is_better=False,
    digits=4,
    note="mean squared difference of the Music2Latent latents",
    function=latent_mse,
    modules=("benchmarks.metrics.latent_mse", "m2l.encoder_decoder", "benchmarks.metrics.clip_score"),
    folds=True,
    best=0.0,
    tolerance=1e-4,
    relative_tolerance=0.01,
    elsewhere_tolerance=0.02,
)
