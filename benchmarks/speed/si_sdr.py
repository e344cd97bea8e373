"""`m2l-bench speed si-sdr`: our float64 SI-SDR against torchmetrics' formula in float32.

torchmetrics itself races if it is installed; otherwise its formula written out in torch, which the table
says. Errors are against a reference in 80-bit floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.metrics.si_sdr import si_sdr
from benchmarks.speed.timing import Contest, alternate


def formula(preds: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """torchmetrics 1.9's scale_invariant_signal_distortion_ratio with zero_mean=True."""
    eps = torch.finfo(preds.dtype).eps
    target = target - target.mean(dim=-1, keepdim=True)
    preds = preds - preds.mean(dim=-1, keepdim=True)
    alpha = ((preds * target).sum(dim=-1, keepdim=True) + eps) / ((target**2).sum(dim=-1, keepdim=True) + eps)
    scaled = alpha * target
    noise = scaled - preds
    return 10 * torch.log10(((scaled**2).sum(dim=-1) + eps) / ((noise**2).sum(dim=-1) + eps))


def rival() -> tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """torchmetrics' function if it imports, else `formula`; with its name for the table."""
    try:
        from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as function
    except (ImportError, OSError, RuntimeError):
        return "torchmetrics' formula in torch", formula
    return "torchmetrics", lambda preds, target: function(preds, target, zero_mean=True)


def exact(preds: np.ndarray, target: np.ndarray) -> float:
    """The definition in extended precision (80 bits on x86)."""
    p, t = preds.astype(np.longdouble), target.astype(np.longdouble)
    p, t = p - p.mean(), t - t.mean()
    scaled = t * ((p * t).sum() / (t * t).sum())
    return float(10 * np.log10((scaled**2).sum() / ((p - scaled) ** 2).sum()))


def run(*, seconds: float, snr: Sequence[float], repeats: int, clock: str) -> Contest:
    """The contest.

    Args:
        seconds: length of the clip at 44.1 kHz.
        snr: signal-to-noise ratios in dB, one case each.
        repeats: timed turns of each side.
        clock: "wall" or "cpu".
    """
    rng = np.random.Generator(np.random.PCG64(0))
    target = (0.1 * rng.standard_normal(int(seconds * 44100))).astype(np.float32)
    name, function = rival()
    contest = Contest(f"SI-SDR of a {seconds:g} s mono clip, float32 in", clock)
    for level in snr:
        noise = 0.1 * 10 ** (-level / 20) * rng.standard_normal(len(target))
        preds = (target + noise).astype(np.float32)
        tensors = torch.from_numpy(preds), torch.from_numpy(target)
        timings, results = alternate(
            {"m2l": partial(si_sdr, preds, target), name: partial(function, *tensors)}, repeats=repeats, clock=clock
        )
        truth = exact(preds, target)
        contest.add(
            f"{level:g} dB",
            timings["m2l"],
            timings[name],
            ours_error_db=abs(results["m2l"] - truth),
            rival_error_db=abs(float(results[name]) - truth),
        )
    contest.notes.append("Errors are against the definition in 80-bit floats.")
    return contest
