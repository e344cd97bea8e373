"""Reading and writing weights; `m2l.io.checkpoint_files` finds them.

Three forms are read: our own (`model.safetensors` beside `config.json`, or one safetensors file with the config
in its header), and the published one (`music2latent.pt`, see `m2l.io.published`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from m2l.config import Music2LatentConfig, create_config
from m2l.io.atomic import write_atomic
from m2l.io.cache import HUB_FILE
from m2l.io.checkpoint_files import CONFIG_FILE, WEIGHTS_FILE, config_of, opened
from m2l.io.published import describe_keys, key_map, read_published
from m2l.io.torch_files import CheckpointError

_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


@dataclass(frozen=True)
class Checkpoint:
    """Config and weights as read. `names` gives the file's own name of a parameter where it differs from ours."""

    source: str
    config: Music2LatentConfig
    weights: Mapping[str, Tensor]
    names: Mapping[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file or folder, its weights under our names.

    Raises:
        CheckpointError: if it is damaged, incomplete, or of an unknown form.
        OSError: if it cannot be opened.
    """
    if path.is_dir():
        if (path / WEIGHTS_FILE).is_file():
            return read_checkpoint(path / WEIGHTS_FILE)
        if (path / HUB_FILE).is_file():
            return read_checkpoint(path / HUB_FILE)
        raise CheckpointError(f"{path} holds neither {WEIGHTS_FILE} nor {HUB_FILE}")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a pipe or device; a checkpoint is a file or folder")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        config = create_config("paper")
        names = {ours: theirs for theirs, ours in key_map(config).items()}
        return Checkpoint(str(path), config, read_published(path, config), names)
    raise CheckpointError(f"{path} is not a checkpoint: expected .safetensors, or .pt in the published format")


def _read_safetensors(path: Path) -> Checkpoint:
    with opened(path, framework="pt") as file:
        config = config_of(path, file.metadata() or {})
        if config is None:
            raise CheckpointError(f"{path} has no config: neither {CONFIG_FILE} beside it nor one in its header")
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return Checkpoint(str(path), config, weights)


def check_weights(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` naming the keys if one is missing, extra, mis-shaped or not finite."""
    source, weights = checkpoint.source, checkpoint.weights
    missing = [key for key in expected if key not in weights]
    extra = [key for key in weights if key not in expected]
    if missing or extra:
        raise CheckpointError(f"{source} does not fit its config: {describe_keys(missing, extra)}")
    for key, tensor in expected.items():
        name, found = checkpoint.names.get(key, key), weights[key]
        if not isinstance(found, Tensor) or found.dtype not in _FLOATS:
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise CheckpointError(f"{source}: {name!r} holds {kind}, not floating point numbers")
        if found.layout != torch.strided or found.is_meta or found.is_nested:
            raise CheckpointError(f"{source}: {name!r} is no plain tensor ({found.layout}, {found.device})")
        if found.shape != tensor.shape:
            raise CheckpointError(
                f"{source}: {name!r} has shape {tuple(found.shape)}, the config needs {tuple(tensor.shape)}"
            )
        if not bool(found.isfinite().all()):
            raise CheckpointError(f"{source}: {name!r} holds NaN or infinite weights")


def write_checkpoint(folder: Path, config: Music2LatentConfig, weights: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, each beside and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # One entry: several come in random order, and the same weights would not be the same bytes.
    metadata = {"config": config.to_json()}
    # Weights last: a folder with weights is complete.
    write_atomic(folder / CONFIG_FILE, config.to_json().encode())
    write_atomic(folder / WEIGHTS_FILE, save(tensors, metadata=metadata))
