"""Variational autoencoders that run on diffusers: Stable Audio Open's, ACE-Step's and KVAE-Audio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import load_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DiffusersVae(NeuralAutoencoder):
    """Loading a diffusers autoencoder, and decoding the mean of each latent."""

    library = ("diffusers", "0.42", "'diffusers>=0.42'")

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        return load_safetensors(cls.build(config), path, config)

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"z": model.encode(audio).latent_dist.mode()}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(latents["z"]).sample
        return audio


class StableAudioVae(DiffusersVae):
    """The variational autoencoder of Stable Audio Open 1.0 (Evans et al. 2024), 44.1 kHz stereo.

    The network is diffusers' `AutoencoderOobleck`; weights of `stabilityai/stable-audio-open-1.0`, folder `vae`: gated,
    Stability AI Community License.

    What to know about its numbers:

    - The encoder gives a Gaussian per latent. Upstream samples from it; here its mean is decoded, which is
      deterministic and what reconstruction figures of such models usually are.
    - Stereo only: a mono clip is given twice and the two outputs are averaged.
    - Clips are padded with zeros to a multiple of 2,048. Nothing clips, and nothing normalizes loudness.

    The arguments are those of `NeuralAutoencoder`.
    """

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


class AceStepVae(StableAudioVae):
    """The variational autoencoder of ACE-Step 1.5 (Gong et al. 2026), 48 kHz stereo, 64 latents at 25 Hz.

    Stable Audio Open's network with other strides; weights of `ACE-Step/Ace-Step1.5`, folder `vae`, stored as bfloat16.

    What to know about its numbers, beside what holds for `StableAudioVae`:

    - It is computed in float32; ACE-Step's own pipeline computes in bfloat16 on a GPU.
    - Clips are padded with zeros to a multiple of 1,920.

    The arguments are those of `NeuralAutoencoder`.
    """

    name = "ace-step-vae"
    sample_rate = 48000
    latent_rate = 25.0
    compression_ratio = 60.0
    n_parameters = 168_695_426
    multiple = 1920

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        return super().config(tiny) | {"downsampling_ratios": [2, 4, 4, 6, 10], "sampling_rate": 48000}

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        return load_safetensors(cls.build(config).bfloat16(), path, config).float()


class KvaeAudio(DiffusersVae):
    """KVAE-Audio (Kandinsky Lab 2026): a convolutional VAE at 48 kHz mono, 64 latents at 50 Hz.

    The network is diffusers' `AutoencoderKLKVAEAudio`; weights of `kandinskylab/KVAE-Audio`, folder `diffusers`.

    What to know about its numbers:

    - Mono: the channels of a clip are coded one by one.
    - The encoder gives a Gaussian per latent; its mean is decoded, not a sample.
    - Attention over all frames sits at the encoder's end, so latents depend on the clip as a whole; clips over a
      minute run in windows.
    - Clips are padded with zeros to a multiple of 960; the decoder ends in tanh, so nothing exceeds ±1.

    The arguments are those of `NeuralAutoencoder`.
    """

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
