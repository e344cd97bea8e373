"""What a step minimizes: the whole model's loss, or the spectrum loss of the autoencoder's first stage.

The paper's is the consistency loss alone. Over a short run it teaches little of what is heard: an error weighs as much
as the bin it lies in is loud, so the few loudest decide; and while Delta t is large the best answer to noise is the
mean of all that it could have been, which above the lowest bins, where 64 numbers hold no phases, is silence. So
recipes of short runs can ask two things more of an output: that its bands are as loud as the input's
(`band_distance`), and of some items that they point the input's way from sigma_max in one step
(`direction_distance`), as they do in use.

The first stage gives the latents something to carry. At the start they are a linear image of the spectrum, from which a
linear readout finds nothing of its envelope, and what gradient they get through the UNet is noise. A second stage that
does not go on to judge what was drawn loses its phases within a hundred steps.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.consistency import consistency_outputs, output_weight, pseudo_huber, weighted_distance
from m2l.model import Music2Latent
from m2l.training.settings import TrainingSettings

#: Bands, spaced like a logarithm where bins are fine enough, and frames of a patch whose energy is compared.
BANDS, PATCH_FRAMES = 64, 4
#: Energy added to a patch's mean: some 45 dB below a loud one's. Silence is not to be matched to its last decibel.
ENERGY_FLOOR = 1e-3


class StepLoss(nn.Module):
    """Mean loss of a batch: the one call that DDP and torch.compile wrap."""

    def __init__(self, model: Music2Latent, settings: TrainingSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, representation: Tensor, t: Tensor, delta_t: float, noise: Tensor) -> Tensor:
        settings = self.settings
        pyramid = self.model.decoder(self.model.encoder(representation))
        # Times are 1 for the direct items alone: their teacher is the input itself.
        direct = (t >= 1) & (settings.direct_share > 0)
        steps = torch.where(direct, 1.0, delta_t)
        student, teacher, gap = consistency_outputs(self.model, representation, t, steps, noise, pyramid)
        losses = weighted_distance(student, teacher, gap)
        if settings.weighting == "output":
            losses = losses * output_weight(t, steps, self.model.config)
        losses = torch.where(direct, direction_distance(student, representation), losses)
        if settings.band_weight:
            losses = losses + settings.band_weight * band_distance(student, representation)
        if settings.level_weight:
            losses = losses + settings.level_weight * level_distance(student, representation)
        if settings.spectrum_weight:
            losses = losses + settings.spectrum_weight * spectrum_loss(pyramid[0], representation)
        return losses.mean()


class StartLoss(nn.Module):
    """Mean spectrum loss of a batch: what encoder and decoder learn by in their first stage, without the UNet."""

    def __init__(self, model: Music2Latent) -> None:
        super().__init__()
        self.encoder, self.decoder = model.encoder, model.decoder

    def forward(self, representation: Tensor, *_: object) -> Tensor:
        return spectrum_loss(self.decoder(self.encoder(representation))[0], representation).mean()


def spectrum_loss(finest: Tensor, representation: Tensor) -> Tensor:
    """How far the decoder's finest map is from the spectrum: its first channel from |x|, the next two from x itself.

    Phases are noise to a network that has just been born, and so is the loss of Eq. 11 to its latents: a short run
    is over before they carry anything. Magnitudes are not, and an encoder and decoder that have learned to draw them
    hand the UNet a map it has a use for from its first step on.

    Of the phases 64 numbers hold only the lowest bins'. A distance would not find even these: its first advice is to
    draw nothing, and where nothing is drawn there is nothing to correct. So it is the cosine between the drawn and
    the true spectrum that has to grow, whatever the norm.

    Args:
        finest: (B, C, n_bins, T), the decoder's map at the finest level, with C >= 3.
        representation: (B, 2, n_bins, T), nowhere silent.

    Returns:
        (B,) losses: d(drawn, |x|) (Eq. 9) + `direction_distance` of the drawn spectrum.
    """
    drawn = finest[:, :3].float()
    magnitude = representation.square().sum(1, keepdim=True).sqrt()
    return pseudo_huber(drawn[:, :1], magnitude) + direction_distance(drawn[:, 1:], representation)


def direction_distance(output: Tensor, representation: Tensor) -> Tensor:
    """2 |x| (1 - cos(output, x)), (B,): about a distance for outputs of x's norm, whatever norm they have.

    The representation's SI-SDR, in short: an output that is unsure of the phases loses nothing by being drawn.
    """
    cosine = F.cosine_similarity(output.float().flatten(1), representation.flatten(1), dim=1, eps=1e-6)
    return 2 * representation.flatten(1).norm(dim=1) * (1 - cosine)


def band_distance(output: Tensor, representation: Tensor) -> Tensor:
    """Mean distance of log energies in patches of a band by 4 frames: a multi-band spectral loss, blind to phases.

    Args:
        output: (B, C, n_bins, T); energies are summed over channels.
        representation: (B, C', n_bins, T). Frames beyond a multiple of 4 are not seen.

    Returns:
        (B,) distances in nepers of the compressed spectrum's energy; 1 is 6.7 dB at the waveform (Eq. 5's alpha).
    """
    return (_log_energies(output) - _log_energies(representation)).abs().mean((1, 2))


def level_distance(output: Tensor, representation: Tensor) -> Tensor:
    """Mean distance of log energies of all bins together, in patches of 4 frames: how loud the output is.

    `band_distance` gives a steady tone, which fills 4 of its 64 bands, a sixteenth of this weight, and
    `direction_distance` none at all.

    Args:
        output: (B, C, n_bins, T); energies are summed over channels.
        representation: (B, C', n_bins, T). Frames beyond a multiple of 4 are ignored.

    Returns:
        (B,) distances in nepers of the compressed spectrum's energy, as those of `band_distance`.
    """
    levels = [F.avg_pool1d(x.float().square().sum((1, 2)), PATCH_FRAMES) for x in (output, representation)]
    first, second = ((level + ENERGY_FLOOR).log() for level in levels)
    return (first - second).abs().mean(1)


def _log_energies(spectrum: Tensor) -> Tensor:
    energy = F.avg_pool1d(spectrum.float().square().sum(1), PATCH_FRAMES)
    sizes = [end - start for start, end in pairwise(band_edges(energy.shape[1]))]
    bands = [part.mean(1) for part in energy.split(sizes, 1)]
    return (torch.stack(bands, 1) + ENERGY_FLOOR).log()


@lru_cache
def band_edges(bins: int) -> tuple[int, ...]:
    """First bin of each band and the number of bins: about `BANDS` at most, none narrower than a bin."""
    return tuple(sorted({0, *np.geomspace(1, bins, BANDS + 1).astype(int).tolist()}))
