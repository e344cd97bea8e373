"""SAME-S and SAME-L (Stable Audio 3, 2026): transformer autoencoders at 44.1 kHz stereo, 256 latents at 10.77 Hz.

The networks are diffusers' `AutoencoderSAME`; weights of `stabilityai/SAME-S` and `stabilityai/SAME-L`
(Stability AI Community License), in the form stable-audio-tools writes.

What to know about its numbers:

- diffusers' class is SAME-L. SAME-S attends within pairs of latents, shifted by one latent halfway through, and its
  decoder ends in a convolution of width 3; diffusers (0.42) gives it SAME-L's sliding window and width 1.
  `same_net` puts that right, and the strict loader would refuse the wrong one.
- The published decoders add a little noise (1e-3 of the latents' deviation, and to learned tokens); diffusers leaves
  it out and so do we: decoding is deterministic.
- Stereo only: a mono clip is given twice and the two outputs are averaged.
- Clips are padded with zeros to whole latents (4,096 samples; two latents for SAME-S). Nothing clips, nothing
  normalizes loudness. SAME-L's mask grows with the square of the length: clips over 20 s run in windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.diffusers_vae import DiffusersVae
from benchmarks.autoencoders.neural import inputs_of
from benchmarks.weights.loading import load_strict, read_safetensors, without_values

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class _Same(DiffusersVae):
    """What both sizes share; the arguments are those of `NeuralAutoencoder`."""

    sample_rate = 44100
    channels = "stereo"
    latent_rate = 44100 / 4096
    latent_dim = 256
    compression_ratio = 32.0
    window_seconds = 20.0

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from benchmarks.autoencoders.networks.same import build_same

        return build_same(config)

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        import json

        from benchmarks.autoencoders.networks.same import check_model_config, from_published

        file = path / "model.safetensors" if path.is_dir() else path
        beside = file.with_name("model_config.json")
        if beside.is_file():
            check_model_config(json.loads(beside.read_text(encoding="utf-8")), config, str(beside))
        with without_values():  # the larger one has 3.4 GB of them
            model = cls.build(config)
        return load_strict(model, from_published(read_safetensors(file), model, str(file)), str(file))

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return {"z": model.encode(audio).latents}

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last linear layer (768 or 1,536)."""
        model: Any = self.model
        return inputs_of(model.encoder.proj, lambda: model.encode(audio))[0].transpose(1, 2)


class SameS(_Same):
    """SAME-S: 6 layers of 768, attention within pairs of latents."""

    name = "same-s"
    n_parameters = 108_244_528
    multiple = 8192

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        shape = {"encoder_channels": 4, "latent_dim": 8, "dim_heads": 8} if tiny else {"encoder_channels": 128}
        return {
            "encoder_transformer_depths": [2 if tiny else 6],
            "decoder_sinusoidal_blocks": [0],
            "chunk_latents": 2,
            "decoder_mapping_width": 3,
            **shape,
        }


class SameL(_Same):
    """SAME-L: 12 layers of 1,536, attention to neighboring latents."""

    name = "same-l"
    n_parameters = 852_127_072
    multiple = 4096

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        shape = {"encoder_channels": 4, "latent_dim": 8, "dim_heads": 8} if tiny else {"encoder_channels": 256}
        return {
            "encoder_transformer_depths": [2 if tiny else 12],
            # The last of the decoder's layers gate with a sine; 8 is the published configuration's number.
            "decoder_sinusoidal_blocks": [2 if tiny else 8],
            "chunk_latents": 0,
            "decoder_mapping_width": 1,
            **shape,
        }
