"""Convolutions of 2-D maps that equal torch's and cost a CPU less where small models spend their time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Maps with fewer channels than this leave most lanes of a vector register empty when they lie channel by channel.
FEW_CHANNELS = 8


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, whose gradient between maps of few channels costs half as much on a CPU.

    For convolutions without groups, dilation or another padding than zeros.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self._few_channels_learn(input):
            return _FewChannels.apply(input, self.weight, self.bias, self.stride, self.padding)
        return super().forward(input)

    def _few_channels_learn(self, x: Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and torch.is_grad_enabled()
            and self.weight.requires_grad
            and max(self.in_channels, self.out_channels) < FEW_CHANNELS
            and max(self.kernel_size) > 1
            and x.dtype == self.weight.dtype
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )


class _FewChannels(torch.autograd.Function):
    """A convolution whose gradient is computed channels last, although its maps are planes.

    Input and output stay in planes: with few channels last, normalization is slow, and so is the forward convolution
    including the conversion.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.biased = stride, padding, bias is not None
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.biased and ctx.needs_input_grad[2]]
        grads = torch.ops.aten.convolution_backward(
            grad.contiguous(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
            weight, [len(weight)], ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, wanted,
        )  # fmt: skip
        of_x, of_weight, of_bias = (g if asked else None for g, asked in zip(grads, wanted, strict=True))
        return (
            None if of_x is None else of_x.contiguous(),
            None if of_weight is None else of_weight.contiguous(),
            of_bias,
            None,
            None,
        )


def upsampled_convolution(conv: nn.Conv2d, x: Tensor, factor: tuple[int, int]) -> Tensor:
    """Nearest-neighbor upsampling and a convolution with kernel factor + 1, at the lower resolution.

    Along an axis upsampled by u, output u i + p sees only two inputs, i - 1 and i or i and i + 1: so all phases p
    are channels of one convolution with two taps an axis, and the large map is never made. Differentiable (once); a
    training step on a CPU spends a third of its time here otherwise.

    Args:
        conv: stride 1, "same" padding; kernel 1 along an axis with factor 1.
        x: (B, C, F, T).
        factor: (frequency, time).

    Returns:
        (B, C_out, F * factor[0], T * factor[1]).
    """
    by_bin, bin_starts = _phases(factor[0], conv.weight)
    by_frame, frame_starts = _phases(factor[1], conv.weight)
    kernel = torch.einsum("ocij,pki,qlj->pqockl", conv.weight, by_bin, by_frame).flatten(0, 2)
    padding = (int(factor[0] > 1), int(factor[1] > 1))
    bias = None if conv.bias is None else conv.bias.repeat(factor[0] * factor[1])
    made = F.conv2d(x, kernel, bias, padding=padding)
    made = made.view(made.shape[0], *factor, conv.out_channels, *made.shape[2:])
    if torch.onnx.is_in_onnx_export():
        return _interleave(made, bin_starts, frame_starts, x.shape[2:])
    return _Interleave.apply(made, bin_starts, frame_starts, x.shape[2:])


def _interleave(made: Tensor, bin_starts: list[int], frame_starts: list[int], size: torch.Size) -> Tensor:
    """What `_Interleave` computes, of slices and stacks alone: the form that leaves torch, for ONNX."""
    bins, frames = size
    rows = [
        torch.stack([made[:, p, q, :, i : i + bins, j : j + frames] for q, j in enumerate(frame_starts)], dim=-1)
        for p, i in enumerate(bin_starts)
    ]
    return torch.stack(rows, dim=3).flatten(4, 5).flatten(2, 3)


class _Interleave(torch.autograd.Function):
    """The maps of all phases, (B, P, Q, C, F + 1, T + 1), each from its start, as one map (B, C, F P, T Q).

    Left to autograd, the gradient of each phase's slice would be a map of zeros as large as all of them.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, made: Tensor, bin_starts: list[int], frame_starts: list[int], size: torch.Size
    ) -> Tensor:
        bins, frames = size
        ctx.places, ctx.shape, ctx.size = (bin_starts, frame_starts), made.shape, size
        batch, n_bin, n_frame, channels = made.shape[:4]
        out = made.new_empty((batch, channels, bins, n_bin, frames, n_frame))
        for p, i in enumerate(bin_starts):
            for q, j in enumerate(frame_starts):
                out[:, :, :, p, :, q] = made[:, p, q, :, i : i + bins, j : j + frames]
        return out.view(batch, channels, bins * n_bin, frames * n_frame)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (bin_starts, frame_starts), (bins, frames) = ctx.places, ctx.size
        parts = grad.unflatten(3, (frames, len(frame_starts))).unflatten(2, (bins, len(bin_starts)))
        made = grad.new_zeros(ctx.shape)
        for p, i in enumerate(bin_starts):
            for q, j in enumerate(frame_starts):
                made[:, p, q, :, i : i + bins, j : j + frames] = parts[:, :, :, p, :, q]
        return made, None, None, None


def _phases(factor: int, like: Tensor) -> tuple[Tensor, list[int]]:
    """Which taps of a kernel fall on which of two inputs, (phases, 2, factor + 1), and where each phase starts.

    Starts are places in the output of a two-tap convolution over an input padded by one. An axis that keeps its size
    has one phase and one tap.
    """
    if factor == 1:
        return like.new_ones(1, 1, 1), [0]
    taps = like.new_zeros(factor, 2, factor + 1)
    starts = []
    for phase in range(factor):
        inputs = [(phase + tap - factor // 2) // factor for tap in range(factor + 1)]
        starts.append(inputs[0] + 1)
        for tap, place in enumerate(inputs):
            taps[phase, place - inputs[0], tap] = 1
    return taps, starts
