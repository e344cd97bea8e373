"""Decoder: latents -> feature maps, one per UNet level.

It makes no audio. Its only purpose is to give the consistency model the latents' information at each of its
resolutions (Sec. 4.2).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from m2l.config import Music2LatentConfig
from m2l.layers import ResBlock, Upsample


class DecoderLevel(nn.Module):
    """Residual blocks at one resolution; `up` leads to the next finer level (none after the finest)."""

    def __init__(self, config: Music2LatentConfig, level: int) -> None:
        super().__init__()
        channels = config.channels[level]
        heads = config.attention_heads if config.attention[level] else 0
        self.blocks = nn.ModuleList(
            ResBlock(channels, channels, attention_heads=heads) for _ in range(config.autoencoder_blocks[level])
        )
        self.up = Upsample(channels, config.channels[level - 1], config.downsampling[level - 1]) if level > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Decoder(nn.Module):
    """Mirror of the encoder; `levels[0]` is the finest, as in the UNet."""

    def __init__(self, config: Music2LatentConfig) -> None:
        super().__init__()
        width = config.bottleneck_channels
        self.bins = config.n_bins // config.frequency_downsampling
        self.conv_in = nn.Conv1d(config.latent_dim, width, 1)
        # The published blocks own a noise projection that its decoder never feeds: 526,336 weights without
        # effect, kept so that the parameter count and the checkpoint agree.
        self.bottleneck = nn.ModuleList(
            ResBlock(width, width, dims=1, cond_channels=config.cond_channels) for _ in range(config.bottleneck_blocks)
        )
        self.from_bottleneck = nn.Conv1d(width, config.feature_dim, 1)
        self.levels = nn.ModuleList(DecoderLevel(config, level) for level in range(len(config.channels)))

    def forward(self, latents: Tensor) -> list[Tensor]:
        """(B, latent_dim, L) in (-1, 1) -> one (B, C_i, F_i, T_i) per level, finest first."""
        x = self.conv_in(latents)
        for block in self.bottleneck:
            x = block(x)
        x = self.from_bottleneck(x)
        # Bin-major, feature f * C + c: not the inverse of the encoder's channel-major flattening, but what the
        # published weights were trained with.
        x = x.reshape(x.shape[0], self.bins, -1, x.shape[2]).transpose(1, 2)
        maps: list[Tensor] = []
        for level in reversed(cast("list[DecoderLevel]", list(self.levels))):
            x = level(x)
            maps.append(x)
            if level.up is not None:
                x = level.up(x)
        return maps[::-1]
