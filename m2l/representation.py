"""Waveform <-> amplitude-compressed complex STFT (Sec. 4.1, Eq. 5).

A waveform (…, S) becomes (…, 2, n_bins, T): real and imaginary part of `beta * |c|^alpha * exp(i angle(c))`,
with T = (S - n_fft) // hop + 1 frames, no center padding, and the Nyquist bin dropped (so the inverse cannot
restore energy exactly at half the sample rate; the published code does the same).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from m2l.config import Music2LatentConfig


def n_frames(n_samples: int, config: Music2LatentConfig) -> int:
    """STFT frames in a waveform of `n_samples` (0 if it is shorter than one window)."""
    return max(0, (n_samples - config.n_fft) // config.hop_length + 1)


def n_samples(frames: int, config: Music2LatentConfig) -> int:
    """Samples spanned by `frames` STFT frames: hop * frames + 3 hops."""
    return config.hop_length * frames + config.n_fft - config.hop_length


# Kept tensors outlive the call that made them: it may run in inference mode, and the next one need gradients.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def window(n_fft: int, device: torch.device) -> Tensor:
    """The window of the analysis, (n_fft,): Hann, periodic."""
    return torch.hann_window(n_fft, periodic=True, dtype=torch.float32, device=device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def synthesis_window(n_fft: int, hop: int, device: torch.device) -> Tensor:
    """The window of the inverse, (n_fft,)."""
    # w / sum of the w^2 of all frames that cover a sample: analysis then synthesis is the identity wherever
    # n_fft / hop frames overlap.
    analysis = window(n_fft, device)
    overlap = (analysis**2).reshape(-1, hop).sum(0)
    return analysis / overlap.repeat(n_fft // hop)


def waveform_to_representation(waveform: Tensor, config: Music2LatentConfig) -> Tensor:
    """Eq. 5 on the STFT.

    Args:
        waveform: (…, S) real, S >= n_fft.
        config: gives hop, n_fft, alpha and beta.

    Returns:
        (…, 2, n_bins, T) float32: real part first.

    Raises:
        ValueError: if the waveform is shorter than one window.
    """
    if waveform.shape[-1] < config.n_fft:
        raise ValueError(f"waveform of {waveform.shape[-1]} samples is shorter than one window ({config.n_fft})")
    waveform = waveform.float()
    frames = waveform.unfold(-1, config.n_fft, config.hop_length) * window(config.n_fft, waveform.device)
    spectrum = torch.fft.rfft(frames)[..., : config.n_bins].transpose(-1, -2)
    # beta |c|^alpha e^{i angle} = c * beta |c|^(alpha-1); a bin that is exactly 0 stays 0.
    parts = torch.view_as_real(spectrum)
    power = parts.square().sum(-1, keepdim=True)
    gain = config.beta * power.clamp_min(torch.finfo(torch.float32).tiny).pow((config.alpha - 1) / 2)
    return (parts * gain).movedim(-1, -3).contiguous()


def representation_to_waveform(representation: Tensor, config: Music2LatentConfig) -> Tensor:
    """Inverse of `waveform_to_representation`, clamped to [-1, 1].

    Args:
        representation: (…, 2, n_bins, T).
        config: as given to the forward transform.

    Returns:
        (…, hop * T + 3 hop) float32. The first and last 3 hops are covered by fewer frames than the rest and
        fade in and out.
    """
    parts = (representation.float() / config.beta).movedim(-3, -1)
    power = parts.square().sum(-1, keepdim=True)
    # |c| = |c~|^(1/alpha): scale by |c~|^(1/alpha - 1). At 0, where that is 0, its slope is infinite.
    gain = power.clamp_min(torch.finfo(torch.float32).tiny).pow((1 / config.alpha - 1) / 2)
    spectrum = torch.view_as_complex((parts * gain).contiguous()).transpose(-1, -2)
    # n makes irfft supply the dropped Nyquist bin as zero.
    frames = torch.fft.irfft(spectrum, n=config.n_fft)
    frames = frames * synthesis_window(config.n_fft, config.hop_length, frames.device)
    return overlap_add(frames, config.hop_length).clamp(-1.0, 1.0)


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Sum frames (…, T, N) placed `hop` samples apart; N must be a multiple of `hop`.

    Returns:
        (…, hop * (T - 1) + N).
    """
    *leading, count, length = frames.shape
    segments = length // hop
    out = frames.new_zeros((*leading, count + segments - 1, hop))
    # Few adds of long slices: one per segment of a frame, not one per frame.
    for index in range(segments):
        out[..., index : index + count, :] += frames[..., index * hop : (index + 1) * hop]
    return out.flatten(-2)
