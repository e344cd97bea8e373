"""SAME on top of diffusers' `AutoencoderSAME`: what SAME-S does differently, and the published names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2l.io.torch_files import CheckpointError

#: Entries of our configuration that diffusers' class does not know.
_OURS = ("chunk_latents", "decoder_mapping_width")


def build_same(config: Mapping[str, Any]) -> nn.Module:
    """diffusers' model, changed where the configuration asks for it.

    Args:
        config: arguments of `AutoencoderSAME`, and `chunk_latents` (attention within groups of so many latents,
            shifted by half of them after half of the layers; 0: the sliding window of the class) and
            `decoder_mapping_width` (of the decoder's last convolution).
    """
    from diffusers import AutoencoderSAME

    model: Any = AutoencoderSAME(**{key: value for key, value in config.items() if key not in _OURS})
    width = int(config["decoder_mapping_width"])
    if width != 1:
        for block in model.decoder.blocks:
            convolution = nn.Conv1d(block.in_channels, block.out_channels, width, padding=width // 2)
            # The old parametrization: the published weights are a direction (weight_v) and a gain (weight_g).
            block.mapping = nn.utils.weight_norm(convolution)
    if config["chunk_latents"]:
        for block in [*model.encoder.blocks, *model.decoder.blocks]:
            block.chunk_latents = int(config["chunk_latents"])
            block.forward = MethodType(_chunked_forward, block)
    return model  # type: ignore[no-any-return]


def _chunked_forward(block: Any, x: Tensor) -> Tensor:
    """A resampling block whose layers see `chunk_latents` latents at a time.

    Every latent owns a segment of tokens: encoding, `stride` frames and one learned token that becomes the latent;
    decoding, the latent and `stride` learned tokens that become its frames. `(B, C, T)` in and out.
    """
    batch, _, length = x.shape
    encoding = block.mode == "encoder"
    given, made = (block.stride, 1) if encoding else (1, block.stride)
    group = block.chunk_latents
    x = F.pad(x, (0, -length % (given * group)))
    if encoding:
        x = block.mapping(x)
    channels, n_segments = x.shape[1], x.shape[2] // given
    frames = x.transpose(1, 2).reshape(batch, n_segments, given, channels)
    learned = block.new_tokens.expand(batch, n_segments, made, channels)
    segments = torch.cat([frames, learned], dim=2)

    half = len(block.transformers) // 2
    segments = _in_groups(segments, block.transformers[:half], group)
    # The first and last half group are repeated, so that the shifted groups are whole.
    shift = group // 2
    segments = torch.cat([segments[:, :shift], segments, segments[:, -shift:]], dim=1)
    segments = _in_groups(segments, block.transformers[half:], group)[:, shift:-shift]

    output = segments[:, :, -made:].reshape(batch, n_segments * made, channels).transpose(1, 2)
    if encoding:
        return output[..., : -(-length // block.stride)]
    mapped: Tensor = block.mapping(output)
    return mapped[..., : length * block.stride]


def _in_groups(segments: Tensor, layers: Any, group: int) -> Tensor:
    """Run layers over groups of `group` segments `(B, N, tokens, C)`, each group by itself."""
    batch, count, tokens, channels = segments.shape
    x = segments.reshape(batch * count // group, group * tokens, channels)
    for layer in layers:
        x = layer(x)
    return x.reshape(batch, count, tokens, channels)


# ---- published names -----------------------------------------------------------------------------------

_LAYER_NAMES = (
    ("pre_norm.", "norm_attn."),
    ("self_attn.", "attn."),
    ("ff_norm.", "norm_ff."),
    ("ff.ff.0.proj.", "ff.proj_in."),
    ("ff.ff.2.", "ff.proj_out."),
)
#: (published, ours), longest first where one begins another; `encoder.layers` and `decoder.layers` are lists in
#: which the transposes between blocks and linear layers count.
_PARTS = (
    (r"encoder\.layers\.0\.", "encoder.blocks.0."),
    (r"encoder\.layers\.2\.", "encoder.proj."),
    (r"decoder\.layers\.1\.", "decoder.proj."),
    (r"decoder\.layers\.3\.", "decoder.blocks.0."),
    (r"bottleneck\.scaling_factor$", "bottleneck.scale"),
)
_ROTARY = re.compile(r"(.*\.transformers\.\d+)\.rope\.inv_freq")
#: An empty parameter of the published bottleneck.
_EMPTY = "bottleneck.noise_scaling_factor"


def published_name(name: str) -> str:
    """Our name of a tensor of the published file."""
    name = name.removeprefix("pretransform.model.")
    for pattern, ours in _PARTS:
        name, found = re.subn(f"^{pattern}", ours, name)
        if found:
            break
    head, separator, tail = name.partition(".transformers.")
    if separator:
        number, _, local = tail.partition(".")
        for theirs, ours in _LAYER_NAMES:
            if local.startswith(theirs):
                local = ours + local.removeprefix(theirs)
                break
        name = f"{head}.transformers.{number}.{local}"
    return name


def from_published(state: Mapping[str, Tensor], model: nn.Module, what: str) -> dict[str, Tensor]:
    """The published tensors under diffusers' names and in its order of queries, keys and values.

    The published attention holds `[q, k, v, q2, k2]`, diffusers `[q, q2, k, k2, v]`. Rotary frequencies are
    stored per layer there and computed here; they are compared and left out.

    Raises:
        CheckpointError: rotary frequencies differ from the network's.
    """
    buffers = dict(model.named_buffers())
    converted: dict[str, Tensor] = {}
    for key, value in state.items():
        name = published_name(key)
        rotary = _ROTARY.fullmatch(name)
        if rotary:
            wanted = buffers.get(f"{rotary[1]}.attn.rope.inv_freq")
            if wanted is None or wanted.shape != value.shape or not torch.allclose(wanted, value.to(wanted)):
                raise CheckpointError(f"{what}: {key} is not the network's rotary frequencies")
            continue
        if name == _EMPTY and value.numel() == 0:
            continue
        if name.endswith("attn.to_qkv.weight") and value.shape[0] % 5 == 0:
            q, k, v, q2, k2 = value.chunk(5)
            value = torch.cat([q, q2, k, k2, v])
        converted[name] = value
    return converted


def check_model_config(found: Mapping[str, Any], config: Mapping[str, Any], what: str) -> None:
    """Compare the file `model_config.json` with properties that the weights do not show.

    Raises:
        CheckpointError: attention, strides or gates differ; the message names them.
    """
    model = found.get("model", {})
    model = model.get("pretransform", {}).get("config", model) if "encoder" not in model else model
    wrong = []
    for side in ("encoder", "decoder"):
        given = model.get(side, {}).get("config", {})
        windowed = given.get("sliding_window") is not None
        if given and windowed == bool(config["chunk_latents"]):
            wrong.append(f"{side}: sliding_window is {given.get('sliding_window')!r}")
        if "strides" in given and list(given["strides"]) != [16]:
            wrong.append(f"{side}: strides are {given['strides']!r}, expected [16]")
    gates = model.get("decoder", {}).get("config", {}).get("sinusoidal_blocks")
    if gates is not None and list(gates) != list(config["decoder_sinusoidal_blocks"]):
        wrong.append(f"decoder: sinusoidal_blocks are {gates!r}, expected {config['decoder_sinusoidal_blocks']!r}")
    if wrong:
        raise CheckpointError(f"{what} is not the published configuration: {'; '.join(wrong)}")
