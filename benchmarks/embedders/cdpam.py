"""CDPAM (Manocha et al. 2021): an encoder of audio at 22.05 kHz, and a learned distance of its acoustic half.

Sixteen convolutions, the rate halved after every fourth, and their mean over time: 512 numbers about the acoustics and
512 about the content. The distance sums weighted absolute differences after each of four small layers.

The network takes samples in 16-bit units, rounded, as the authors' `load_audio` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.embedders.torch_embedder import TorchEmbedder
from benchmarks.weights.loading import check_state, read_old_pickle

SAMPLE_RATE = 22_050
_LAYERS, _EVERY, _WIDTH, _KERNEL = 16, 4, 64, 15
#: Numbers in each half of an embedding.
HALF = 512


class Encoder(nn.Module):
    """(n, samples) in 16-bit units -> acoustic and content embeddings, (n, 512) each; names as in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.ebatch = nn.ModuleList(), nn.ModuleList()
        inputs, outputs = 1, _WIDTH
        for layer in range(1, _LAYERS + 1):
            outputs = outputs * 2 if layer % _EVERY == 0 else outputs
            # The authors compute every sample and keep every second: a stride is the same.
            stride = 2 if layer % _EVERY == 0 else 1
            self.encoder.append(nn.Conv1d(inputs, outputs, _KERNEL, stride, _KERNEL // 2))
            self.ebatch.append(nn.BatchNorm1d(outputs))
            inputs = outputs

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, samples) -> (n, 512), (n, 512)."""
        x = audio[:, None]
        for conv, norm in zip(self.encoder, self.ebatch, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.1, inplace=True)
        acoustic, content = x.mean(dim=2).split(HALF, dim=1)
        return acoustic, content


class _Distance(nn.Module):
    """Distance of two acoustic embeddings of unit length, (n, 512) each -> (n,)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (HALF, 256, 64, 16, 4)
        linear = [nn.Linear(a, b) for a, b in pairwise(widths)]
        layers = [nn.Sequential(layer, nn.LeakyReLU()) for layer in linear[:-1]]
        self.convs = nn.ModuleList([*layers, nn.Sequential(linear[-1])])
        self.chan_w = nn.ParameterList([nn.Parameter(torch.ones(width)) for width in widths[1:]])

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        total = first.new_zeros(len(first))
        for layer, weight in zip(self.convs, self.chan_w, strict=True):
            first, second = layer(first), layer(second)
            total = total + ((second - first) * weight).abs().sum(dim=1)
        return total


class Cdpam(nn.Module):
    """Encoder and distance."""

    def __init__(self) -> None:
        super().__init__()
        self.base_encoder, self.model_dist = Encoder(), _Distance()

    def embed(self, audio: torch.Tensor) -> torch.Tensor:
        """(n, samples) in 16-bit units -> acoustic embeddings of unit length, (n, 512)."""
        return F.normalize(self.base_encoder(audio)[0], dim=1)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Distance of the recordings, (n, samples) each -> (n,)."""
        return self.model_dist(self.embed(first), self.embed(second))


@lru_cache(maxsize=1)
def load_cdpam(path: Path) -> Cdpam:
    """The network with the weights of `find_weight("cdpam")`.

    Raises:
        CheckpointError: the file is not CDPAM's.
    """
    record = read_old_pickle(path)
    state = {k: v for k, v in record["state"].items() if not k.startswith("model_classif.")}
    with torch.inference_mode(False):
        model = Cdpam()
        check_state(state, {key: tuple(value.shape) for key, value in model.state_dict().items()}, str(path))
        model.load_state_dict(state)
        return model.eval().requires_grad_(False)


def sixteen_bit(audio: torch.Tensor) -> torch.Tensor:
    """Samples in -1 to 1 -> rounded 16-bit units, as floats."""
    return torch.round(audio * 32768)


@torch.inference_mode()
def distance(path: Path, first: np.ndarray, second: np.ndarray) -> float:
    """Distance of two recordings at 22.05 kHz, (samples,) each, with the weights at `path`."""
    pair = [sixteen_bit(torch.from_numpy(np.ascontiguousarray(audio, np.float32)))[None] for audio in (first, second)]
    return float(load_cdpam(path)(*pair))


class CdpamEmbedder(TorchEmbedder):
    """One 512-d acoustic embedding of unit length per second, as fadtk's `cdpam-acoustic`; the rest counts as one."""

    def _load(self) -> nn.Module:
        return load_cdpam(self.path)

    def embed_batch(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each clip by itself, since its last window is as long as what is left."""
        return [self._embed_windows(self._checked_windows(clip)) for clip in clips]

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        return sixteen_bit(audio)[None]

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.model.embed(window) for window in windows.split(SAMPLE_RATE, dim=1)])  # type: ignore[operator]
