"""Weights that a run starts from: random ones or a checkpoint's, and random ones scaled to the data.

`scale_latent_path` is data-dependent initialization (LSUV [Mishkin and Matas, ICLR 2016, arXiv 1511.06422]) of the
latents' way: torch's default draws convolution weights with a third of the variance that keeps a signal's, so after
the seven convolutions between latents and UNet two hundredths are left of it, and a short run passes before the UNet
has noticed that there are latents. Here each of these convolutions is scaled to unit variance on real crops.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from m2l.config import Music2LatentConfig
from m2l.decoder import DecoderLevel
from m2l.layers import Upsample, zero_init
from m2l.model import Music2Latent
from m2l.training.checkpoint import STEP_FILE, verify_checkpoint
from m2l.training.settings import SettingsError, TrainingSettings
from m2l.unet import CrossBlock


def check_fits(settings: TrainingSettings, config: Music2LatentConfig) -> None:
    """Raise `SettingsError` for settings that a model of this configuration cannot be trained with."""
    if settings.crop_frames % config.time_downsampling:
        raise SettingsError(f"crop_frames must be a multiple of {config.time_downsampling}, not {settings.crop_frames}")
    for name in ("autoencoder_steps", "spectrum_weight"):
        if getattr(settings, name) and config.base_channels < 3:
            raise SettingsError(f"{name} needs 3 channels at the finest level, not {config.base_channels}")


def initial_model(settings: TrainingSettings) -> Music2Latent:
    """Random weights of the preset, from the seed, or the checkpoint to fine-tune, in float32.

    Raises:
        CheckpointError, WeightsNotFoundError: for a checkpoint that is damaged or not there.
        ConfigError: for an unknown preset.
    """
    if settings.init is None:
        return Music2Latent.from_config(settings.preset, settings.seed)
    folder = Path(settings.init)
    if (folder / STEP_FILE).is_file():
        verify_checkpoint(folder)
    model = Music2Latent.from_pretrained(settings.init, device="cpu")
    # Out of the mapped file, where weights are aligned to nothing: kernels round by alignment, and the file may go.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def freeze_unused(model: Music2Latent) -> None:
    """Exclude the noise projections of the decoder's bottleneck, which nothing feeds (see `m2l.decoder`)."""
    for name, parameter in model.decoder.bottleneck.named_parameters():
        if ".condition." in name:
            parameter.requires_grad_(False)


def latent_path(model: Music2Latent) -> list[nn.Module]:
    """Convolutions from the encoder's last to the UNet's cross connections, in the order the signal meets them."""
    decoder = model.decoder
    path: list[nn.Module] = [
        model.encoder.to_bottleneck,
        model.encoder.conv_out,
        decoder.conv_in,
        decoder.from_bottleneck,
    ]
    for level in reversed(cast("list[DecoderLevel]", list(decoder.levels))):
        if level.up is not None:
            path.append(level.up)
    return path


@torch.no_grad()
def scale_latent_path(model: Music2Latent, representation: Tensor) -> None:
    """Give the outputs of `latent_path` zero mean and unit variance over a batch, by changing weights and biases.

    Args:
        model: freshly initialized; changed in place.
        representation: (B, 2, n_bins, T) of real crops. Mean and variance are of each channel over items, bins and
            frames for the mean, of all channels together for the variance.
    """
    model.train()  # as in a training step: every convolution is called as a module, and its hook with it
    for block in model.unet.modules():
        if isinstance(block, CrossBlock):
            zero_init(block.cross)
    zero_init(model.unet.cross_out)
    for module in latent_path(model):
        caught: list[Tensor] = []
        handle = cast(Any, module).register_forward_hook(lambda _m, _i, out, caught=caught: caught.append(out))
        try:
            model.decoder(model.encoder(representation))
        finally:
            handle.remove()
        out = caught[0].float()
        axes = [axis for axis in range(out.dim()) if axis != 1]
        mean = out.mean(axes)
        spread = (out - mean.reshape(1, -1, *[1] * (out.dim() - 2))).std().clamp_min(1e-6)
        conv = cast(nn.Conv2d, module.conv if isinstance(module, Upsample) else module)
        conv.weight.div_(spread)
        assert conv.bias is not None
        conv.bias.sub_(mean).div_(spread)
