"""What a step minimises: the whole model's consistency loss, or the spectrum loss of the autoencoder's first stage.

The first stage gives the latents something to carry. At the start they are a linear image of the spectrum, from which a
linear readout finds nothing of its envelope, and what gradient they get through the UNet is noise.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from m2l.consistency import consistency_loss, output_weight, pseudo_huber
from m2l.decoder import Decoder
from m2l.encoder import Encoder
from m2l.model import Music2Latent


class StepLoss(nn.Module):
    """Mean consistency loss of a batch: the one call that DDP and torch.compile wrap."""

    def __init__(self, model: Music2Latent, weighting: str) -> None:
        super().__init__()
        self.model = model
        self.weighting = weighting

    def forward(self, representation: Tensor, t: Tensor, delta_t: float, noise: Tensor) -> Tensor:
        losses = consistency_loss(self.model, representation, t, delta_t, noise)
        if self.weighting == "output":
            losses = losses * output_weight(t, delta_t, self.model.config)
        return losses.mean()


class StartLoss(nn.Module):
    """Mean spectrum loss of a batch: what encoder and decoder learn by in their first stage, without the UNet."""

    def __init__(self, model: Music2Latent) -> None:
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder

    def forward(self, representation: Tensor, *_: object) -> Tensor:
        return spectrum_loss(self.encoder, self.decoder, representation).mean()


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
