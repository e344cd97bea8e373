"""The model that a command works with, found by the name the user gave."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from m2l.cli.errors import MissingError, UsageError, message_of

if TYPE_CHECKING:
    import torch

    from m2l.model import Music2Latent

#: Prefix of names of untrained models: only these are ever random.
RANDOM = "random:"
#: Suffixes of checkpoints in the published format.
PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def portable_name(checkpoint: str) -> str:
    """The name as it is kept in files: paths made absolute, everything else as it is."""
    if not checkpoint.startswith(RANDOM) and os.path.exists(os.path.expanduser(checkpoint)):
        return os.path.abspath(os.path.expanduser(checkpoint))
    return checkpoint


def check_device(device: str | None) -> torch.device:
    """The device of `--device`.

    Raises:
        UsageError: if it does not exist here.
    """
    from m2l.model import default_device

    try:
        return default_device(device)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error


def load_model(
    checkpoint: str, device: str | None = None, dtype: str = "float32"
) -> tuple[Music2Latent, str]:
    """The model and its digest.

    The digest is taken before the weights are rounded to `dtype`: latents made in bfloat16 belong to the same
    checkpoint as those made in float32.

    Raises:
        UsageError: for an unknown preset, seed or device.
        MissingError: for weights that are not here, damaged, or unsafe.
    """
    from m2l.config import ConfigError
    from m2l.io.checkpoints import WeightsNotFoundError
    from m2l.io.published import CheckpointError
    from m2l.model import Music2Latent, torch_dtype

    target = check_device(device)
    try:
        if checkpoint.startswith(RANDOM):
            preset, _, seed = checkpoint.removeprefix(RANDOM).partition(":")
            model = Music2Latent.from_config(preset, seed=_whole(seed or "0", checkpoint))
        else:
            model = Music2Latent.from_pretrained(checkpoint, device="cpu")
    except ConfigError as error:
        raise UsageError(error) from error
    except (WeightsNotFoundError, CheckpointError, OSError) as error:
        raise MissingError(message_of(error)) from error
    digest = model.digest()
    return model.to(device=target, dtype=torch_dtype(dtype)).eval().requires_grad_(False), digest


def _whole(text: str, checkpoint: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) < 2**63):
        raise UsageError(
            f"{checkpoint!r}: the seed after the last colon must be 0 … 2^63 - 1, not {text[:40]!r}"
        )
    return int(text)
