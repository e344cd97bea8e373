"""Overlapping windows over a signal of any length, and the cross-fades that join them again.

Positions are counted in latents of the whole signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

#: Latents that two windows cross-fade over (0.74 s), and that each has beyond the fade (1.1 s).
RAMP_LATENTS = 8
CONTEXT_LATENTS = 12
OVERLAP_LATENTS = RAMP_LATENTS + 2 * CONTEXT_LATENTS


@dataclass(frozen=True)
class Window:
    """Latents [start, stop), and where to fade in from the previous window and out into the next."""

    start: int
    stop: int
    fade_in: tuple[int, int] | None = None
    fade_out: tuple[int, int] | None = None


def plan_windows(known: Callable[[int], int], size: int, overlap: int = OVERLAP_LATENTS) -> Iterator[Window]:
    """Windows over a signal whose length need not be known beforehand.

    All have exactly `size` latents, the last one by reaching further back, for a short window would have less
    to normalize over; only a signal that fits into one window gives a shorter one.

    Args:
        known: `known(n)` is min(n, length of the signal in latents); it may read ahead to find out.
        size: latents per window.
        overlap: latents that neighbors share at least.

    Raises:
        ValueError: if `size` is not above twice the overlap.
    """
    if size <= 2 * overlap:
        raise ValueError(f"a window of {size} latents is too short for an overlap of {overlap}; use over {2 * overlap}")
    start, stop, fade_in = 0, known(size), None
    while True:
        ahead = known(stop + size - overlap)
        if ahead == stop:
            yield Window(start, stop, fade_in)
            return
        following = ahead - size
        middle = (following + stop) // 2
        fade_out = (middle - RAMP_LATENTS // 2, middle + RAMP_LATENTS // 2)
        yield Window(start, stop, fade_in, fade_out)
        start, stop, fade_in = following, ahead, fade_out


def join_windows(parts: Iterable[tuple[Window, Tensor]], unit: int = 1) -> Iterator[Tensor]:
    """Cross-fade neighboring windows into one signal.

    Args:
        parts: windows in order, each with its (…, n) signal; position 0 of that is at `window.start`.
        unit: signal positions per latent.

    Yields:
        Consecutive pieces (…, n) of the whole.
    """
    tail: Tensor | None = None
    for window, signal in parts:
        origin = window.start * unit
        begin = 0
        if window.fade_in is not None and tail is not None:
            begin, end = (edge * unit - origin for edge in window.fade_in)
            # Both sides carry the same signal, so amplitudes (not powers) add up to one; the cosine has no kink.
            position = (torch.arange(end - begin, dtype=torch.float32, device=signal.device) + 0.5) / (end - begin)
            rising = (1 - torch.cos(torch.pi * position)) / 2
            yield tail * (1 - rising) + signal[..., begin:end] * rising
            begin = end
        if window.fade_out is None:
            yield signal[..., begin:]
            return
        end, last = (edge * unit - origin for edge in window.fade_out)
        yield signal[..., begin:end]
        tail = signal[..., end:last].clone()
