"""State dicts in a published format, with weights that follow from the parameters' names alone.

Big matrices are windows that slide over a short random buffer, so that a checkpoint of 72 M parameters is
written, read and compared in milliseconds; every row and column still differs from the next.
"""

from __future__ import annotations

import json
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
#: Stride of each axis in the buffer, last axis first.
_STRIDES = (1, 7, 31, 101)


def published_listing() -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes as read from the original implementations: HTSAT-tiny, HTSAT-base, VGGish."""
    listing = json.loads((GOLDEN / "embedding_state_dicts.json").read_text())
    return {model: {key: tuple(shape) for key, shape in keys.items()} for model, keys in listing.items()}


def synthetic_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """float32 of `shape`, of the size that keeps activations at order 1."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    strides = tuple(reversed(_STRIDES[: len(shape)]))
    length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    draw = generator.standard_normal(length).astype(np.float32)
    if name.endswith(("running_var", "moving_variance")):
        buffer = 1.0 + 0.2 * np.abs(draw)
    elif len(shape) > 1:
        buffer = draw * np.float32(np.prod(shape[1:]) ** -0.5)
    elif "norm" in name and name.endswith("weight"):
        buffer = 1.0 + 0.1 * draw
    else:
        buffer = 0.1 * draw
    return torch.as_strided(torch.from_numpy(buffer.astype(np.float32)), shape, strides)


def relative_position_index(window: int = 8) -> torch.Tensor:
    """Swin's numbering of the offsets between two positions of a window (Liu et al. 2021)."""
    rows, columns = np.divmod(np.arange(window * window), window)
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return torch.from_numpy(down * (2 * window - 1) + right)


@lru_cache(maxsize=1)
def clap_state(tower: str) -> dict[str, torch.Tensor]:
    """Audio tower and projection of a LAION checkpoint with synthetic weights."""
    from world.published_weights import attention_mask, stft_kernels

    from benchmarks.embedders.clap import clap_mel_matrix

    state = {}
    for name, shape in published_listing()[tower].items():
        if name.endswith("relative_position_index"):
            state[name] = relative_position_index()
        elif name.endswith("melW"):
            state[name] = torch.from_numpy(clap_mel_matrix())
        elif ".stft.conv_" in name:
            state[name] = stft_kernels(imaginary="conv_imag" in name)
        elif name.endswith("attn_mask"):
            state[name] = attention_mask(shape[0])
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("bn0.running_mean"):
            state[name] = torch.full(shape, -30.0)
        elif name.endswith("bn0.running_var"):
            state[name] = torch.full(shape, 150.0)
        else:
            state[name] = synthetic_weight(name, shape)
    return state


def write_clap(path: Path, tower: str, **changes: torch.Tensor | None) -> Path:
    """A file as LAION's training writes it: `module.` prefixes, a text tower, numpy scalars beside the weights.

    `changes` replaces entries (by name without prefix, dots as double underscores); None removes one.
    """
    state = clap_state(tower) | {
        "logit_scale_a": torch.tensor(2.0),
        "logit_scale_t": torch.tensor(2.0),
        "text_branch.embeddings.position_ids": torch.arange(5)[None],
        "text_projection.0.weight": torch.ones(2, 2),
        "text_transform.sequential.0.weight": torch.ones(2, 2),
        "audio_transform.sequential.0.weight": torch.ones(2, 2),
    }
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    content = {
        "epoch": 15,
        "name": "synthetic",
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "best": np.float64(90.14),
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(1e-4), "step": np.int64(3)}]},
    }
    torch.save(content, path)
    return path


def write_vggish(path: Path, pca: bool = False) -> Path:
    """A file as torchvggish's release holds it."""
    listing = published_listing()["VGGish"]
    keys = {name: shape for name, shape in listing.items() if pca or not name.startswith("pproc.")}
    torch.save({name: synthetic_weight(name, shape) for name, shape in keys.items()}, path)
    return path


def notes(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    """Decaying notes over a little noise, (samples,) float32."""
    generator = np.random.Generator(np.random.PCG64(seed))
    time = np.arange(int(rate * seconds)) / rate
    signal = 0.003 * generator.standard_normal(len(time))
    for start in np.arange(0.0, seconds, 0.4):
        pitch = 110.0 * 2 ** generator.uniform(0, 4)
        local = np.clip(time - start, 0, None)
        signal += 0.2 * (time >= start) * np.exp(-4 * local) * np.sin(2 * np.pi * pitch * local)
    return signal.astype(np.float32)
