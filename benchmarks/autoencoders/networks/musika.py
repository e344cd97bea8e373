"""Musika's autoencoder (Pasini and Schlüter 2022) in torch: two encoders and two decoders on 44.1 kHz mono.

spectrogram (B, 513, 64 n) --ENC--> (B, 64, 64 n) --ENC2--> latents (B, 64, 4 n)
latents --DEC2--> (B, 64, 64 n) --DEC--> magnitude and phase (B, 513, 64 n)

The published networks are TensorFlow graphs. Three things differ from what torch does by itself: a strided
convolution with "SAME" padding pads on the right first, a transposed one crops both sides, and the kernels lie
as (height, width, in, out), or (height, width, out, in) where transposed. The networks see pieces, never the
whole file: ENC2 16 frames at a time, the decoders 4 latents (64 frames) at a time, each padded with zeros.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Frames one latent stands for; latents a decoder sees at a time.
FRAMES_PER_LATENT, LATENTS_PER_BLOCK = 16, 4


class Layer(nn.Module):
    """Convolution over time, optional noise, optional swish: what all four networks are made of.

    Args:
        n_in, n_out: channels.
        kernel: size over time.
        stride: over time.
        same: TensorFlow's "SAME" padding; else none.
        up: transposed convolution.
        noise: add noise, one value per frame for all channels, times a learned scalar.
        swish: x * sigmoid(x) at the end.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        same: bool = True,
        up: bool = False,
        noise: bool = False,
        swish: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.kernel, self.same, self.up, self.swish = stride, kernel, same, up, swish
        if up:
            self.conv: nn.Module = nn.ConvTranspose1d(
                n_in, n_out, kernel, stride=stride, padding=(kernel - stride) // 2
            )
        else:
            self.conv = nn.Conv1d(n_in, n_out, kernel, stride=stride)
        self.noise_weight = nn.Parameter(torch.zeros(1)) if noise else None

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, n_in, T) -> (B, n_out, T'); `generator` is needed where there is noise."""
        if self.same and not self.up:
            total = max((math.ceil(x.shape[-1] / self.stride) - 1) * self.stride + self.kernel - x.shape[-1], 0)
            x = F.pad(x, (total // 2, total - total // 2))
        x = self.conv(x)
        if self.noise_weight is not None:
            noise = torch.randn(x.shape[0], 1, x.shape[2], generator=generator)
            x = x + self.noise_weight * noise.to(x.device)
        return F.silu(x) if self.swish else x


class Encoder1(nn.Module):
    """ENC: every frame by itself, 513 bins -> `latent`, in (-1, 1)."""

    def __init__(self, hop: int, inner: int) -> None:
        super().__init__()
        widths = [2 * hop + 1, *[4 * hop] * 5]
        self.layers = nn.ModuleList(Layer(a, b) for a, b in itertools.pairwise(widths))
        self.out = Layer(4 * hop, inner, swish=False)

    def hidden(self, x: Tensor) -> Tensor:
        """(B, 2 hop + 1, T) -> (B, 4 hop, T), the last hidden layer."""
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(self.hidden(x)))


class Encoder2(nn.Module):
    """ENC2: 16 frames -> one latent, in (-1, 1)."""

    def __init__(self, hop: int, inner: int, latent: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                Layer(inner, hop, 3),
                Layer(hop, 3 * hop // 2, 3, stride=2, same=False),
                Layer(3 * hop // 2, 3 * hop // 2, 3),
                Layer(3 * hop // 2, 2 * hop, 3, stride=2, same=False),
                Layer(2 * hop, 2 * hop, 3),
                Layer(2 * hop, 3 * hop, 3, same=False),
                Layer(3 * hop, 3 * hop),
            ]
        )
        self.out = Layer(3 * hop, latent, swish=False)

    def hidden(self, x: Tensor) -> Tensor:
        """(B, inner, 16 n) -> (B, 3 hop, n), the last hidden layer."""
        blocks = split_time(x, FRAMES_PER_LATENT)
        for layer in self.layers:
            blocks = layer(blocks)
        return join_time(blocks, x.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.out(self.hidden(x)))


class Decoder2(nn.Module):
    """DEC2: 4 latents -> 64 frames of ENC's output."""

    def __init__(self, hop: int, inner: int, latent: int) -> None:
        super().__init__()
        wide = 2 * hop + hop // 2
        self.layers = nn.ModuleList(
            [
                Layer(latent, 3 * hop, 3, noise=True),
                Layer(3 * hop, wide, 4, stride=2, up=True, noise=True),
                Layer(wide, wide, 3, noise=True),
                Layer(wide, 2 * hop, 4, stride=2, up=True, noise=True),
                Layer(2 * hop, 2 * hop, 3, noise=True),
                Layer(2 * hop, 3 * hop // 2, 4, stride=2, up=True, noise=True),
                Layer(3 * hop // 2, hop, 4, stride=2, up=True, noise=True),
            ]
        )
        self.out = Layer(hop, inner, swish=False)

    def forward(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """(B, latent, 4) -> (B, inner, 64)."""
        x = latents
        for layer in self.layers:
            x = layer(x, generator)
        output: Tensor = self.out(x)
        return output


class Decoder1(nn.Module):
    """DEC: a small UNet on 64 frames with two heads, log magnitude and phase (in units of pi), both clipped to ±1."""

    def __init__(self, hop: int, inner: int) -> None:
        super().__init__()
        bins = 2 * hop + 1
        self.layers = nn.ModuleList(
            [
                Layer(inner, 3 * hop, 3, noise=True),
                Layer(3 * hop, 3 * hop, 3, stride=2, noise=True),
                Layer(3 * hop, 2 * hop, 3, stride=2, noise=True),
                Layer(2 * hop, hop, 3, stride=2, noise=True),
                Layer(hop, 2 * hop, 4, stride=2, up=True, noise=True),
                Layer(2 * hop, 3 * hop, 4, stride=2, up=True, noise=True),
                Layer(3 * hop, 3 * hop, 4, stride=2, up=True, noise=True),
                Layer(2 * hop, 3 * hop, 4, stride=2, up=True, noise=True),
                Layer(3 * hop, 3 * hop, 4, stride=2, up=True, noise=True),
            ]
        )
        self.magnitude = Layer(3 * hop, bins, swish=False)
        self.phase = Layer(3 * hop, bins, swish=False)

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, inner, 64) -> two maps (B, bins, 64)."""
        down: list[Tensor] = []
        for layer in self.layers[:4]:
            x = layer(x, generator)
            down.append(x)
        full, half, quarter, eighth = down
        up4 = self.layers[4](eighth, generator)
        up2 = self.layers[5](up4 + quarter, generator)
        up1 = self.layers[6](up2 + half, generator)
        magnitude = self.magnitude(up1 + full)
        x = self.layers[7](up4, generator)
        x = self.layers[8](x + up2, generator)
        phase = self.phase(x + up1)
        return magnitude.clamp(-1, 1), phase.clamp(-1, 1)


class MusikaNet(nn.Module):
    """The four networks.

    Args:
        hop: of the spectrogram; all widths follow from it (256 in the published model).
        inner: channels between the two stages.
        latent: channels of the latents.
    """

    def __init__(self, hop: int = 256, inner: int = 64, latent: int = 64) -> None:
        super().__init__()
        self.enc = Encoder1(hop, inner)
        self.enc2 = Encoder2(hop, inner, latent)
        self.dec2 = Decoder2(hop, inner, latent)
        self.dec = Decoder1(hop, inner)

    def encode(self, spectrogram: Tensor) -> Tensor:
        """(B, bins, 16 n) -> (B, latent, n)."""
        latents: Tensor = self.enc2(self.enc(spectrogram))
        return latents

    def decode(self, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, latent, 4 n) -> log magnitude and phase, (B, bins, 64 n) each."""
        blocks = split_time(latents, LATENTS_PER_BLOCK)
        magnitude, phase = self.dec(self.dec2(blocks, generator), generator)
        return join_time(magnitude, latents.shape[0]), join_time(phase, latents.shape[0])


def split_time(x: Tensor, size: int) -> Tensor:
    """(B, C, n size) -> (B n, C, size)."""
    batch, channels, time = x.shape
    if time % size:
        raise ValueError(f"{time} frames are not a multiple of {size}")
    return x.reshape(batch, channels, time // size, size).transpose(1, 2).reshape(-1, channels, size)


def join_time(x: Tensor, batch: int) -> Tensor:
    """(B n, C, size) -> (B, C, n size)."""
    _, channels, size = x.shape
    return x.reshape(batch, -1, channels, size).transpose(1, 2).reshape(batch, channels, -1)


def keras_layers(network: nn.Module) -> dict[str, list[Any]]:
    """A network's layers by the Keras class that holds their weights, in the order Keras numbered them.

    Encoders and DEC2 were written in the order they run. In DEC the phase branch was written after the magnitude
    head, which is also the order here.
    """
    order: list[Layer] = list(network.layers)  # type: ignore[arg-type]
    if isinstance(network, Decoder1):
        order = [*order[:7], network.magnitude, *order[7:], network.phase]
    else:
        order.append(network.out)  # type: ignore[arg-type]
    return {
        "conv2d": [layer for layer in order if not layer.up],
        "conv2d_transpose": [layer for layer in order if layer.up],
        "add_noise": [layer for layer in order if layer.noise_weight is not None],
    }
