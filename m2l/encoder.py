"""Encoder: representation -> features (B, 8192, T/8) -> latents (B, 64, T/8) in (-1, 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from m2l.config import Music2LatentConfig
from m2l.kernels.convolution import Conv2d
from m2l.layers import Downsample, FrequencyGain, ResBlock, group_norm


class EncoderLevel(nn.Module):
    """Residual blocks at one resolution, then the downsampling to the next (none after the last)."""

    def __init__(self, config: Music2LatentConfig, level: int) -> None:
        super().__init__()
        channels = config.channels[level]
        incoming = config.channels[max(level - 1, 0)]
        heads = config.attention_heads if config.attention[level] else 0
        self.blocks = nn.ModuleList(
            ResBlock(incoming if index == 0 else channels, channels, attention_heads=heads)
            for index in range(config.autoencoder_blocks[level])
        )
        self.down = (
            Downsample(channels, channels, config.downsampling[level], normalize=True)
            if level < len(config.downsampling)
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.down is None else self.down(x)


class Encoder(nn.Module):
    """2-D levels down to 32 bins, frequency flattened into channels, 1-D blocks, tanh (Sec. 4.2, 4.4).

    `features` is the map with the most channels (Sec. 5.5): the flattened output of the last 2-D level.
    """

    def __init__(self, config: Music2LatentConfig) -> None:
        super().__init__()
        self.conv_in = Conv2d(2, config.channels[0], 3, padding=1)
        self.gain = FrequencyGain(config.n_bins) if config.frequency_scaling else nn.Identity()
        self.levels = nn.ModuleList(EncoderLevel(config, level) for level in range(len(config.channels)))
        self.norm_features = group_norm(config.channels[-1])
        width = config.bottleneck_channels
        self.to_bottleneck = nn.Conv1d(config.feature_dim, width, 1)
        self.bottleneck = nn.ModuleList(ResBlock(width, width, dims=1) for _ in range(config.bottleneck_blocks))
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv1d(width, config.latent_dim, 1)

    def features(self, representation: Tensor) -> Tensor:
        """(B, 2, n_bins, T) -> (B, feature_dim, T / 8); channel-major, so feature c * bins + f."""
        x = self.gain(self.conv_in(representation))
        for level in self.levels:
            x = level(x)
        return self.norm_features(x).flatten(1, 2)

    def latents(self, features: Tensor) -> Tensor:
        """(B, feature_dim, L) -> (B, latent_dim, L) in (-1, 1)."""
        x = self.to_bottleneck(features)
        for block in self.bottleneck:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x))).tanh()

    def forward(self, representation: Tensor, extract_features: bool = False) -> Tensor:
        """`latents` of `features`, or the features themselves if `extract_features` is set."""
        features = self.features(representation)
        return features if extract_features else self.latents(features)
