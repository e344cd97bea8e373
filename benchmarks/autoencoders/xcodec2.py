"""X-Codec 2 (Ye et al. 2025): one codebook of 65,536 entries at 50 Hz for speech at 16 kHz, 0.8 kbit/s.

The network is transformers' `Xcodec2Model`; weights of `HKUSTAudio/xcodec2-hf`, the authors' own conversion.

What to know about its numbers:

- 16 kHz: nothing above 8 kHz survives the resampling, and metrics at the clip's own rate see that.
- Mono: the channels of a clip are coded one by one.
- A semantic encoder (w2v-BERT 2.0, its first 16 layers) hears log-mel features that are normalized by their mean and
  deviation over the clip: codes depend on the clip as a whole.
- A clip is padded with zeros to whole frames (320 samples), and by a frame where it is whole already, as upstream does.
- Features come from transformers' `SeamlessM4TFeatureExtractor`, which the authors use; that of transformers' own
  X-Codec 2 needs torchaudio.
- It was trained on speech; nothing clips.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autoencoders.neural import NeuralAutoencoder, inputs_of
from benchmarks.weights.loading import load_safetensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Samples per code.
HOP = 320


class Xcodec2(NeuralAutoencoder):
    """X-Codec 2; the arguments are those of `NeuralAutoencoder`."""

    name = "xcodec2"
    sample_rate = 16000
    latent_rate = 50.0
    latent_dim = 1
    bitrate = 16 * 50.0
    n_parameters = 629_281_706
    library = ("transformers", "5.20", "'transformers>=5.20'")

    @classmethod
    def config(cls, tiny: bool = False) -> dict[str, Any]:
        semantic: dict[str, Any] = {"model_type": "wav2vec2-bert", "num_hidden_layers": 16}
        sizes: dict[str, Any] = {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 12,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "head_dim": 64,
            "encoder_hidden_size": 48,
            "quantization_dim": 2048,
        }
        if tiny:
            semantic |= {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
            semantic |= {"output_hidden_size": 64}
            sizes = {
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "encoder_hidden_size": 2,
                "quantization_dim": 128,
            }
        return sizes | {
            "sampling_rate": 16000,
            "downsampling_ratios": [2, 2, 4, 4, 5],
            "quantization_levels": [4] * 8,
            "semantic_model_config": semantic,
        }

    @classmethod
    def build(cls, config: dict[str, Any]) -> torch.nn.Module:
        from transformers import Xcodec2Config, Xcodec2Model

        return Xcodec2Model(Xcodec2Config(**config))

    @classmethod
    def load(cls, path: Path, config: dict[str, Any]) -> torch.nn.Module:
        return load_safetensors(cls.build(config), path, config)

    @cached_property
    def _front_end(self) -> Any:
        from transformers import SeamlessM4TFeatureExtractor

        return SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, sampling_rate=16000, stride=2)

    def _encode(self, audio: Tensor) -> dict[str, Tensor]:
        from torch.nn import functional as F

        model: Any = self.model
        audio = F.pad(audio, (0, HOP - audio.shape[-1] % HOP))
        wave = F.pad(audio[0, 0], (HOP // 2, HOP // 2)).cpu().numpy()
        found = self._front_end(wave, sampling_rate=16000, return_tensors="pt")["input_features"]
        return {"codes": model.encode(audio, found.to(audio.device)).audio_codes}

    def _decode(self, latents: dict[str, Tensor], generator: torch.Generator, n_steps: int) -> Tensor:
        model: Any = self.model
        audio: Tensor = model.decode(audio_codes=latents["codes"]).audio_values
        return audio

    def _features(self, audio: Tensor) -> Tensor:
        """Input of the quantizer (2,048): acoustic and semantic features, joined by a linear layer."""
        model: Any = self.model
        return inputs_of(model.quantizer, lambda: self._encode(audio))[0].transpose(1, 2)

    def _bits(self, latents: dict[str, Tensor]) -> float:
        return latents["codes"].numel() * math.log2(math.prod(self.settings["quantization_levels"]))
