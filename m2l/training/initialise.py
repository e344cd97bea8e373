"""What a short run starts from: scaled weights, and latents that hold something.

`scale_latent_path` is data-dependent initialisation (LSUV [Mishkin and Matas, ICLR 2016, arXiv 1511.06422]) of the
latents' way: torch's default draws convolution weights with a third of the variance that keeps a signal's, so after
the seven convolutions between latents and UNet two hundredths are left of it, and a short run passes before the UNet
has noticed that there are latents. Here each of these convolutions is scaled to unit variance on real crops.

`spectrum_loss` gives these latents something to carry: at the start they are a linear image of the spectrum, from which
a linear readout finds nothing of its envelope, and what gradient they get is noise.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l import tiled
from m2l.consistency import pseudo_huber
from m2l.decoder import Decoder, DecoderLevel
from m2l.encoder import Encoder
from m2l.layers import Upsample, zero_init
from m2l.model import Music2Latent
from m2l.unet import CrossBlock


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
        model: freshly initialised; changed in place.
        representation: (B, 2, n_bins, T) of real crops. Mean and variance are of each channel over items, bins and
            frames for the mean, of all channels together for the variance.
    """
    for block in model.unet.modules():
        if isinstance(block, CrossBlock):
            zero_init(block.cross)
    zero_init(model.unet.cross_out)
    for module in latent_path(model):
        caught: list[Tensor] = []
        handle = cast(Any, module).register_forward_hook(
            lambda _m, _i, out, caught=caught: caught.append(out)
        )
        try:
            with tiled.ordinary():  # tiles bypass the modules, and their hooks
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


def spectrum_loss(encoder: Encoder, decoder: Decoder, representation: Tensor) -> Tensor:
    """How far the decoder's finest map is from the spectrum: its first channel from |x|, the next two from x itself.

    Phases are noise to a network that has just been born, and so is the loss of Eq. 11 to its latents: a short run
    is over before they carry anything. Magnitudes are not, and an encoder and decoder that have learned to draw them
    hand the UNet a map it has a use for from its first step on.

    Of the phases 64 numbers hold only the lowest bins'. A distance would not find even these: its first advice is to
    draw nothing, and where nothing is drawn there is nothing to correct. So it is the cosine between the drawn and
    the true spectrum that has to grow, whatever the norm.

    Args:
        encoder: of the model.
        decoder: of the model, with at least 3 channels at the finest level.
        representation: (B, 2, n_bins, T), nowhere silent.

    Returns:
        (B,) losses: d(drawn, |x|) (Eq. 9) + 2 |x| (1 - cos(drawn, x)).
    """
    drawn = decoder(encoder(representation))[0][:, :3].float()
    magnitude = representation.square().sum(1, keepdim=True).sqrt()
    cosine = F.cosine_similarity(drawn[:, 1:].flatten(1), representation.flatten(1), dim=1, eps=1e-6)
    norm = representation.flatten(1).norm(dim=1)
    return pseudo_huber(drawn[:, :1], magnitude) + 2 * norm * (1 - cosine)
