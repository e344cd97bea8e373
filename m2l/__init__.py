"""Music2Latent: a consistency autoencoder for music (ISMIR 2024), re-built from the paper.

    import m2l
    model = m2l.load("mini")                              # a Music2Latent; `model` shows what it is
    latents = model.encode("song.wav")                    # (channels, 64, L), about 11 a second
    latents = model.encode(audio, sample_rate)            # or an array (channels, samples)
    audio = model.decode(latents, length=audio.shape[-1], sample_rate=sample_rate)

`EncoderDecoder` is the interface of the published package. Names are imported on first use, so `import m2l` alone does
not load torch.

A process forked off one that has imported `m2l` computes with one thread: torch's others stay behind in the parent,
and waiting for them would hang. Start workers by "spawn" or "forkserver" to let them use several.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from m2l.config import Music2LatentConfig, create_config, list_configs  # noqa: F401
    from m2l.encoder_decoder import EncoderDecoder
    from m2l.io.checkpoint_files import WeightsNotFoundError, list_checkpoints  # noqa: F401
    from m2l.io.torch_files import CheckpointError  # noqa: F401
    from m2l.loading import load
    from m2l.model import Music2Latent

_HOMES = {
    "CheckpointError": "m2l.io.torch_files",
    "EncoderDecoder": "m2l.encoder_decoder",
    "Music2Latent": "m2l.model",
    "Music2LatentConfig": "m2l.config",
    "WeightsNotFoundError": "m2l.io.checkpoint_files",
    "create_config": "m2l.config",
    "list_checkpoints": "m2l.io.checkpoint_files",
    "list_configs": "m2l.config",
    "load": "m2l.loading",
}

#: What `dir(m2l)` and completion show; configs, listings and errors are imported by name.
__all__ = ["EncoderDecoder", "Music2Latent", "load"]


def _one_thread_after_fork() -> None:
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)  # type: ignore[union-attr]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'm2l' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
