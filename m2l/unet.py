"""UNet: the raw network F_theta of the consistency model (Sec. 4.2).

It sees the scaled input and an embedding of the noise level, and knows nothing of sigma schedules or boundary
conditions: those are `m2l.consistency`.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from m2l.config import Music2LatentConfig
from m2l.kernels.convolution import Conv2d
from m2l.kernels.steps import NormConv, cross_connection, normalized_convolutions
from m2l.layers import Downsample, FrequencyScaling, NoiseEmbedding, ResBlock, Upsample, group_norm, zero_init


class CrossBlock(nn.Module):
    """A residual block with its own cross connection: a 1x1 projection of the decoder's map at this level.

    Sums of k terms are divided by sqrt(k), which keeps the variance of independent terms.
    """

    def __init__(self, channels: int, cond_channels: int, heads: int) -> None:
        super().__init__()
        self.cross = nn.Conv2d(channels, channels, 1)
        self.block = ResBlock(channels, channels, cond_channels=cond_channels, attention_heads=heads)

    def forward(self, x: Tensor, skip: Tensor | None, condition: Tensor, embedding: Tensor) -> Tensor:
        terms = (x,) if skip is None else (x, skip)
        return self.block(cross_connection(self.cross, condition, *terms), embedding)


class UNetLevel(nn.Module):
    """Both branches of the UNet at one resolution, with the resampling to and from the next coarser one."""

    def __init__(self, config: Music2LatentConfig, level: int) -> None:
        super().__init__()
        channels = config.channels[level]
        heads = config.attention_heads if config.attention[level] else 0

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                CrossBlock(channels, config.cond_channels, heads) for _ in range(config.unet_blocks[level])
            )

        self.down_blocks = blocks()
        self.up_blocks = blocks()
        self.down: Downsample | None = None
        self.up: Upsample | None = None
        if level < len(config.downsampling):
            coarser, factor = config.channels[level + 1], config.downsampling[level]
            self.down = Downsample(channels, coarser, factor, normalize=False)
            self.up = Upsample(coarser, channels, factor)


class UNet(nn.Module):
    """F_theta(c_in x_sigma, sigma, y_x): additive skips, additive cross connections at every block."""

    def __init__(self, config: Music2LatentConfig) -> None:
        super().__init__()
        channels = config.channels[0]
        self.embed = NoiseEmbedding(config.cond_channels)
        self.embed_hidden = nn.Linear(config.cond_channels, config.cond_channels)
        self.embed_out = nn.Linear(config.cond_channels, config.cond_channels)
        self.scale_in = FrequencyScaling(config.cond_channels, config.n_bins) if config.frequency_scaling else None
        self.scale_out = FrequencyScaling(config.cond_channels, config.n_bins) if config.frequency_scaling else None
        self.conv_in = Conv2d(2, channels, 3, padding=1)
        self.levels = nn.ModuleList(UNetLevel(config, level) for level in range(len(config.channels)))
        self.cross_out = nn.Conv2d(channels, channels, 1)
        self.norm_out = group_norm(channels)
        self.conv_out = zero_init(Conv2d(channels, 2, 3, padding=1))

    def forward(self, x: Tensor, sigma: Tensor, maps: list[Tensor]) -> Tensor:
        """
        Args:
            x: (B, 2, n_bins, T) scaled noisy representation.
            sigma: (B,) noise levels.
            maps: the decoder's feature maps, finest first.

        Returns:
            (B, 2, n_bins, T).
        """
        # What every block is told about the noise level.
        noise = self.embed(sigma).to(x.dtype)
        embedding = F.silu(self.embed_out(F.silu(self.embed_hidden(noise))))

        # Into feature maps, whose bins are weighted by the noise level (Eq. 6-7).
        x = self.conv_in(x)
        if self.scale_in is not None:
            x = self.scale_in(noise) * x

        # Down to the coarsest level. Every block's output is a skip connection.
        skips: list[Tensor] = []
        levels = cast("list[UNetLevel]", list(self.levels))
        for level, condition in zip(levels, maps, strict=True):
            for block in level.down_blocks:
                x = block(x, None, condition, embedding)
                skips.append(x)
            if level.down is not None:
                x = level.down(x)

        # Up again, with the skips in reverse order.
        for level, condition in zip(reversed(levels), reversed(maps), strict=True):
            if level.up is not None:
                x = level.up(x)
            for block in level.up_blocks:
                x = block(x, skips.pop(), condition, embedding)

        # Back to two channels, real and imaginary part.
        x = cross_connection(self.cross_out, maps[0], x)
        scale = None if self.scale_out is None else self.scale_out(noise)
        return normalized_convolutions(x, NormConv(self.norm_out, self.conv_out, scale=scale))
