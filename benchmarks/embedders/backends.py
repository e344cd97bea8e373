"""The tools that FAD and FAD_clap have to agree with, as embedders: extra `parity`.

They run their own front ends and networks on the weights found here, so that a difference between
`vggish` and `vggish[frechet-audio-distance]` is a difference of code. Building them needs more than our
weights: torch.hub's copy of torchvggish for the one, `roberta-base` from the model hub for the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.embedders.base import ShortClipError
from benchmarks.embedders.clap import fit_window
from benchmarks.embedders.torch_embedder import TorchEmbedder
from benchmarks.embedders.vggish import MIN_SAMPLES
from m2l.io.torch_files import read_pickled


class FrechetAudioDistanceVGGish(TorchEmbedder):
    """VGGish through frechet-audio-distance 0.3.4, without PCA and activation as it does by default."""

    def _load(self) -> nn.Module:
        from frechet_audio_distance import FrechetAudioDistance

        tool = FrechetAudioDistance(
            model_name="vggish", sample_rate=self.sample_rate, use_pca=False, use_activation=False
        )
        network: nn.Module = tool.model
        state = read_pickled(self.path, any_form=True)
        # Its constructor has loaded torch.hub's copy of the weights; ours may be another file.
        network.load_state_dict({k: v for k, v in state.items() if not k.startswith("pproc.")}, strict=False)
        network.device = self.device  # type: ignore[assignment]
        return network

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        if len(audio) < MIN_SAMPLES:
            raise ShortClipError(f"{self.name}: {len(audio)} samples; one window takes {MIN_SAMPLES}")
        return audio[None]

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        # One clip at a time: torchvggish's own front end takes a numpy waveform.
        outputs = [self.model(clip.cpu().numpy(), self.sample_rate) for clip in windows]
        return torch.cat([output.reshape(-1, self.dim) for output in outputs])

    def embed_batch(self, clips: Any) -> list[np.ndarray]:
        """Each clip by itself, on any device."""
        return [self._embed_windows(self._checked_windows(clip)) for clip in clips]


class LaionClap(TorchEmbedder):
    """The audio tower through laion-clap 1.1.7, called as frechet-audio-distance calls it.

    Args:
        tower: `HTSAT-tiny` or `HTSAT-base`.
    """

    batch_size = 4

    def __init__(self, name: str, tower: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.tower = tower

    def _load(self) -> nn.Module:
        import laion_clap

        module: nn.Module = laion_clap.CLAP_Module(enable_fusion=False, amodel=self.tower, device=str(self.device))
        module.load_ckpt(str(self.path), verbose=False)  # type: ignore[operator]
        return module

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        # Of long clips the tool takes a random 10 s; given the middle 10 s it has nothing to choose.
        return fit_window(audio)[None]

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model.get_audio_embedding_from_data(windows, use_tensor=True)  # type: ignore[operator]
        return output
