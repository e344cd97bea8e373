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

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.config import Music2LatentConfig
from m2l.consistency import denoise, preconditioning, sigma_from_t
from m2l.model import Music2Latent
from m2l.training.settings import TrainingSettings

#: Bands, spaced like a logarithm where bins are fine enough, and frames of a patch whose energy is compared.
BANDS, PATCH_FRAMES = 64, 4
#: Energy added to a patch's mean: some 45 dB below a loud one's. Silence is not to be matched to its last decibel.
ENERGY_FLOOR = 1e-3


# --- the consistency loss (Sec. 3 and 4.3) --------------------------------------------------------------------


def pseudo_huber(x: Tensor, y: Tensor) -> Tensor:
    """Eq. 9 over whole items: sqrt(|x - y|^2 + c^2) - c, with c = 0.00054 sqrt(d) for d numbers an item [6].

    Args:
        x: (B, …).
        y: like x.

    Returns:
        (B,) float32 distances.
    """
    squared = (x.float() - y.float()).flatten(1).square().sum(1)
    c = 0.00054 * math.sqrt(x[0].numel())
    return (squared + c**2).sqrt() - c


def output_weight(t: Tensor, delta_t: float | Tensor, config: Music2LatentConfig) -> Tensor:
    """(sigma_{i+1} - sigma_i) / c_out(sigma_{i+1}) of times t (B,): with it a loss of Eq. 11 is the distance of the
    raw network's outputs, as EDM [28] weighs noise levels, and no level drowns the others.

    Eq. 12's weights alone give an output error at sigma_max a hundredth of the gradient of one at sigma_min.
    """
    sigma_next = sigma_from_t(t.float(), config)
    sigma = sigma_from_t((t.float() - delta_t).clamp(min=0.0), config)
    _, c_out, _ = preconditioning(sigma_next, config)
    return (sigma_next - sigma) / c_out.flatten().clamp_min(1e-4)


def consistency_outputs(
    model: Music2Latent,
    representation: Tensor,
    t: Tensor,
    delta_t: float | Tensor,
    noise: Tensor,
    maps: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What Eq. 11 compares: f(x_{i+1}, sigma_{i+1}, y_x) and sg f(x_i, sigma_i, y_x) with t_i = max(t - Delta t, 0).

    Teacher and student are the same weights, see the same noise and the same feature maps, computed once; the teacher
    carries no gradient, so encoder and decoder learn through the student alone.

    Args:
        model: the autoencoder.
        representation: (B, 2, n_bins, T) clean representations x.
        t: (B,) the later times t_{i+1} in [0, 1].
        delta_t: step size of Eq. 13; or (B,), one for each item. A step of 1 has the clean input for its teacher.
        noise: like `representation`, unit variance.
        maps: the decoder's feature maps of these representations, if they are known.

    Returns:
        The student's and the teacher's output, both (B, 2, n_bins, T), and (B,) gaps sigma_{i+1} - sigma_i.
    """
    config = model.config
    sigma_next = sigma_from_t(t.float(), config)
    sigma = sigma_from_t((t.float() - delta_t).clamp(min=0.0), config)

    def noisy(level: Tensor) -> Tensor:
        return representation + level.reshape(-1, 1, 1, 1) * noise

    if maps is None:
        maps = model.decoder(model.encoder(representation))
    student = denoise(model.unet, noisy(sigma_next), sigma_next, maps, config)
    with torch.no_grad():
        teacher = noisy(sigma)
        # At sigma_min f is the identity (Eq. 2) whatever the network says, so it is not computed there.
        asked = (sigma > config.sigma_min).nonzero().flatten()
        if torch.compiler.is_compiling() or len(asked) == len(sigma):  # a graph has one shape
            teacher = denoise(model.unet, teacher, sigma, maps, config)
        elif len(asked):
            some = [level[asked] for level in maps]
            teacher[asked] = denoise(model.unet, teacher[asked], sigma[asked], some, config)
    return student, teacher, sigma_next - sigma


def consistency_loss(
    model: Music2Latent, representation: Tensor, t: Tensor, delta_t: float | Tensor, noise: Tensor
) -> Tensor:
    """Eq. 10-12: lambda d(student, teacher) of `consistency_outputs`, which explains the arguments.

    Returns:
        (B,) losses. An item with t = 0 has sigma_{i+1} = sigma_i and no defined weight: its loss is 0.
    """
    return weighted_distance(*consistency_outputs(model, representation, t, delta_t, noise))


def weighted_distance(student: Tensor, teacher: Tensor, gap: Tensor) -> Tensor:
    """lambda d(student, teacher) (Eq. 9, 12) of the outputs and (B,) gaps of `consistency_outputs`: (B,) losses."""
    return torch.where(gap > 0, pseudo_huber(student, teacher) / gap.clamp_min(1e-12), 0.0)


# --- what a recipe minimizes --------------------------------------------------------------------------------


class StepLoss(nn.Module):
    """Mean loss of a batch: the one call that DDP and torch.compile wrap."""

    def __init__(self, model: Music2Latent, settings: TrainingSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, representation: Tensor, t: Tensor, delta_t: float, noise: Tensor) -> Tensor:
        settings = self.settings
        maps = self.model.decoder(self.model.encoder(representation))
        # Times are 1 for the direct items alone: their teacher is the input itself.
        direct = (t >= 1) & (settings.direct_share > 0)
        steps = torch.where(direct, 1.0, delta_t)
        student, teacher, gap = consistency_outputs(self.model, representation, t, steps, noise, maps)
        losses = weighted_distance(student, teacher, gap)
        if settings.weighting == "output":
            losses = losses * output_weight(t, steps, self.model.config)
        losses = torch.where(direct, direction_distance(student, representation), losses)
        if settings.band_weight:
            losses = losses + settings.band_weight * band_distance(student, representation)
        if settings.level_weight:
            losses = losses + settings.level_weight * level_distance(student, representation)
        if settings.spectrum_weight:
            losses = losses + settings.spectrum_weight * spectrum_loss(maps[0], representation)
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

    Phases are noise to an untrained network, and so is the loss of Eq. 11 to its latents: a short run
    is over before they carry anything. Magnitudes are not, and an encoder and decoder that have learned to draw them
    hand the UNet a useful map from its first step on.

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
