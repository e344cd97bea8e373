"""`load`: a model by any name."""

from __future__ import annotations

import os

import torch

from m2l.arrays import default_device, torch_dtype
from m2l.config import RANDOM, ConfigError
from m2l.model import Music2Latent


def load(
    name_or_path: str | os.PathLike[str] = "mini",
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Music2Latent:
    """A model by any name that the option `--checkpoint` of `m2l` takes.

    Args:
        name_or_path: what `Music2Latent.from_pretrained` takes; or "random:PRESET" or "random:PRESET:SEED", which are
            untrained weights.
        revision: see `Music2Latent.from_pretrained`.
        device: see there.
        dtype: see there.

    Raises:
        WeightsNotFoundError, CheckpointError: see there.
        ConfigError: for an unknown preset or a seed outside 0 … 2^63 - 1.
    """
    name = os.fspath(name_or_path)
    if not name.startswith(RANDOM):
        return Music2Latent.from_pretrained(name, revision, device, dtype)
    preset, _, seed = name.removeprefix(RANDOM).partition(":")
    seed = seed or "0"
    if not (seed.isascii() and seed.isdigit() and int(seed[:20]) < 2**63):
        raise ConfigError(f"{name!r}: the seed after the last colon must be 0 … 2^63 - 1, not {seed[:40]!r}")
    model = Music2Latent.from_config(preset, seed=int(seed))
    model.source = name
    return model.to(device=default_device(device), dtype=torch_dtype(dtype))
