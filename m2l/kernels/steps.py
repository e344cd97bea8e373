"""The steps that the networks are made of, each computed the way that is fastest where it runs.

Every step is the formula in its docstring. For long feature maps on a CPU it is computed in tiles of time
(`m2l.kernels.tiled`), which gives the same numbers up to rounding. `_in_tiles` is the one place that chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.kernels import convolution, fused, tiled
from m2l.kernels.tiled import NormBranch, NormConv

#: Smaller maps than this fit into the cache and are computed whole.
WORTHWHILE_BYTES = 4 << 20


def _in_tiles(layer: nn.Module, x: Tensor) -> bool:
    """Whether `layer` is applied to (B, C, F, T) maps in tiles: on a CPU, for inference, if they are large.

    A layer in training mode never is: its teacher pass sees short crops in whole batches, which tiles only slow down.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in fused.DTYPES
        and x.dim() == 4
        and x.numel() * x.element_size() > WORTHWHILE_BYTES
        and not layer.training
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.onnx.is_in_onnx_export()
    )


def normalized_convolutions(
    x: Tensor, *steps: NormConv, plus: Callable[[Tensor], Tensor] | None = None, branch: NormBranch | None = None
) -> Tensor:
    """conv(scale * silu(norm(x))) + condition(embedding) for each step in turn, + plus(x), and the branch of that.

    Args:
        x: (B, C, F, T) or (B, C, T).
        steps: what is applied, each to the result of the one before.
        plus: a function of `x` that mixes no frames, such as the residual.
        branch: y -> y + function(norm(y)), applied last.
    """
    if _in_tiles(steps[0].conv, x):
        return tiled.per_item(
            lambda one: tiled.normalized_convolutions(x[one], [step.of_item(one) for step in steps], plus, branch),
            len(x),
        )
    hidden = x
    for step in steps:
        hidden = step.norm(hidden)
        if step.activate:
            hidden = F.silu(hidden)
        if step.scale is not None:
            hidden = step.scale * hidden
        hidden = step.conv(hidden)
        if (shift := step.shift()) is not None:
            hidden = hidden + shift.reshape(*shift.shape, *[1] * (hidden.dim() - 2))
    if plus is not None:
        hidden = plus(x) + hidden
    return hidden if branch is None else hidden + branch.function(branch.norm(hidden))


def cross_connection(projection: nn.Conv2d, condition: Tensor, *maps: Tensor) -> Tensor:
    """(sum of `maps` + projection(condition)) / sqrt(k) for k terms, which keeps the variance of independent ones.

    Args:
        projection: 1x1 convolution.
        condition: (B, C, F, T).
        maps: (B, C, F, T) each.
    """
    if _in_tiles(projection, condition) and len(maps) <= 2:
        return tiled.per_item(
            lambda one: tiled.cross_connection(projection, condition[one], [x[one] for x in maps]), len(condition)
        )
    total = maps[0]
    for x in maps[1:]:
        total = total + x
    return (total + projection(condition)) / math.sqrt(len(maps) + 1)


def upsampled_convolution(conv: nn.Conv2d, x: Tensor, factor: tuple[int, int]) -> Tensor:
    """conv(x repeated `factor` = (frequency, time) times), for a kernel of factor + 1 and "same" padding."""
    if _in_tiles(conv, x):
        return tiled.per_item(lambda one: tiled.upsampled_convolution(conv, x[one], factor), len(x))
    if x.device.type == "cpu":
        return convolution.upsampled_convolution(conv, x, factor)
    return conv(F.interpolate(x, scale_factor=factor, mode="nearest"))
