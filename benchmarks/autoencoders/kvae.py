"""KVAE-Audio (Kandinsky Lab 2026): a convolutional VAE at 48 kHz mono, 64 latents at 50 Hz.

The network is diffusers' `AutoencoderKLKVAEAudio`; weights of `kandinskylab/KVAE-Audio`, folder `diffusers`.

What to know about its numbers:

- Mono: the channels of a clip are coded one by one.
- The encoder gives a Gaussian per latent; its mean is decoded, not a sample.
- Attention over all frames sits at the encoder's end, so latents depend on the clip as a whole; clips over a
  minute run in windows.
- Clips are padded with zeros to a multiple of 960; the decoder ends in tanh, so nothing exceeds ±1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.diffusers_vae import DiffusersVae

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class KvaeAudio(DiffusersVae):
    """KVAE-Audio; the arguments are those of `NeuralAutoencoder`."""

    name = "kvae-audio"
    sample_rate = 48000
    latent_rate = 50.0
    latent_dim = 64
    compression_ratio = 15.0
    n_parameters = 166_871_218
    multiple = 960

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        config: dict[str, Any] = {
            "encoder_dim": 64,
            "encoder_rates": [2, 3, 4, 5, 8],
            "latent_dim": 2048,
            "codebook_dim": 64,
            "decoder_dim": 1536,
            "decoder_rates": [8, 5, 4, 3, 2],
            "sample_rate": 48000,
            "num_channels": 1,
            "attn_num_heads": 8,
        }
        if tiny:
            config |= {"encoder_dim": 2, "latent_dim": 16, "codebook_dim": 4, "decoder_dim": 64}
            config |= {"attn_num_heads": 2}
        return config

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from diffusers import AutoencoderKLKVAEAudio

        return AutoencoderKLKVAEAudio(**config)  # type: ignore[no-any-return]

    def _features(self, audio: Tensor) -> Tensor:
        """Output of the convolutional encoder (2,048), before attention and the projection to the latents."""
        model: Any = self.model
        output: Tensor = model.encoder(audio)
        return output
