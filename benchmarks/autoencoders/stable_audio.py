"""The variational autoencoder of Stable Audio Open 1.0 (Evans et al. 2024), 44.1 kHz stereo.

The network is diffusers' `AutoencoderOobleck`; weights of `stabilityai/stable-audio-open-1.0`, folder `vae`: gated,
Stability AI Community License.

What to know about its numbers:

- The encoder gives a Gaussian per latent. Upstream samples from it; here its mean is decoded, which is
  deterministic and what reconstruction figures of such models usually are.
- Stereo only: a mono clip is given twice and the two outputs are averaged.
- Clips are padded with zeros to a multiple of 2,048. Nothing clips, and nothing normalizes loudness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.diffusers_vae import DiffusersVae
from benchmarks.autoencoders.neural import inputs_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class StableAudioVae(DiffusersVae):
    """Stable Audio Open's VAE; the arguments are those of `NeuralAutoencoder`."""

    name = "stable-audio-vae"
    sample_rate = 44100
    channels = "stereo"
    latent_rate = 44100 / 2048
    latent_dim = 64
    compression_ratio = 64.0
    n_parameters = 156_112_514
    multiple = 2048

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        config: dict[str, Any] = {
            "encoder_hidden_size": 128,
            "downsampling_ratios": [2, 4, 4, 8, 8],
            "channel_multiples": [1, 2, 4, 8, 16],
            "decoder_channels": 128,
            "decoder_input_channels": 64,
            "audio_channels": 2,
            "sampling_rate": 44100,
        }
        if tiny:
            config |= {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4}
            config |= {"channel_multiples": [1, 1, 1, 2, 2]}
        return config

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from diffusers import AutoencoderOobleck

        return AutoencoderOobleck(**config)  # type: ignore[no-any-return]

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last convolution (2,048)."""
        model: Any = self.model
        return inputs_of(model.encoder.conv2, lambda: model.encoder(audio))[0]
