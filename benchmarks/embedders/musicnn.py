"""MusiCNN trained on the Million Song Dataset (Pons and Serra 2019), from the files in its wheel.

(B, 187, 96) -> five musically shaped branches (B, T, 561) -> three residual layers -> (B, T, 753)
-> max and mean over time (B, 1506) -> dense 200 -> 50 tags
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.embedders.frontends import musicnn_log_mel
from benchmarks.embedders.tf_bundle import read_bundle
from benchmarks.embedders.torch_embedder import TorchEmbedder
from benchmarks.weights.loading import check_state

#: Frames of one patch: 3 s at 16 kHz with a hop of 256.
PATCH_FRAMES = 187
N_MELS = 96
N_TAGS = 50


@dataclass(frozen=True)
class MusiCNNOutput:
    """Activations of interest.

    Attributes:
        dense: (B, 200) before ReLU and batch normalization, `model/dense/BiasAdd`: the embedding.
        penultimate: (B, 200) after both; what the original package calls by that name.
        logits: (B, 50); their sigmoid is the tag activations.
        frontend: (B, T, 561) of the five branches.
        pooled: (B, 1506) max and mean over time, interleaved.
    """

    dense: torch.Tensor
    penultimate: torch.Tensor
    logits: torch.Tensor
    frontend: torch.Tensor
    pooled: torch.Tensor


class _ConvReluNorm(nn.Module):
    """Convolution, ReLU, batch normalization, in this order; zero padding along time."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], same: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        length = kernel[0]
        # TensorFlow's SAME: even kernels get one zero more after than before.
        self.padding = ((length - 1) // 2, length // 2) if same else (0, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (0, 0, *self.padding))
        normed: torch.Tensor = self.norm(F.relu(self.conv(padded)))
        return normed


class MusiCNN(nn.Module):
    """The network; `forward` takes log-mel patches (B, T, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_in = nn.BatchNorm2d(1, eps=1e-3)
        # "Timbral" filters see most of the spectrum, "temporal" ones only time.
        self.branches = nn.ModuleList(
            [
                _ConvReluNorm(1, 204, (7, 38)),
                _ConvReluNorm(1, 204, (7, 67)),
                _ConvReluNorm(1, 51, (128, 1)),
                _ConvReluNorm(1, 51, (64, 1)),
                _ConvReluNorm(1, 51, (32, 1)),
            ]
        )
        self.middle = nn.ModuleList(
            [_ConvReluNorm(1, 64, (7, 561)), _ConvReluNorm(1, 64, (7, 64)), _ConvReluNorm(1, 64, (7, 64))]
        )
        self.norm_pooled = nn.BatchNorm1d(1506, eps=1e-3)
        self.dense = nn.Linear(1506, 200)
        self.norm_dense = nn.BatchNorm1d(200, eps=1e-3)
        self.tags = nn.Linear(200, N_TAGS)

    def forward(self, patches: torch.Tensor) -> MusiCNNOutput:
        """(B, T, 96) -> `MusiCNNOutput`."""
        x = self.norm_in(patches[:, None])
        # (B, C, T, F) -> maximum over frequency -> (B, T, C)
        frontend = torch.cat([branch(x).amax(dim=3) for branch in self.branches], dim=1).transpose(1, 2)
        parts = [frontend]
        for index, layer in enumerate(self.middle):
            # Channels play the part of frequency: (B, 1, T, C) -> (B, 64, T, 1) -> (B, T, 64)
            new = layer(parts[-1][:, None]).squeeze(3).transpose(1, 2)
            parts.append(new if index == 0 else new + parts[-1])
        features = torch.cat(parts, dim=2)
        pooled = torch.stack([features.amax(dim=1), features.mean(dim=1)], dim=2).flatten(1)
        dense = self.dense(self.norm_pooled(pooled))
        penultimate = self.norm_dense(F.relu(dense))
        return MusiCNNOutput(dense, penultimate, self.tags(penultimate), frontend, pooled)


def _layers(model: MusiCNN) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
    """Convolutions, batch normalizations and dense layers in the order of TensorFlow's numbering."""
    blocks = [*model.branches, *model.middle]
    norms = [model.norm_in, *(block.norm for block in blocks), model.norm_pooled, model.norm_dense]
    return [block.conv for block in blocks], norms, [model.dense, model.tags]  # type: ignore[misc,list-item]


def torch_state(bundle: dict[str, np.ndarray], model: MusiCNN) -> dict[str, torch.Tensor]:
    """The bundle's variables under this module's names and layouts; optimizer slots are left out.

    Raises:
        CheckpointError: variables missing, unknown, or of other shapes; names them.
    """
    names: dict[str, tuple[str, tuple[int, ...]]] = {}  # TensorFlow name -> (torch name, permutation)
    torch_names = {module: name for name, module in model.named_modules()}
    suffixes = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for kind, modules in zip(("conv2d", "batch_normalization", "dense"), _layers(model), strict=True):
        for index, module in enumerate(modules):
            theirs = kind if index == 0 else f"{kind}_{index}"
            ours = torch_names[module]
            if kind == "batch_normalization":
                names |= {f"{theirs}/{a}": (f"{ours}.{b}", (0,)) for a, b in suffixes.items()}
            else:
                # Kernels: HWIO -> OIHW, and (in, out) -> (out, in).
                order = (3, 2, 0, 1) if kind == "conv2d" else (1, 0)
                names |= {f"{theirs}/kernel": (f"{ours}.weight", order), f"{theirs}/bias": (f"{ours}.bias", (0,))}
    slots = ("/Adam", "/Adam_1")
    wanted = {
        name: torch.from_numpy(value.copy())
        for name, value in bundle.items()
        if not name.endswith(slots) and name not in ("beta1_power", "beta2_power")
    }
    own = model.state_dict()
    expected = {name: _unpermuted(tuple(own[ours].shape), order) for name, (ours, order) in names.items()}
    check_state(wanted, expected, "the MusiCNN checkpoint")
    return {ours: wanted[name].permute(order).contiguous() for name, (ours, order) in names.items()}


def _unpermuted(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """The shape before `permute(order)` gave `shape`."""
    return tuple(size for _, size in sorted(zip(order, shape, strict=True)))


def load_musicnn(folder: Any) -> MusiCNN:
    """The network with the weights of a folder that holds the tensor bundle (`find_weight("musicnn-msd")`).

    Raises:
        BundleError: the files are not a tensor bundle.
        CheckpointError: it is not MusiCNN's.
    """
    model = MusiCNN()
    # Torch's own counters of batches seen have no counterpart; everything else must be in the bundle.
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    model.load_state_dict(torch_state(read_bundle(folder), model) | counters)
    return model.eval().requires_grad_(False)


def patches(log_mel: torch.Tensor, hop_frames: int) -> torch.Tensor:
    """(frames, 96) -> (n, 187, 96), an incomplete last patch dropped; short clips repeat to fill one."""
    if len(log_mel) < PATCH_FRAMES:
        log_mel = log_mel.repeat(-(-PATCH_FRAMES // len(log_mel)), 1)[:PATCH_FRAMES]
    return log_mel.unfold(0, PATCH_FRAMES, hop_frames).transpose(1, 2)


class MusiCNNEmbedder(TorchEmbedder):
    """One 200-d embedding (`dense`) per 3 s patch.

    Args:
        hop_frames: hop between patches in frames of 16 ms: 187 does not overlap, 93 is mir_ref's.
    """

    def __init__(self, name: str, hop_frames: int, **options: Any) -> None:
        super().__init__(name, **options)
        self.hop_frames = hop_frames

    def _load(self) -> nn.Module:
        return load_musicnn(self.path)

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        return patches(musicnn_log_mel()(audio), self.hop_frames)

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        output: MusiCNNOutput = self.model(windows)
        return output.dense
