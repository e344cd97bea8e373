"""DAC (Kumar et al. 2023) at 44.1 kHz; with all nine codebooks the discrete codec of Table 2 ("8 kbit/s").

The network is transformers' `DacModel`; weights of `descript/dac_44khz` (MIT).

What to know about its numbers:

- Mono: the channels of a clip are coded one by one, so a stereo clip costs twice the rate.
- 9 codebooks of 10 bits at 86.13 Hz are 7.75 kbit/s, which is called 8. The first few of them are a codec too, as it
  was trained with codebooks left out: `dac-44khz-3q` has three (2.58 kbit/s).
- The `dac` command and `compress()` normalize every clip to -16 dB before coding; `encode()` does not, and
  neither does this adapter: loudness stays what it was.
- Clips are padded with zeros to a multiple of the hop (512); the decoder ends in tanh, so nothing exceeds ±1.
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


class Dac(NeuralAutoencoder):
    """DAC; the arguments are those of `NeuralAutoencoder`.

    Args:
        n_codebooks: 1 to 9, the coarsest first.

    Raises:
        ValueError: another number of codebooks.
    """

    name = "dac-44khz"
    sample_rate = 44100
    latent_rate = 44100 / 512
    latent_dim = 9
    bitrate = 9 * 10 * 44100 / 512
    n_parameters = 76_620_777
    multiple = 512

    def __init__(self, *args: Any, n_codebooks: int = 9, **kwargs: Any) -> None:
        self.n_codebooks = self.latent_dim = checked_codebooks(self.name, n_codebooks, 1, 9)
        self.bitrate = n_codebooks * 10 * self.latent_rate
        super().__init__(*args, **kwargs)

    def _extra_options(self) -> dict[str, Any]:
        return {"n_codebooks": self.n_codebooks}

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        sizes: dict[str, Any] = {
            "encoder_hidden_size": 64,
            "decoder_hidden_size": 1536,
            "downsampling_ratios": [2, 4, 8, 8],
            "n_codebooks": 9,
            "codebook_size": 1024,
            "codebook_dim": 8,
        }
        if tiny:
            sizes |= {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "codebook_size": 16}
        return sizes | {"sampling_rate": 44100}

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from transformers import DacConfig, DacModel

        return DacModel(DacConfig(**config))

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        return load_safetensors(cls.build(config), path, config)

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"codes": model.encode(audio, n_quantizers=self.n_codebooks).audio_codes}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(audio_codes=latents["codes"]).audio_values
        return audio[:, None]

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last convolution (1,024)."""
        model: Any = self.model
        return inputs_of(model.encoder.conv2, lambda: model.encoder(audio))[0]

    def _bits(self, latents: dict[str, Tensor]) -> float:
        return latents["codes"].numel() * math.log2(self.settings["codebook_size"])
