"""CLMR (Spijkervet and Burgoyne 2021): SampleCNN on raw audio, 512-d, self-supervised on MagnaTagATune.

(B, 1, 59049) -> conv of stride 3 -> nine times [conv, maximum over 3] -> conv -> (B, 512)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.weights.find import find_weight, weight_digest
from benchmarks.weights.loading import read_released
from m2l.io.torch_files import CheckpointError
from probes.representations.base import FEATURES, RepresentationSpec, mono_at, windows_of

SAMPLE_RATE = 22050
#: 3 ** 10 samples (2.68 s): the network reduces exactly this to one frame.
WINDOW = 59049
WIDTHS = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
CHECKPOINT = "clmr_checkpoint_10000.pt"


class SampleCNN(nn.Module):
    """The encoder; `fc` belongs to the published checkpoint's layout and is not used.

    Args:
        n_outputs: of `fc`.
    """

    def __init__(self, n_outputs: int = 50) -> None:
        super().__init__()
        blocks = [_block(1, 128, stride=3, padding=0)]
        for n_in, n_out in itertools.pairwise(WIDTHS):
            blocks.append(nn.Sequential(*_block(n_in, n_out), nn.MaxPool1d(3, 3)))
        blocks.append(_block(512, 512))
        self.sequential = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, n_outputs)

    def forward(self, windows: Tensor) -> Tensor:
        """(B, 59049) -> (B, 512), the output of the last block."""
        if windows.shape[-1] != WINDOW:
            raise ValueError(f"windows must have {WINDOW} samples, got {windows.shape[-1]}")
        output: Tensor = self.sequential(windows[:, None])
        return output.flatten(1)


def _block(n_in: int, n_out: int, stride: int = 1, padding: int = 1) -> nn.Sequential:
    convolution = nn.Conv1d(n_in, n_out, 3, stride=stride, padding=padding)
    return nn.Sequential(convolution, nn.BatchNorm1d(n_out), nn.ReLU())


def encoder_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """SampleCNN's entries of a CLMR checkpoint (plain or from Lightning), without prefix and without `fc`.

    Raises:
        CheckpointError: the checkpoint has no encoder.
    """
    if isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        for prefix in ("model.encoder.", "encoder."):
            if key.startswith(prefix):
                found[key.removeprefix(prefix)] = value
                break
    if not found:
        raise CheckpointError(f"no key begins with 'encoder.' (keys: {', '.join(list(state)[:4])}, …)")
    return {key: value for key, value in found.items() if not key.startswith("fc.")}


def load_clmr(path: str | Path) -> SampleCNN:
    """The network with the weights of a `.pt` checkpoint, or of the release's zip.

    Raises:
        CheckpointError: damaged, or entries are missing, unknown, or of other shapes; the message names them.
    """
    path = Path(path)
    state = encoder_state(read_released(path, CHECKPOINT))
    model = SampleCNN()
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {error}") from None
    missing = [key for key in result.missing_keys if not key.startswith("fc.")]
    if missing or result.unexpected_keys:
        raise CheckpointError(f"{path}: missing {missing[:4]}, unexpected {result.unexpected_keys[:4]}")
    return model.eval().requires_grad_(False)


class CLMR:
    """512-d per window of 2.68 s; windows do not overlap, the last one is padded with zeros (as mir_ref).

    Args:
        weights: path of the checkpoint instead of the look-up.
        device: torch device.

    Raises:
        WeightsNotFoundError: weights missing; says how to get them.
    """

    batch_size = 16

    def __init__(self, weights: str | None = None, device: str = "cpu") -> None:
        self._path, self._device = find_weight("clmr", weights), device
        self.spec = RepresentationSpec(
            name="clmr",
            sample_rate=SAMPLE_RATE,
            training_datasets=("magnatagatune",),
            weights=weight_digest("clmr", weights),
            license="Apache-2.0",
            source="github Spijkervet/CLMR 2.0",
            options={"window": WINDOW, "hop": WINDOW},
        )

    @cached_property
    def model(self) -> SampleCNN:
        """The network, loaded at first use."""
        with torch.inference_mode(False):  # it is kept, and others may want gradients through it
            return load_clmr(self._path).to(self._device)

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`."""
        windows = torch.from_numpy(windows_of(mono_at(audio, sample_rate, SAMPLE_RATE), WINDOW, WINDOW).copy())
        with torch.inference_mode():
            parts = [self.model(part.to(self._device)).cpu() for part in windows.split(self.batch_size)]
        return {FEATURES: torch.cat(parts).numpy()}
