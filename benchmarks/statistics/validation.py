"""Fréchet distances for the log of a training run: an entry point of group `m2l.validation`."""

from __future__ import annotations

import numpy as np

from benchmarks.embedders import create_embedder, embedder_status
from benchmarks.metrics.frechet import frechet_distance
from benchmarks.metrics.moments import Moments
from m2l.audio import resample


def frechet_distances(
    originals: list[np.ndarray], reconstructions: list[np.ndarray], sample_rate: int
) -> dict[str, float]:
    """FAD of mono clips (samples,) with each embedder whose weights are available: `{"fad:NAME": distance}`.

    Few clips make it a trend, not a figure: too few windows for an unbiased covariance.
    """
    found: dict[str, float] = {}
    for name in ("vggish", "musicnn-msd@3s"):
        if not embedder_status(name).available:
            continue
        embedder = create_embedder(name)
        sides = []
        for clips in (originals, reconstructions):
            audio = [resample(clip[None], sample_rate, embedder.sample_rate)[0] for clip in clips]
            sides.append(Moments.from_embeddings(np.concatenate([embedder.embed(clip) for clip in audio])))
        found[f"fad:{name}"] = float(frechet_distance(*sides))
    return found
