"""εar-VAE (Wang et al. 2025), the 44.1 kHz stereo model: 64 latents at 43 Hz, trained for phase and stereo image.

Encoder and decoder are Stable Audio's (diffusers' Oobleck classes) with other strides; a small transformer stands
between latents and decoder (`networks.ear_vae`). Weights of `earlab/EAR_VAE`.

What to know about its numbers:

- The encoder gives a Gaussian per latent. The published script samples from it; here its mean is decoded, which is
  deterministic and what reconstruction figures of such models usually are.
- Stereo only: a mono clip is given twice and the two outputs are averaged.
- The transformer attends over all frames of a clip; clips over a minute run in windows.
- Clips are padded with zeros to a multiple of 1,024. Nothing clips, and nothing normalizes loudness.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import check_state, load_strict
from m2l.io.torch_files import read_pickled

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class EarVae(NeuralAutoencoder):
    """εar-VAE; the arguments are those of `NeuralAutoencoder`."""

    name = "ear-vae"
    sample_rate = 44100
    channels = "stereo"
    latent_rate = 44100 / 1024
    latent_dim = 64
    compression_ratio = 32.0
    n_parameters = 147_856_386
    multiple = 1024
    library = ("diffusers", "0.42", "'diffusers>=0.42'")

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        config: dict[str, Any] = {"width": 128, "latent_dim": 64, "multiples": [1, 2, 4, 8, 16]}
        if tiny:
            config = {"width": 8, "latent_dim": 4, "multiples": [1, 1, 1, 2, 2]}
        head = 2 if tiny else 32
        return config | {"strides": [2, 4, 4, 4, 8], "head": head, "rotated": head, "depth": 2}

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.ear_vae import EarVaeNet

        return EarVaeNet(**config)

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.ear_vae import from_published, published_shapes

        model: Any = cls.build(config)
        state = read_pickled(path, any_form=True)
        check_state(state, published_shapes(model), str(path))
        return load_strict(model, from_published(state, model), str(path))

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"z": model.encode(audio)}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(latents["z"])
        return audio

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last convolution (2,048)."""
        model: Any = self.model
        return inputs_of(model.encoder.conv2, lambda: model.encoder(audio))[0]
