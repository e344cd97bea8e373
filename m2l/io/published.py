"""The published checkpoint's format: its parameter names, and strict reading of `music2latent.pt`.

The file is a pickled dict whose `gen_state_dict` holds the EMA weights, beside bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from m2l.config import Music2LatentConfig
from m2l.io.torch_files import CheckpointError, read_pickled


def key_map(config: Music2LatentConfig) -> dict[str, str]:
    """Published parameter name -> ours, for every parameter of a model with this config.

    The published lists are flat (`down_layers.7`); ours are nested by level (`unet.levels.1.down`).
    """
    return {f"{theirs}.{leaf}": f"{ours}.{our_leaf}" for theirs, ours, leaf, our_leaf in _pairs(config)}


def _pairs(config: Music2LatentConfig) -> Iterator[tuple[str, str, str, str]]:
    def layer(
        theirs: str, ours: str, leaves: tuple[str, ...] = ("weight", "bias")
    ) -> Iterator[tuple[str, str, str, str]]:
        for leaf in leaves:
            yield theirs, ours, leaf, leaf

    def block(
        theirs: str, ours: str, *, residual: bool, condition: bool, attention: bool
    ) -> Iterator[tuple[str, str, str, str]]:
        for name in ("norm1", "conv1", "norm2", "conv2"):
            yield from layer(f"{theirs}.{name}", f"{ours}.{name}")
        if residual:
            yield from layer(f"{theirs}.res_conv", f"{ours}.residual")
        if condition:
            yield from layer(f"{theirs}.proj_emb", f"{ours}.condition")
        if attention:
            yield from layer(f"{theirs}.att.norm", f"{ours}.attention.norm")
            yield from layer(f"{theirs}.att.mha.out_proj", f"{ours}.attention.out")
            for leaf in ("weight", "bias"):
                yield f"{theirs}.att.mha", f"{ours}.attention.qkv", f"in_proj_{leaf}", leaf

    levels = len(config.channels)
    last = levels - 1

    # Encoder
    yield from layer("encoder.conv_inp", "encoder.conv_in")
    if config.frequency_scaling:
        yield "encoder.gain", "encoder.gain", "scale", "gain"
    index = 0
    for level in range(levels):
        for number in range(config.autoencoder_blocks[level]):
            widens = number == 0 and level > 0 and config.channels[level] != config.channels[level - 1]
            yield from block(
                f"encoder.down_layers.{index}",
                f"encoder.levels.{level}.blocks.{number}",
                residual=widens,
                condition=False,
                attention=config.attention[level],
            )
            index += 1
        if level < last:
            yield from layer(f"encoder.down_layers.{index}.norm", f"encoder.levels.{level}.down.norm")
            yield from layer(f"encoder.down_layers.{index}.c", f"encoder.levels.{level}.down.conv")
            index += 1
    yield from layer("encoder.prenorm_1d_to_2d", "encoder.norm_features")
    yield from layer("encoder.bottleneck_layers.0", "encoder.to_bottleneck")
    for number in range(config.bottleneck_blocks):
        yield from block(
            f"encoder.bottleneck_layers.{number + 1}",
            f"encoder.bottleneck.{number}",
            residual=False,
            condition=False,
            attention=False,
        )
    yield from layer("encoder.norm_out", "encoder.norm_out")
    yield from layer("encoder.conv_out", "encoder.conv_out")

    # Decoder
    yield from layer("decoder.conv_inp", "decoder.conv_in")
    for number in range(config.bottleneck_blocks):
        yield from block(
            f"decoder.bottleneck_layers.{number}",
            f"decoder.bottleneck.{number}",
            residual=False,
            condition=True,
            attention=False,
        )
    yield from layer("decoder.conv_out_bottleneck", "decoder.from_bottleneck")
    index = 0
    for level in reversed(range(levels)):
        for number in range(config.autoencoder_blocks[level]):
            yield from block(
                f"decoder.up_layers.{index}",
                f"decoder.levels.{level}.blocks.{number}",
                residual=False,
                condition=False,
                attention=config.attention[level],
            )
            index += 1
        if level > 0:
            yield from layer(f"decoder.up_layers.{index}.c", f"decoder.levels.{level}.up.conv")
            index += 1

    # UNet
    yield from layer("emb_proj.0", "unet.embed_hidden")
    yield from layer("emb_proj.2", "unet.embed_out")
    if config.frequency_scaling:
        for side, ours in (("scale_inp", "unet.scale_in"), ("scale_out", "unet.scale_out")):
            for position, name in ((0, "hidden1"), (2, "hidden2"), (4, "out")):
                yield from layer(f"{side}.{position}", f"{ours}.{name}")
    yield from layer("conv_inp", "unet.conv_in")
    for branch, order in (("down", range(levels)), ("up", reversed(range(levels)))):
        index = 0
        for level in order:
            for number in range(config.unet_blocks[level]):
                ours = f"unet.levels.{level}.{branch}_blocks.{number}"
                yield from layer(f"{branch}_layers.{index}", f"{ours}.cross")
                yield from block(
                    f"{branch}_layers.{index + 1}",
                    f"{ours}.block",
                    residual=False,
                    condition=True,
                    attention=config.attention[level],
                )
                index += 2
            # The way down belongs to the finer level, the way up to the level it arrives at.
            if branch == "down" and level < last:
                yield from layer(f"down_layers.{index}.c", f"unet.levels.{level}.down.conv")
                index += 1
            if branch == "up" and level > 0:
                yield from layer(f"up_layers.{index}.c", f"unet.levels.{level - 1}.up.conv")
                index += 1
    yield from layer("conv_decoded", "unet.cross_out")
    yield from layer("norm_out", "unet.norm_out")
    yield from layer("conv_out", "unet.conv_out")


def read_published(path: Path, config: Music2LatentConfig) -> dict[str, Tensor]:
    """Weights of a published-format checkpoint under our names, checked against `config`.

    Raises:
        CheckpointError: if the file is unreadable, has no `gen_state_dict`, or a key is missing, extra or of the
            wrong shape.
    """
    checkpoint = read_pickled(path)
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("gen_state_dict"), Mapping):
        found = type(checkpoint).__name__
        if isinstance(checkpoint, Mapping):
            found = _few(sorted(map(str, checkpoint))) or "nothing"
        raise CheckpointError(f"{path} has no 'gen_state_dict': found {found}")
    theirs = checkpoint["gen_state_dict"]
    names = key_map(config)
    missing = [key for key in names if key not in theirs]
    extra = [key for key in theirs if key not in names]
    if missing or extra:
        raise CheckpointError(f"{path} does not fit preset {config.name!r}: {describe_keys(missing, extra)}")
    return {names[key]: value for key, value in theirs.items()}


def describe_keys(missing: list[str], extra: list[str]) -> str:
    """'missing a, b; unexpected c' with long lists cut."""
    parts = [f"{word} {_few(keys)}" for word, keys in (("missing", missing), ("unexpected", extra)) if keys]
    return "; ".join(parts)


def _few(keys: list[str], limit: int = 4) -> str:
    shown = ", ".join(repr(str(key)[:80]) for key in keys[:limit])
    return shown + (f" and {len(keys) - limit} more" if len(keys) > limit else "")
