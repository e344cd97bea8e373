"""MERT-v1-95M (Li et al. 2023) through transformers' stock HubertModel, whose layers and names it has.

Table 1 averages transformer layers 9 to 12: `hidden_states[9..12]`, where index 0 is the embedding output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.weights.find import find_weight, weight_digest
from m2l.io.torch_files import CheckpointError, read_pickled
from probes.representations.base import FEATURES, RepresentationSpec, mono_at

if TYPE_CHECKING:
    from transformers import HubertModel

SAMPLE_RATE = 24000
#: Indices into `hidden_states`; index 0 is the output of the convolutional embedding.
LAYERS = (9, 10, 11, 12)
#: The shortest input that gives a frame of 320 samples after the convolutions' receptive field.
SHORTEST = 400


def mert_config() -> Any:
    """HubertConfig of MERT-v1-95M: HuBERT base, 13 hidden states of 768."""
    from transformers import HubertConfig

    return HubertConfig(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        conv_dim=(512,) * 7,
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_kernel=(10, 3, 3, 3, 3, 2, 2),
        num_conv_pos_embeddings=128,
        num_conv_pos_embedding_groups=16,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
    )


def load_mert(folder: str | Path) -> HubertModel:
    """The model with the weights of a folder that holds `pytorch_model.bin`.

    Raises:
        CheckpointError: damaged, or entries are missing, unknown or of other shapes; the message names them.
    """
    from transformers import HubertModel

    path = Path(folder) / "pytorch_model.bin" if Path(folder).is_dir() else Path(folder)
    state = read_pickled(path, any_form=True)
    state = {key.removeprefix("hubert."): value for key, value in state.items()}
    model = HubertModel(mert_config())
    try:
        # torch's parametrization maps the checkpoint's old weight_g / weight_v names while it loads
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not MERT-v1-95M: {str(error)[:400]}") from None
    return model.eval().requires_grad_(False)


def normalizes_input(folder: str | Path) -> bool:
    """Whether the checkpoint's processor scales audio to zero mean and unit variance (default: it does)."""
    path = Path(folder) / "preprocessor_config.json"
    if Path(folder).is_dir() and path.is_file():
        return bool(json.loads(path.read_text()).get("do_normalize", True))
    return True


def layer_mean(hidden_states: Any, layers: tuple[int, ...] = LAYERS) -> torch.Tensor:
    """(T, 768): the mean of `hidden_states[i][0]` over `layers`.

    Raises:
        ValueError: the model gave too few hidden states.
    """
    if hidden_states is None or len(hidden_states) <= max(layers):
        found = 0 if hidden_states is None else len(hidden_states)
        raise ValueError(f"layers {layers} were asked for, the model gave {found} hidden states")
    return torch.stack([hidden_states[i][0] for i in layers]).mean(dim=0)


class MERT:
    """768-d at 75 frames per second, the whole clip in one pass as mir_ref does, or in chunks.

    Args:
        weights: folder of the checkpoint instead of the look-up.
        layers: hidden states to average.
        chunk_seconds: length of independent chunks; None passes the whole clip at once.
        device: torch device.

    Raises:
        WeightsNotFoundError: weights missing; says how to get them.
    """

    def __init__(
        self,
        weights: str | None = None,
        layers: tuple[int, ...] = LAYERS,
        chunk_seconds: float | None = None,
        device: str = "cpu",
    ) -> None:
        self._path, self._device = find_weight("mert-v1-95m", weights), device
        self.layers, self.chunk_seconds = tuple(layers), chunk_seconds
        self.spec = RepresentationSpec(
            name="mert-v1-95m",
            sample_rate=SAMPLE_RATE,
            training_datasets=("mert-160k-hours",),
            weights=weight_digest("mert-v1-95m", weights),
            license="CC BY-NC 4.0",
            source="hub m-a-p/MERT-v1-95M",
            options={"layers": list(self.layers), "chunk_seconds": chunk_seconds},
        )

    @cached_property
    def model(self) -> HubertModel:
        """The network, loaded at first use."""
        with torch.inference_mode(False):  # it is kept, and others may want gradients through it
            model: Any = load_mert(self._path)
            return model.to(self._device)

    def extract(self, audio: np.ndarray, sample_rate: int) -> Mapping[str, np.ndarray]:
        """See `Representation.extract`."""
        mono = mono_at(audio, sample_rate, SAMPLE_RATE)
        if len(mono) < SHORTEST:
            raise ValueError(f"{len(mono)} samples at {SAMPLE_RATE} Hz give no frame (at least {SHORTEST})")
        if normalizes_input(self._path):
            mono = (mono - mono.mean()) / np.sqrt(mono.var() + 1e-7)
        size = len(mono) if self.chunk_seconds is None else round(self.chunk_seconds * SAMPLE_RATE)
        starts = [start for start in range(0, len(mono), size) if len(mono) - start >= SHORTEST]
        parts = []
        with torch.inference_mode():
            for start in starts:
                chunk = torch.from_numpy(mono[start : start + size])[None].to(self._device)
                states = self.model(chunk, output_hidden_states=True).hidden_states
                parts.append(layer_mean(states, self.layers).cpu())
        return {FEATURES: torch.cat(parts).numpy()}
