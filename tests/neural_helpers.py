"""Neural adapters for tests: their names, their classes where the library is installed, and a clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.autoencoders import AUTOENCODERS
from benchmarks.autoencoders.neural import NeuralAutoencoder, require

#: Every adapter built on `NeuralAutoencoder`.
NEURAL = [
    "ace-step-vae",
    "codicodec",
    "dac-44khz",
    "ear-vae",
    "encodec-48khz",
    "kvae-audio",
    "mimi",
    "mousai-v2",
    "mousai-v3",
    "musika",
    "same-l",
    "same-s",
    "snac-44khz",
    "stable-audio-vae",
    "xcodec2",
]


def adapter(name: str) -> type[NeuralAutoencoder]:
    """The class behind a name; skips where its library is not installed."""
    cls = AUTOENCODERS.load(name)
    if cls.library is not None:
        try:
            require(*cls.library, for_name=name)
        except ImportError as error:
            pytest.skip(str(error))
    return cls  # type: ignore[no-any-return]


def clip(channels: int, samples: int, rate: int, seed: int = 0) -> np.ndarray:
    """A chord and a little noise, different per channel."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    tones = [sum(np.sin(2 * np.pi * f * (c + 1) * time) for f in (110, 275, 440)) for c in range(channels)]
    return (0.1 * np.array(tones) + 0.01 * rng.standard_normal((channels, samples))).astype(np.float32)


def perturbed(model: Any, seed: int = 3) -> Any:
    """Random additions to every parameter: fresh networks have branches that start at zero and hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model
