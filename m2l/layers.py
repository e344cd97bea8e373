"""The building blocks that encoder, decoder and UNet share (Sec. 4.2, 4.4).

2-D feature maps are (B, C, F, T), 1-D ones (B, C, T). Convolutions that end a residual branch start at zero, so
every block is the identity (plus its 1x1 projection) at initialization.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from m2l.kernels.convolution import Conv2d
from m2l.kernels.steps import NormBranch, NormConv, normalized_convolutions, upsampled_convolution

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at least 4 channels a group and at most 32 groups, as in NCSN++ [17]."""
    groups = max(1, min(channels // 4, 32))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def zero_init(module: ModuleT) -> ModuleT:
    """Set all parameters of `module` to zero and return it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class NoiseEmbedding(nn.Module):
    """Sinusoidal embedding of log(sigma) / 4 (Sec. 4.4): (B,) -> (B, channels), sines first."""

    def __init__(self, channels: int, max_positions: float = 10_000.0) -> None:
        super().__init__()
        self.channels = channels
        self.max_positions = max_positions

    def forward(self, sigma: Tensor) -> Tensor:
        half = self.channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=sigma.device) / (half - 1)
        angles = (sigma.float().log() / 4)[:, None] * self.max_positions**-exponents
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FrequencyScaling(nn.Module):
    """Adaptive frequency scaling (Eq. 6-7): noise embedding -> one factor per frequency bin.

    The paper multiplies input and output of the network by s_f; the published model multiplies its feature
    maps by 1 + s_f, with the last layer at zero, so training starts from "no scaling". We follow the model.
    """

    def __init__(self, cond_channels: int, n_bins: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(cond_channels, cond_channels)
        self.hidden2 = nn.Linear(cond_channels, cond_channels)
        self.out = zero_init(nn.Linear(cond_channels, n_bins))

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, cond_channels) -> (B, 1, n_bins, 1)."""
        hidden = F.silu(self.hidden2(F.silu(self.hidden1(embedding))))
        return 1 + self.out(hidden)[:, None, :, None]


class FrequencyGain(nn.Module):
    """The encoder's learned gain per frequency bin, independent of noise (in the published model only)."""

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, 1, n_bins, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, computed in float32 under a CPU's autocast.

    There the gradient of torch's bfloat16 kernel takes ten times as long as in float32: a quarter of a small model's
    training step.
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value)


class FrequencyAttention(nn.Module):
    """Self-attention over the frequency axis of each frame (Eq. 8), with a residual.

    Memory grows linearly with time: A is (T, F, F). The output projection starts at zero.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_init(nn.Linear(channels, channels))
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attend(self.norm(x))

    def attend(self, x: Tensor) -> Tensor:
        """What the attention adds to its input, given the normalized input (B, C, F, T)."""
        batch, channels, bins, frames = x.shape
        tokens = x.permute(0, 3, 2, 1)  # (B, T, F, C)
        heads = self.qkv(tokens).view(batch * frames, bins, 3, self.heads, channels // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B T, heads, F, C / heads)
        mixed = scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(batch, frames, bins, channels)
        return self.out(mixed).permute(0, 3, 2, 1)


class ResBlock(nn.Module):
    """GroupNorm - SiLU - conv - (+ noise embedding) - GroupNorm - SiLU - conv, plus the input (NCSN++ [17]).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; a 1x1 convolution carries the residual if they differ.
        dims: 2 for (B, C, F, T) with 3x3 kernels, 1 for (B, C, T) with kernels of 3.
        cond_channels: size of the noise embedding added between the convolutions, or None.
        attention_heads: heads of the frequency attention after the residual, or 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dims: int = 2,
        cond_channels: int | None = None,
        attention_heads: int = 0,
    ) -> None:
        super().__init__()
        conv: Any = Conv2d if dims == 2 else nn.Conv1d
        self.norm1 = group_norm(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3, padding=1)
        self.condition = zero_init(nn.Linear(cond_channels, out_channels)) if cond_channels else None
        self.norm2 = group_norm(out_channels)
        self.conv2 = zero_init(conv(out_channels, out_channels, 3, padding=1))
        self.residual = conv(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.attention = FrequencyAttention(out_channels, attention_heads) if attention_heads else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        return normalized_convolutions(
            x,
            NormConv(self.norm1, self.conv1, condition=self.condition, embedding=embedding),
            NormConv(self.norm2, self.conv2),
            plus=self.residual,
            branch=NormBranch(self.attention.norm, self.attention.attend) if self.attention else None,
        )


class Downsample(nn.Module):
    """Strided convolution: 5x1 kernel for frequency only (factor 4), 3x3 for both axes (factor 2)."""

    def __init__(self, in_channels: int, out_channels: int, factor: tuple[int, int], *, normalize: bool) -> None:
        super().__init__()
        self.norm = group_norm(in_channels) if normalize else nn.Identity()
        kernel = resampling_kernel(factor)
        self.conv = Conv2d(in_channels, out_channels, kernel, stride=factor, padding=(kernel[0] // 2, kernel[1] // 2))

    def forward(self, x: Tensor) -> Tensor:
        return normalized_convolutions(x, NormConv(self.norm, self.conv, activate=False))


class Upsample(nn.Module):
    """Nearest-neighbor upsampling, then a convolution with the kernel of the mirrored `Downsample`."""

    def __init__(self, in_channels: int, out_channels: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor
        kernel = resampling_kernel(factor)
        self.conv = Conv2d(in_channels, out_channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2))

    def forward(self, x: Tensor) -> Tensor:
        return upsampled_convolution(self.conv, x, self.factor)


def resampling_kernel(factor: tuple[int, int]) -> tuple[int, int]:
    """Kernel of a resampling convolution: one more than an even factor, 1 along an axis that keeps its size."""
    return tuple(1 if size == 1 else size + 1 for size in factor)  # type: ignore[return-value]


# --- construction -------------------------------------------------------------------------------------------

_FACTORIES = {torch.empty, torch.ones, torch.zeros}
#: The draws that layers make as they are built: in place, directly or by `torch.nn.init`, which passes through here.
_DRAWS = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.uniform_,
}


class _Construction(TorchFunctionMode):
    # `torch.random.fork_rng` and `with torch.device("meta")` change the state of the whole process for a while: two
    # threads inside them at once get each other's random numbers, or leave the wrong state behind. A torch function
    # mode belongs to its thread.

    def __init__(self, device: torch.device, generator: torch.Generator | None) -> None:
        super().__init__()
        self.device, self.generator = device, generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES:
            kwargs["device"] = kwargs.get("device") or self.device
            kwargs["dtype"] = kwargs.get("dtype") or torch.float32
        elif func in _DRAWS and self.generator is not None and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


@contextmanager
def constructing(seed: int | None) -> Iterator[None]:
    """Layers built in this block are float32, with weights drawn from `seed`; with None they have shapes only.

    The global generator, default dtype and default device of torch are neither used nor changed. The layers can be
    trained afterward, even if the block is inside `torch.inference_mode`.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    device = torch.device("meta" if seed is None else "cpu")
    with torch.inference_mode(False), _Construction(device, generator):
        yield
