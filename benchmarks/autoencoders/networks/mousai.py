"""Moûsai's diffusion autoencoder (Schneider et al. 2023) in torch: a spectrogram encoder and a waveform UNet.

stereo waveform (B, 2, T) --mel or STFT magnitudes, encoder--> latents (B, 32, T / factor), in (-1, 1)
noise (B, 2, T) --UNet at time t, latents joined at one depth, v-diffusion over n steps--> waveform (B, 2, T)

Written from the published configuration; the module names are ours, `published_names` gives the names that the
published checkpoint has. Its libraries register the UNet three times (`net`, `diffusion.net`, `sampler.net`) and
apply one time-embedding layer twice under two names: 385 tensors under 937 names in v3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Groups of every group normalization but those of the encoder's first block, which have one.
GROUPS = 8
#: Width of the Fourier features of time, before the time itself is joined.
TIME_FEATURES = 256


# ---- encoder -------------------------------------------------------------------------------------------


class EncoderConv(nn.Module):
    """Group normalization, SiLU, convolution of width 3."""

    def __init__(self, n_in: int, n_out: int, groups: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(groups, n_in)
        self.project = nn.Conv1d(n_in, n_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.project(F.silu(self.groupnorm(x)))
        return output


class EncoderBlock(nn.Module):
    """Two convolutions and a residual."""

    def __init__(self, n_in: int, n_out: int, groups: int) -> None:
        super().__init__()
        self.block1 = EncoderConv(n_in, n_out, groups)
        self.block2 = EncoderConv(n_out, n_out, groups)
        self.to_out = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.block2(self.block1(x)) + self.to_out(x)
        return output


class EncoderLevel(nn.Module):
    """A strided convolution and `n_blocks` residual blocks."""

    def __init__(self, channels: int, factor: int, n_blocks: int) -> None:
        super().__init__()
        self.downsample = nn.Conv1d(channels, channels, 2 * factor + 1, stride=factor, padding=factor)
        self.blocks = nn.ModuleList(EncoderBlock(channels, channels, GROUPS) for _ in range(n_blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Mel(nn.Module):
    """Log-mel magnitudes at 48 kHz: window 1024, hop 256, reflected ends, HTK mel without norm, floor 1e-5 (v3)."""

    def __init__(self, n_fft: int, hop: int, n_mels: int, sample_rate: int = 48000) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", torch.hann_window(n_fft))
        self.register_buffer("filters", mel_filters(n_fft // 2 + 1, n_mels, sample_rate))

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, C, T) -> (B, C n_mels, T / hop)."""
        flat = F.pad(waveform.flatten(0, 1), [(self.n_fft - self.hop) // 2] * 2, mode="reflect")
        spectrum = torch.stft(flat, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        mel = torch.einsum("bft,fm->bmt", spectrum.abs(), self.filters)
        return mel.clamp_min(1e-5).log().reshape(waveform.shape[0], -1, mel.shape[-1])


class Magnitudes(nn.Module):
    """STFT magnitudes, normalized by the root of the window length, centered, odd window (v2)."""

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, C, T) -> (B, C (n_fft // 2 + 1), T / hop)."""
        spectrum = torch.stft(
            waveform.flatten(0, 1), self.n_fft, self.hop, window=self.window, normalized=True, return_complex=True
        )
        return spectrum.abs().reshape(waveform.shape[0], -1, spectrum.shape[-1])


class Encoder(nn.Module):
    """Spectrogram -> residual blocks -> 1x1 convolution -> tanh.

    Args:
        front: "mel" or "magnitude".
        n_fft, hop: of the spectrogram.
        n_mels: mel bands (front "mel").
        channels: width of all blocks.
        factors: strides of the levels.
        n_blocks: blocks per level.
        latent: channels of the latents.
    """

    def __init__(
        self,
        front: str,
        n_fft: int,
        hop: int,
        channels: int,
        factors: Sequence[int],
        n_blocks: Sequence[int],
        latent: int,
        n_mels: int = 0,
    ) -> None:
        super().__init__()
        if front not in ("mel", "magnitude"):
            raise ValueError(f"front must be 'mel' or 'magnitude', got {front!r}")
        n_in = 2 * (n_mels if front == "mel" else n_fft // 2 + 1)
        self.to_in = nn.ModuleDict({"block": EncoderBlock(n_in, channels, 1)})
        self.downsamples = nn.ModuleList(
            EncoderLevel(channels, factor, n) for factor, n in zip(factors, n_blocks, strict=True)
        )
        self.to_out = nn.Conv1d(channels, latent, 1)
        self.front = Mel(n_fft, hop, n_mels) if front == "mel" else Magnitudes(n_fft, hop)
        self.factor = hop * math.prod(factors)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, 2, T) -> (B, latent, T / factor)."""
        x = self.to_in["block"](self.front(waveform))
        for level in self.downsamples:
            x = level(x)
        return torch.tanh(self.to_out(x))


def mel_filters(n_freqs: int, n_mels: int, sample_rate: int) -> Tensor:
    """(n_freqs, n_mels) triangles between 0 Hz and half the rate, HTK mel scale, height 1."""
    frequencies = torch.linspace(0, sample_rate // 2, n_freqs)
    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    corners = 700.0 * (10.0 ** (torch.linspace(0.0, top, n_mels + 2) / 2595.0) - 1.0)
    width = corners.diff()
    slopes = corners[None] - frequencies[:, None]
    return torch.minimum(-slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]).clamp_min(0.0)


# ---- UNet ----------------------------------------------------------------------------------------------


class Item(nn.Module):
    """Residual block, modulation by the time features, and the latents where `n_context` > 0."""

    def __init__(self, channels: int, modulation: int, n_context: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, channels)
        self.conv1, self.conv2 = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        self.modulation = nn.Linear(modulation, 2 * channels)
        self.inject = nn.Conv1d(channels + n_context, channels, 1) if n_context else None

    def forward(self, x: Tensor, features: Tensor, context: Tensor) -> Tensor:
        x = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x)))))) + x
        scale, shift = self.modulation(F.silu(features))[:, None].chunk(2, dim=-1)
        normed = F.layer_norm(x.transpose(1, 2), x.shape[1:2], eps=1e-6)
        x = (normed * (1 + scale) + shift).transpose(1, 2)
        return x if self.inject is None else self.inject(torch.cat([x, context], dim=1)) + x


class Level(nn.Module):
    """Down, items, the next level, items, up; added to the input with a scale that depends on time."""

    def __init__(
        self, n_in: int, channels: int, factor: int, n_items: int, modulation: int, n_context: int, inner: Level | None
    ) -> None:
        super().__init__()
        self.factor = factor
        self.down = nn.Conv1d(n_in, channels, factor, stride=factor)
        self.items_down = nn.ModuleList(Item(channels, modulation, n_context) for _ in range(n_items))
        self.inner = inner
        self.items_up = nn.ModuleList(Item(channels, modulation, n_context) for _ in range(n_items))
        self.up = nn.Conv1d(channels, n_in, 3, padding=1)
        self.skip = nn.Linear(modulation, n_in)

    def forward(self, x: Tensor, features: Tensor, context: Tensor) -> Tensor:
        inside = self.down(x)
        for item in self.items_down:
            inside = item(inside, features, context)
        if self.inner is not None:
            inside = self.inner(inside, features, context)
        for item in self.items_up:
            inside = item(inside, features, context)
        inside = self.up(inside.repeat_interleave(self.factor, dim=-1))
        return x + self.skip(F.silu(features))[:, :, None] * inside


class UNet(nn.Module):
    """Predicts v from noisy waveform, time and latents, between a learned analysis and synthesis transform.

    Args:
        channels, factors, items: width, downsampling and number of items of the levels.
        inject_depth: the level whose rate is that of the latents.
        latent: channels of the latents.
        modulation: width of the time features.
        filters, window, stride: of the learned transform; filters per audio channel.
    """

    def __init__(
        self,
        channels: Sequence[int],
        factors: Sequence[int],
        items: Sequence[int],
        inject_depth: int,
        latent: int,
        modulation: int,
        filters: int,
        window: int,
        stride: int,
    ) -> None:
        super().__init__()
        padding = window // 2 - stride // 2
        shape: dict[str, Any] = {"stride": stride, "padding": padding, "bias": False}
        self.analysis = nn.Conv1d(2, 2 * filters, window, padding_mode="reflect", **shape)
        self.synthesis = nn.ConvTranspose1d(2 * filters, 2, window, **shape)
        self.time_weights = nn.Parameter(torch.randn(TIME_FEATURES // 2))
        self.time_in = nn.Linear(TIME_FEATURES + 1, modulation)
        self.time_layer = nn.Linear(modulation, modulation)
        inner: Level | None = None
        for depth in range(len(channels) - 1, -1, -1):
            n_in = channels[depth - 1] if depth else 2 * filters
            context = latent if depth == inject_depth else 0
            inner = Level(n_in, channels[depth], factors[depth], items[depth], modulation, context, inner)
        self.levels: Level = inner  # type: ignore[assignment]

    def forward(self, x: Tensor, time: Tensor, latents: Tensor) -> Tensor:
        """(B, 2, T), (B,), (B, latent, L) -> (B, 2, T)."""
        angles = time[:, None] * self.time_weights[None] * (2 * math.pi)
        features = self.time_in(torch.cat([time[:, None], angles.sin(), angles.cos()], dim=-1))
        features = F.gelu(features)
        for _ in range(2):  # one layer, applied twice
            features = F.gelu(self.time_layer(features))
        output: Tensor = self.synthesis(self.levels(self.analysis(x), features, latents))
        return output


class MousaiNet(nn.Module):
    """Encoder and UNet.

    Args:
        encoder: arguments of `Encoder`.
        unet: arguments of `UNet`, but `latent`.
    """

    def __init__(self, encoder: dict[str, Any], unet: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(**encoder)
        self.unet = UNet(latent=encoder["latent"], **unet)

    def sample(self, noise: Tensor, latents: Tensor, n_steps: int) -> Tensor:
        """v-diffusion from noise, times 1 -> 0 in equal steps, without new noise (as DDIM).

        With alpha = cos(pi t / 2), beta = sin(pi t / 2): x0 = alpha x - beta v, eps = beta x + alpha v.
        """
        angles = torch.linspace(1.0, 0.0, n_steps + 1, device=noise.device) * (math.pi / 2)
        x = noise
        for now, then in itertools.pairwise(angles):
            v = self.unet(x, (now / (math.pi / 2)).expand(x.shape[0]), latents)
            clean, residue = now.cos() * x - now.sin() * v, now.sin() * x + now.cos() * v
            x = then.cos() * clean + then.sin() * residue
        return x


# ---- published names -----------------------------------------------------------------------------------

#: The names under which the published checkpoint holds the UNet.
ALIASES = ("net", "diffusion.net", "sampler.net")


def published_names(model: MousaiNet) -> dict[str, tuple[str, ...]]:
    """Own name -> every name of that tensor in the published checkpoint."""
    names: dict[str, tuple[str, ...]] = {}
    front = (
        {"front.window": "mel.to_spectrogram.window", "front.filters": "mel.to_mel_scale.fb"}
        if isinstance(model.encoder.front, Mel)
        else {"front.window": "stft.window"}
    )
    for key in model.encoder.state_dict():
        names[f"encoder.{key}"] = (f"model.encoder.{front.get(key, key)}",)
    for key, theirs in _unet_names(model.unet).items():
        names[f"unet.{key}"] = tuple(f"model.{alias}.{name}" for alias in ALIASES for name in theirs)
    return names


def _unet_names(unet: UNet) -> dict[str, list[str]]:
    names = {
        "analysis.weight": ["blocks.0.weight"],
        "synthesis.weight": ["blocks.1.weight"],
        "time_weights": ["blocks.2.blocks.0.weights"],
    }
    for part in ("weight", "bias"):
        names[f"time_in.{part}"] = [f"blocks.2.blocks.0.to_out.{part}"]
        names[f"time_layer.{part}"] = [f"blocks.2.blocks.1.blocks.{i}.0.{part}" for i in (0, 1)]
    pairs = _level_names(unet.levels, "levels", "blocks.2.blocks.2.net")
    for ours, theirs in pairs:
        for part in ("weight", "bias"):
            names[f"{ours}.{part}"] = [f"{theirs}.{part}"]
    return names


def _level_names(level: Level, ours: str, theirs: str) -> list[tuple[str, str]]:
    """(own, published) names of the layers of a level; there, everything inside is one numbered list."""
    pairs = [(f"{ours}.down", f"{theirs}.block.blocks.0.block"), (f"{ours}.skip", f"{theirs}.skip.blocks.0.1")]
    index = 1

    def add_items(side: str, items: nn.ModuleList) -> None:
        nonlocal index
        for number, item in enumerate(items):
            own = f"{ours}.{side}.{number}"
            block = f"{theirs}.block.blocks"
            for half in (0, 1):
                inside = f"{block}.{index}.block.blocks.0.blocks.{half}"
                pairs.append((f"{own}.norm{half + 1}", f"{inside}.0"))
                pairs.append((f"{own}.conv{half + 1}", f"{inside}.2"))
            pairs.append((f"{own}.modulation", f"{block}.{index + 1}.blocks.0.block.blocks.0.1"))
            index += 2
            if item.inject is not None:
                pairs.append((f"{own}.inject", f"{block}.{index}.block.blocks.0"))
                index += 1

    add_items("items_down", level.items_down)
    if level.inner is not None:
        pairs += _level_names(level.inner, f"{ours}.inner", f"{theirs}.block.blocks.{index}")
        index += 1
    add_items("items_up", level.items_up)
    pairs.append((f"{ours}.up", f"{theirs}.block.blocks.{index}.block.1"))
    return pairs
