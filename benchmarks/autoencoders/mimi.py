"""Mimi (Défossez et al. 2024), Kyutai's speech codec at 24 kHz: what a speech model does to music.

The network is transformers' `MimiModel`; weights of `kyutai/mimi`.

What to know about its numbers:

- 24 kHz: nothing above 12 kHz survives the resampling, and metrics at the clip's own rate see that.
- Mono: the channels of a clip are coded one by one.
- All 32 codebooks are used (4.4 kbit/s); the speech model it was made for uses 8 (1.1 kbit/s): `mimi-8q`.
- Causal throughout; the attention of encoder and decoder reaches back 250 frames (10 s).
- It was trained on speech; nothing clips.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, checked_codebooks, inputs_of
from benchmarks.weights.loading import load_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Mimi(NeuralAutoencoder):
    """Mimi; the arguments are those of `NeuralAutoencoder`.

    Args:
        n_codebooks: 2 to 32; the first one is semantic.

    Raises:
        ValueError: another number of codebooks.
    """

    name = "mimi"
    sample_rate = 24000
    latent_rate = 12.5
    latent_dim = 512
    bitrate = 32 * 11 * 12.5
    n_parameters = 79_308_609
    multiple = 1920

    def __init__(self, *args: Any, n_codebooks: int = 32, **kwargs: Any) -> None:
        self.n_codebooks = checked_codebooks(self.name, n_codebooks, 2, 32)
        self.bitrate = n_codebooks * 11 * self.latent_rate
        super().__init__(*args, **kwargs)

    def _extra_options(self) -> dict[str, Any]:
        return {"n_codebooks": self.n_codebooks}

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        sizes: dict[str, Any] = {
            "hidden_size": 512,
            "num_filters": 64,
            "codebook_size": 2048,
            "codebook_dim": 256,
            "vector_quantization_hidden_dimension": 256,
            "upsample_groups": 512,
            "num_hidden_layers": 8,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
        }
        if tiny:
            sizes = {
                "hidden_size": 16,
                "num_filters": 4,
                "codebook_size": 16,
                "codebook_dim": 8,
                "vector_quantization_hidden_dimension": 8,
                "upsample_groups": 16,
                "num_hidden_layers": 1,
                "intermediate_size": 32,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
            }
        return sizes | {
            "sampling_rate": 24000,
            "audio_channels": 1,
            "num_quantizers": 32,
            "sliding_window": 250,
            "upsampling_ratios": [8, 6, 5, 4],
        }

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from transformers import MimiConfig, MimiModel

        return MimiModel(MimiConfig(**config))

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        return load_safetensors(cls.build(config), path, config)

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"codes": model.encode(audio, num_quantizers=self.n_codebooks).audio_codes}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(latents["codes"]).audio_values
        return audio

    def _features(self, audio: Tensor) -> Tensor:
        """Output of the encoder's transformer (512, 25 Hz): input of the convolution that gives the latents."""
        model: Any = self.model
        return inputs_of(model.downsample, lambda: self._encode(audio))[0]

    def _bits(self, latents: dict[str, Tensor]) -> float:
        return latents["codes"].numel() * math.log2(self.settings["codebook_size"])
