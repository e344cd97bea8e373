"""VGGish (Hershey et al. 2017), as FAD uses it: 128-d, without PCA and without the last ReLU."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.embedders.base import ShortClipError
from benchmarks.embedders.frontends import vggish_log_mel
from benchmarks.embedders.torch_embedder import TorchEmbedder
from benchmarks.weights.loading import check_state
from m2l.io.torch_files import read_pickled

#: Frames per example, and the hop between examples: 0.96 s.
EXAMPLE_FRAMES = 96
#: 96 frames of 25 ms every 10 ms.
MIN_SAMPLES = 400 + 95 * 160


class VGGish(nn.Module):
    """Log-mel examples (n, 96, 64) -> embeddings (n, 128), before the last ReLU.

    Submodules are numbered as in the published checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for widths in ((64,), (128,), (256, 256), (512, 512)):
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)
        )

    def forward(self, examples: torch.Tensor) -> torch.Tensor:
        """(n, 96, 64) -> (n, 128)."""
        maps = self.features(examples[:, None])
        # The published weights flatten (time, frequency, channel), the order of the TensorFlow original.
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every name and shape of the published checkpoint (without the optional PCA entries)."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in VGGish().state_dict().items()}


class VGGishEmbedder(TorchEmbedder):
    """One embedding per 0.96 s; an incomplete last window is dropped."""

    def _load(self) -> nn.Module:
        state = read_pickled(self.path, any_form=True)
        # Some copies of the checkpoint carry the PCA of the released post-processor, which FAD does not use.
        state = {key: value for key, value in state.items() if not key.startswith("pproc.")}
        check_state(state, published_shapes(), str(self.path))
        with torch.device("meta"):
            model = VGGish()
        model.load_state_dict(state, assign=True)
        return model

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        if len(audio) < MIN_SAMPLES:
            raise ShortClipError(
                f"{self.name}: {len(audio) / self.sample_rate:.3f} s is too short; one window takes "
                f"{MIN_SAMPLES / self.sample_rate:.3f} s"
            )
        log_mel = vggish_log_mel()(audio)
        n = len(log_mel) // EXAMPLE_FRAMES
        return log_mel[: n * EXAMPLE_FRAMES].reshape(n, EXAMPLE_FRAMES, 64)

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model(windows)
        return output
