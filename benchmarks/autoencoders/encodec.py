"""EnCodec (Défossez et al. 2022), the 48 kHz stereo model: 24 kbit/s, or 3, 6 and 12 (`encodec-48khz-6k`).

The network is transformers' `EncodecModel`; weights of `facebook/encodec_48khz`.

What to know about its numbers:

- It works on chunks of one second that overlap by 1 %, cross-faded by the decoder.
- Every chunk is divided by its own RMS, and that number is sent beside the codes (32 bits, counted here). The RMS is
  that of the mean of both channels: where they cancel (sides only) it is nearly 0, and the chunk is blown up
  before coding. That is the system's own behavior and is left as it is.
- Stereo only: a mono clip is given twice and the two outputs are averaged, at the rate of stereo.
- The last chunk is padded with zeros and the padding is masked, as the published feature extractor does.
- Nothing clips: samples beyond ±1 stay as they are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import load_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BANDWIDTHS = (3.0, 6.0, 12.0, 24.0)
#: Frames of one second (48,000 samples, hop 320).
_FRAMES_PER_CHUNK = 150


class Encodec(NeuralAutoencoder):
    """EnCodec; the arguments are those of `NeuralAutoencoder`.

    Args:
        bandwidth: kbit/s, one of 3, 6, 12 and 24.

    Raises:
        ValueError: another bandwidth.
    """

    name = "encodec-48khz"
    sample_rate = 48000
    channels = "stereo"
    latent_rate = 150.0
    latent_dim = 128
    bitrate = 24000.0
    n_parameters = 14_856_294
    window_seconds = None

    def __init__(self, *args: Any, bandwidth: float = 24.0, **kwargs: Any) -> None:
        if bandwidth not in BANDWIDTHS:
            raise ValueError(f"EnCodec's bandwidth is 3, 6, 12 or 24 kbit/s, not {bandwidth!r}")
        self.bandwidth = float(bandwidth)
        self.bitrate = 1000.0 * self.bandwidth
        super().__init__(*args, **kwargs)

    def _extra_options(self) -> dict[str, Any]:
        return {"bandwidth": self.bandwidth}

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        sizes: dict[str, Any] = {"num_filters": 32, "hidden_size": 128, "codebook_size": 1024}
        if tiny:
            sizes = {"num_filters": 4, "hidden_size": 16, "codebook_size": 1024}
        return sizes | {
            "target_bandwidths": list(BANDWIDTHS),
            "sampling_rate": 48000,
            "audio_channels": 2,
            "normalize": True,
            "chunk_length_s": 1.0,
            "overlap": 0.01,
            "use_causal_conv": False,
            "norm_type": "time_group_norm",
            "upsampling_ratios": [8, 5, 4, 2],
        }

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from transformers import EncodecConfig, EncodecModel

        return EncodecModel(EncodecConfig(**config))

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        return load_safetensors(cls.build(config), path, config)

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        import torch
        from torch.nn import functional as F

        model: Any = self.model
        chunk, stride = model.config.chunk_length, model.config.chunk_stride
        n_chunks = max(1, math.ceil(audio.shape[-1] / stride))
        padding = (0, (n_chunks - 1) * stride + chunk - audio.shape[-1])
        mask = F.pad(torch.ones_like(audio, dtype=torch.bool), padding)
        found = model.encode(F.pad(audio, padding), mask, bandwidth=self.bandwidth)
        # The loop inside also starts a chunk in the last overlap, of 1 % of a second and behind the audio.
        codes = found.audio_codes[:n_chunks]
        return {"codes": codes, "scales": torch.stack(list(found.audio_scales[:n_chunks]))}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(latents["codes"], list(latents["scales"])).audio_values
        return audio

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the encoder's last convolution (512), chunk after chunk."""
        import torch

        model: Any = self.model
        found = inputs_of(model.encoder.layers[-1], lambda: self._encode(audio))
        return torch.cat([part for part in found if part.shape[-1] == _FRAMES_PER_CHUNK], dim=-1)

    def _bits(self, latents: dict[str, Tensor]) -> float:
        codes = latents["codes"].numel() * math.log2(self.settings["codebook_size"])
        return codes + 32.0 * latents["scales"].numel()
