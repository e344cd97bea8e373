"""εar-VAE's network: diffusers' Oobleck encoder and decoder, and a transformer between latents and decoder.

stereo waveform (B, 2, T) --encoder--> mean of the latents (B, 64, T / 1024)
latents --two layers of attention and gated feed-forward--> (B, 64, T / 1024) --decoder--> waveform (B, 2, T)

The published state dict numbers the layers that diffusers names; `published_names` gives the numbers. A residual unit
there applies one activation twice, and its values stand in the file twice; here they are two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDecoder, OobleckEncoder
from torch import Tensor, nn
from torch.nn import functional as F


class Norm(nn.Module):
    """Layer normalization with a gain; the published file holds the zeros of an offset, too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta: Tensor
        self.register_buffer("beta", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta)


class Attention(nn.Module):
    """Attention over all frames; queries and keys are turned by `angles` (frames, dims / 2)."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        # (3, batch, heads, frames, width of a head)
        q, k, v = self.to_qkv(x).unflatten(-1, (3, -1, self.head)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(_rotated(q, angles), _rotated(k, angles), v)
        output: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return output


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions of the pairs (i, i + dims / 2); dimensions beyond them stay."""
    half = angles.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


class Gate(nn.Module):
    """A linear layer whose second half gates the first through SiLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(n_in, 2 * n_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.silu(gate)


class FeedForward(nn.Module):
    """Four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ff = nn.Sequential(Gate(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.ff(x)
        return output


class Layer(nn.Module):
    """Attention and feed-forward, each behind a normalization and added to its input."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.pre_norm = Norm(width)
        self.self_attn = Attention(width, head)
        self.ff_norm = Norm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        x = x + self.self_attn(self.pre_norm(x), angles)
        return x + self.ff(self.ff_norm(x))


class Rotary(nn.Module):
    """Angles of rotary positions (Su et al. 2021)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", 1.0 / 10000.0 ** (torch.arange(0, dims, 2).float() / dims))

    def forward(self, frames: int) -> Tensor:
        return torch.arange(frames, device=self.inv_freq.device)[:, None] * self.inv_freq


class Transformer(nn.Module):
    """(B, width, frames) to the same shape."""

    def __init__(self, width: int, head: int, rotated: int, depth: int) -> None:
        super().__init__()
        self.rotary_pos_emb = Rotary(rotated)
        self.layers = nn.ModuleList(Layer(width, head) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x, angles = x.transpose(1, 2), self.rotary_pos_emb(x.shape[2])
        for layer in self.layers:
            x = layer(x, angles)
        return x.transpose(1, 2)


class EarVaeNet(nn.Module):
    """The whole network.

    Args:
        width: channels after the first convolution.
        latent_dim: channels of the latents; the encoder also gives as many for their deviation, unused here.
        multiples: channels after each stride, in `width`s.
        strides: of the encoder, the first one first.
        head: width of an attention head.
        rotated: how much of it rotary positions turn.
        depth: layers of the transformer.
    """

    def __init__(
        self,
        width: int,
        latent_dim: int,
        multiples: Sequence[int],
        strides: Sequence[int],
        head: int,
        rotated: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.transformers = Transformer(latent_dim, head, rotated, depth)
        self.encoder = OobleckEncoder(width, 2, list(strides), list(multiples))
        self.decoder = OobleckDecoder(width, latent_dim, 2, list(strides[::-1]), list(multiples))

    def encode(self, audio: Tensor) -> Tensor:
        """Means of the latents."""
        output: Tensor = self.encoder(audio)
        return output[:, : self.latent_dim]

    def decode(self, latents: Tensor) -> Tensor:
        """Waveform of latents."""
        audio: Tensor = self.decoder(self.transformers(latents))
        return audio


_UNIT = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}
_BLOCKS = {
    "encoder": {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4},
    "decoder": {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4},
}


def published_names(model: EarVaeNet) -> dict[str, str]:
    """Our name of each entry of the state dict -> the published one."""
    return {key: _published(key, len(model.encoder.block)) for key in model.state_dict()}


def _published(key: str, n_blocks: int) -> str:
    side, _, rest = key.partition(".")
    if side not in _BLOCKS:
        return key
    if inside := re.fullmatch(r"block\.(\d+)\.(\w+)\.(?:(snake\d|conv\d)\.)?(\w+)", rest):
        block, module, part, value = inside.groups()
        place = f"layers.{int(block) + 1}.layers.{_BLOCKS[side][module]}"
        return f"{side}.{place}.layers.{_UNIT[part]}.{value}" if part else f"{side}.{place}.{value}"
    module, _, value = rest.partition(".")
    return f"{side}.layers.{ {'conv1': 0, 'snake1': n_blocks + 1, 'conv2': n_blocks + 2}[module] }.{value}"


def _published_shape(key: str, value: Tensor) -> tuple[int, ...]:
    """diffusers gives the parameters of an activation two more axes."""
    return (value.numel(),) if ".snake" in key else tuple(value.shape)


def published_shapes(model: EarVaeNet) -> dict[str, tuple[int, ...]]:
    """The published names and shapes of the state dict."""
    names = published_names(model)
    return {names[key]: _published_shape(key, value) for key, value in model.state_dict().items()}


def from_published(state: Mapping[str, Tensor], model: EarVaeNet) -> dict[str, Tensor]:
    """The published state dict under our names and in our shapes."""
    names = published_names(model)
    return {key: state[names[key]].reshape(value.shape) for key, value in model.state_dict().items()}
