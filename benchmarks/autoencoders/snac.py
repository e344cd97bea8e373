"""SNAC (Siuzdak 2024), the 44.1 kHz model: four codebooks that are sampled at four rates, 2.6 kbit/s.

Weights of `hubertsiuzdak/snac_44khz`; the network is ours (`networks.snac`).

What to know about its numbers:

- Mono: the channels of a clip are coded one by one.
- The decoder adds noise, scaled by a learned gain per sample; upstream draws it unseeded. The seed fixes it.
- Encoder and decoder attend within windows of 32 frames (0.28 s), and a clip is padded with zeros to whole windows:
  the bits of the padding count.
- The decoder ends in tanh, so nothing exceeds ±1.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import check_config, load_strict
from m2l.io.torch_files import read_pickled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Samples per frame of the finest codebook; the others take 2, 4 and 8 of these.
HOP = 384


class Snac(NeuralAutoencoder):
    """SNAC; the arguments are those of `NeuralAutoencoder`."""

    name = "snac-44khz"
    sample_rate = 44100
    # 1 + 2 + 4 + 8 codes for each frame of the coarsest codebook.
    latent_rate = 44100 / (8 * HOP)
    latent_dim = 15
    bitrate = 15 * 12 * 44100 / (8 * HOP)
    n_parameters = 54_546_338
    multiple = 32 * HOP

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        sizes: dict[str, Any] = {"encoder_dim": 64, "decoder_dim": 1536, "codebook_size": 4096}
        if tiny:
            sizes = {"encoder_dim": 4, "decoder_dim": 64, "codebook_size": 16}
        return sizes | {
            "encoder_rates": [2, 3, 8, 8],
            "decoder_rates": [8, 8, 3, 2],
            "attn_window_size": 32,
            "codebook_dim": 8,
            "vq_strides": [8, 4, 2, 1],
        }

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.snac import SnacNet

        return SnacNet(**config)

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        file = path / "pytorch_model.bin" if path.is_dir() else path
        beside = file.with_name("config.json")
        if beside.is_file():
            published = config | {"sampling_rate": cls.sample_rate, "noise": True, "depthwise": True}
            check_config(json.loads(beside.read_text(encoding="utf-8")), published, str(beside))
        return load_strict(cls.build(config), read_pickled(file, any_form=True), str(file))

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"codes": model.encode(audio)}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(latents["codes"], generator)
        return audio

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last convolution (1,024)."""
        model: Any = self.model
        return inputs_of(model.encoder.block[-1], lambda: model.encoder(audio))[0]

    def _bits(self, latents: dict[str, Tensor]) -> float:
        return latents["codes"].numel() * math.log2(self.settings["codebook_size"])
