"""What the torch embedders share: lazy loading, checks, batches of windows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.embedders.base import embedder_entry, embedder_spec
from benchmarks.embedders.checks import checked_mono
from benchmarks.weights.find import find_weight


class TorchEmbedder:
    """Base class: a subclass gives `_load`, `_windows` and `_forward`.

    Args:
        name: registered name; decides sample rate, size and weights.
        weights: path of the weights instead of the look-up.
        device: torch device; default CUDA if there is one.

    Raises:
        WeightsNotFoundError: weights missing; says how to get them.
    """

    #: Windows per forward pass. On a CPU larger batches gain nothing.
    batch_size = 32

    def __init__(self, name: str, weights: str | os.PathLike[str] | None = None, device: str | None = None) -> None:
        entry = embedder_entry(name)
        self.name, self.sample_rate, self.dim = name, entry.sample_rate, entry.dim
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.path = find_weight(entry.weight, weights)
        self._weights = weights
        self._spec: dict[str, Any] | None = None
        self._model: torch.nn.Module | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """Weights digest, window, hop, policies; JSON-ready."""
        if self._spec is None:
            self._spec = embedder_spec(self.name, self._weights)
        return dict(self._spec)

    @property
    def model(self) -> torch.nn.Module:
        """The network, loaded at first use."""
        if self._model is None:
            with torch.inference_mode(False):  # it is kept, and others may want gradients through it
                self._model = self._load().to(self.device).eval().requires_grad_(False)
        return self._model

    def close(self) -> None:
        """Free the network; the next `embed` loads it again."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """(samples,) float32 mono at `sample_rate` -> (n_windows, dim) float32.

        Raises:
            ShortClipError: too short for one window.
            ValueError: not mono, or non-finite samples.
        """
        return self.embed_batch([audio])[0]

    def embed_batch(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`embed` of each clip.

        On a CPU each clip is a batch by itself, so that a clip's embedding never depends on its
        neighbors; on a GPU windows of all clips share batches.
        """
        if self.device.type == "cpu":
            return [self._embed_windows(self._checked_windows(clip)) for clip in clips]
        parts = [self._checked_windows(clip) for clip in clips]
        if not parts:
            return []
        embedded = self._embed_windows(torch.cat(parts))
        return np.split(embedded, np.cumsum([len(part) for part in parts])[:-1])

    @torch.inference_mode()
    def _checked_windows(self, audio: np.ndarray) -> torch.Tensor:
        samples = checked_mono(audio, self.name)
        self.model  # noqa: B018  front ends may need the checkpoint's mel matrix
        return self._windows(torch.from_numpy(samples).to(self.device))

    @torch.inference_mode()
    def _embed_windows(self, windows: torch.Tensor) -> np.ndarray:
        # TF32 convolutions, the default on recent GPUs, would move embeddings by 1e-3.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with exact:
            outputs = [self._forward(windows[i : i + self.batch_size]) for i in range(0, len(windows), self.batch_size)]
        return torch.cat(outputs).to("cpu", torch.float32).numpy()

    def _load(self) -> torch.nn.Module:
        """The network with its weights, on the CPU."""
        raise NotImplementedError

    def _windows(self, audio: torch.Tensor) -> torch.Tensor:
        """(samples,) -> (n_windows, ...): the network's inputs; raises ShortClipError."""
        raise NotImplementedError

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(n, ...) -> (n, dim)."""
        raise NotImplementedError
