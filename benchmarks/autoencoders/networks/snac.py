"""SNAC's network in torch: DAC's convolutions made depthwise, attention within windows, codebooks at several rates.

waveform (B, 1, T) --encoder--> (B, 1024, T / 384) --four quantizers, averaging 8, 4, 2 and 1 frames--> codes
codes --sums of the entries--> (B, 1024, T / 384) --decoder, with noise after each upsampling--> waveform (B, 1, T)

Module names are those of the published state dict (hubertsiuzdak/snac).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

#: Width of an attention head.
HEAD = 64
DILATIONS = (1, 3, 9)


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    """A weight-normalized convolution."""
    return weight_norm(nn.Conv1d(*args, **kwargs))


class Snake(nn.Module):
    """x + sin²(αx) / α, one α per channel (Ziyin et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)


class Block(nn.Module):
    """Layers in a row, under the name `block`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.block(x)
        return output


class ResidualUnit(Block):
    """A dilated depthwise convolution of width 7 and a pointwise one, added to the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        wide = conv(channels, channels, 7, dilation=dilation, padding=3 * dilation, groups=channels)
        super().__init__(Snake(channels), wide, Snake(channels), conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class LocalAttention(nn.Module):
    """Attention among the frames of a window, with rotary positions that begin anew in each.

    Args:
        channels: a multiple of 64.
        window: frames; the input has a multiple of them.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.rel_pos = Rotation(HEAD)
        self.to_out = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, frames = x.shape
        qkv = self.to_qkv(self.norm(x.transpose(1, 2)))
        # (3, batch, windows, heads, frames of a window, width of a head)
        q, k, v = qkv.view(batch, frames // self.window, self.window, 3, -1, HEAD).permute(3, 0, 1, 4, 2, 5)
        mixed = F.scaled_dot_product_attention(self.rel_pos(q), self.rel_pos(k), v)
        mixed = mixed.transpose(2, 3).reshape(batch, frames, channels)
        return x + self.to_out(mixed).transpose(1, 2)


class Rotation(nn.Module):
    """Rotary position embedding (Su et al. 2021) of pairs (i, i + width / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, width, 2).float() / width))

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[-2], device=x.device)[:, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Noise(nn.Module):
    """Adds white noise, the same in all channels, times a learned function of the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = conv(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(x.shape[0], 1, x.shape[2], generator=generator, dtype=x.dtype).to(x.device)
        return x + noise * self.linear(x)


class Encoder(Block):
    """Waveform (B, 1, T) to (B, 16 * `width`, frames)."""

    def __init__(self, width: int, rates: Sequence[int], window: int) -> None:
        layers: list[nn.Module] = [conv(1, width, 7, padding=3)]
        for rate in rates:
            units = [ResidualUnit(width, dilation) for dilation in DILATIONS]
            down = conv(width, 2 * width, 2 * rate, stride=rate, padding=math.ceil(rate / 2))
            layers.append(Block(*units, Snake(width), down))
            width *= 2
        layers += [LocalAttention(width, window), conv(width, width, 7, padding=3, groups=width)]
        super().__init__(*layers)


class DecoderBlock(nn.Module):
    """An upsampling, noise and three residual units."""

    def __init__(self, n_in: int, n_out: int, rate: int) -> None:
        super().__init__()
        up = nn.ConvTranspose1d(n_in, n_out, 2 * rate, rate, math.ceil(rate / 2), output_padding=rate % 2)
        units = [ResidualUnit(n_out, dilation) for dilation in DILATIONS]
        self.block = nn.Sequential(Snake(n_in), weight_norm(up), Noise(n_out), *units)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        for layer in self.block:
            x = layer(x, generator) if isinstance(layer, Noise) else layer(x)
        return x


class Decoder(nn.Module):
    """(B, n_in, frames) to a waveform (B, 1, T)."""

    def __init__(self, n_in: int, width: int, rates: Sequence[int], window: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            conv(n_in, n_in, 7, padding=3, groups=n_in),
            conv(n_in, width, 1),
            LocalAttention(width, window),
        ]
        for rate in rates:
            layers.append(DecoderBlock(width, width // 2, rate))
            width //= 2
        layers += [Snake(width), conv(width, 1, 7, padding=3), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        for layer in self.model:
            x = layer(x, generator) if isinstance(layer, DecoderBlock) else layer(x)
        return x


class Quantizer(nn.Module):
    """One codebook: the nearest entry by angle, in a space of few dimensions, for every `stride` frames."""

    def __init__(self, channels: int, size: int, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.in_proj = conv(channels, dim, 1)
        self.out_proj = conv(dim, channels, 1)
        self.codebook = nn.Embedding(size, dim)

    def codes(self, x: Tensor) -> Tensor:
        """(B, frames / stride) of (B, channels, frames)."""
        x = self.in_proj(F.avg_pool1d(x, self.stride)).transpose(1, 2)
        return (F.normalize(x, dim=-1) @ F.normalize(self.codebook.weight, dim=-1).T).argmax(dim=-1)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, channels, frames) of (B, frames / stride)."""
        output: Tensor = self.out_proj(self.codebook(codes).transpose(1, 2))
        return output.repeat_interleave(self.stride, dim=-1)


class ResidualQuantizer(nn.Module):
    """Each codebook codes what those before it leave."""

    def __init__(self, channels: int, size: int, dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(Quantizer(channels, size, dim, stride) for stride in strides)


class SnacNet(nn.Module):
    """The whole network; the arguments are those of the published `config.json`.

    Samples have to be a multiple of 384 times the least common multiple of 8 and the window.
    """

    def __init__(
        self,
        encoder_dim: int,
        decoder_dim: int,
        encoder_rates: Sequence[int],
        decoder_rates: Sequence[int],
        attn_window_size: int,
        codebook_size: int,
        codebook_dim: int,
        vq_strides: Sequence[int],
    ) -> None:
        super().__init__()
        channels = encoder_dim * 2 ** len(encoder_rates)
        self.encoder = Encoder(encoder_dim, encoder_rates, attn_window_size)
        self.quantizer = ResidualQuantizer(channels, codebook_size, codebook_dim, vq_strides)
        self.decoder = Decoder(channels, decoder_dim, decoder_rates, attn_window_size)

    def encode(self, audio: Tensor) -> Tensor:
        """Codes (B, 15, frames / 8) of (B, 1, T): one row of the coarsest codebook, then 2, 4 and 8 of the others."""
        rest: Tensor = self.encoder(audio)
        rows = []
        quantizers: Any = self.quantizer.quantizers
        for quantizer in quantizers:
            codes = quantizer.codes(rest)
            rest = rest - quantizer(codes)
            rows.append(codes.unflatten(1, (-1, self._per_coarsest(quantizer))).transpose(1, 2))
        return torch.cat(rows, dim=1)

    def decode(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Waveform (B, 1, T) of the codes that `encode` gives."""
        quantizers = list(self.quantizer.quantizers)
        rows = codes.split([self._per_coarsest(quantizer) for quantizer in quantizers], dim=1)
        parts = [quantizer(row.transpose(1, 2).flatten(1)) for quantizer, row in zip(quantizers, rows, strict=True)]
        audio: Tensor = self.decoder(sum(parts), generator)
        return audio

    def _per_coarsest(self, quantizer: Any) -> int:
        """Codes of a quantizer for one of the coarsest."""
        coarsest: Any = self.quantizer.quantizers[0]
        return int(coarsest.stride // quantizer.stride)
