"""Exponential moving average of the weights: what is evaluated and shipped."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """A float32 copy of a model's parameters that follows them slowly.

    Args:
        model: whose parameters are followed. It has no buffers to average.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        """average <- decay average + (1 - decay) parameters."""
        averages: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in model.parameters()], 1 - decay)
