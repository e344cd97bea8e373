"""What the variational autoencoders that run on diffusers share: loading, and decoding the mean of each latent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DiffusersVae(NeuralAutoencoder):
    """A system whose network is a diffusers autoencoder; the arguments are those of `NeuralAutoencoder`."""

    library = ("diffusers", "0.42", "'diffusers>=0.42'")

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.weights.strict import load_safetensors

        return load_safetensors(cls.build(config), path, config)

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"z": model.encode(audio).latent_dist.mode()}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(latents["z"]).sample
        return audio
