"""What latents are like, in closed forms of arrays `(dim, frames)`.

Linearity follows Torres et al. 2025 (arXiv 2510.23530), effective rank Roy and Vetterli 2007. Errors are relative:
the norm of the difference over the norm of what a linear encoder would give, over all clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def spread(clips: Sequence[np.ndarray]) -> dict[str, float]:
    """Statistics of continuous latents, `(dim, frames)` per clip.

    Returns:
        `deviation` (mean over dimensions), `deviation_min`, `deviation_max`; `kl`, the divergence of each dimension's
        normal from N(0, 1) in nats, mean over dimensions (infinite where one is constant); `effective_rank`, the
        exponential of the entropy of the covariance's eigenvalues, from 1 to dim; `smoothness`, 1 minus the mean
        squared step over twice the variance: 1 for a constant, 0 for white noise, the correlation of successive
        frames where it is the same throughout.

    Raises:
        ValueError: fewer than two frames in all.
    """
    frames = np.concatenate([np.asarray(clip, np.float64) for clip in clips], axis=1)
    if frames.shape[1] < 2:
        raise ValueError(f"{frames.shape[1]} latent frames, at least 2 needed")
    means, variances = frames.mean(axis=1), frames.var(axis=1)
    with np.errstate(divide="ignore"):
        kl = 0.5 * (variances + means**2 - 1 - np.log(variances))
    steps = [np.square(np.diff(np.asarray(clip, np.float64), axis=1)) for clip in clips if clip.shape[1] > 1]
    step = np.concatenate(steps, axis=1).sum(axis=0).mean() if steps else np.nan
    total = variances.sum()
    deviations = np.sqrt(variances)
    return {
        "deviation": float(deviations.mean()),
        "deviation_min": float(deviations.min()),
        "deviation_max": float(deviations.max()),
        "kl": float(kl.mean()),
        "effective_rank": effective_rank(np.cov(frames, bias=True).reshape(len(frames), len(frames))),
        "smoothness": float(1 - step / (2 * total)) if total else 1.0,
    }


def effective_rank(covariance: np.ndarray) -> float:
    """Exponential of the entropy of the normalized eigenvalues; 0 for a covariance of zeros."""
    values = np.linalg.eigvalsh(covariance).clip(0)
    shares = values[values > 0] / values.sum() if values.any() else np.empty(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if shares.size else 0.0


def relative_error(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Norm of (found - expected) over the norm of `expected`, over all pairs (found, expected)."""
    difference = whole = 0.0
    for found, expected in pairs:
        difference += float(np.square(np.asarray(found, np.float64) - expected).sum())
        whole += float(np.square(np.asarray(expected, np.float64)).sum())
    return float(np.sqrt(difference / whole)) if whole else float("nan")


def code_statistics(clips: Sequence[np.ndarray]) -> dict[str, float]:
    """Statistics of codes, integers `(codebooks, frames)` per clip.

    Returns:
        `used`, distinct codes per codebook; `entropy`, bits per code of each codebook's own frequencies; both are means
        over the codebooks. `perplexity` is 2 to that entropy: as many codes in equal use.
    """
    counts = [np.unique(row, return_counts=True)[1] for row in np.concatenate(clips, axis=1)]
    shares = [count / count.sum() for count in counts]
    entropy = float(np.mean([-(share * np.log2(share)).sum() for share in shares]))
    return {
        "codebooks": float(len(counts)),
        "used": float(np.mean([len(count) for count in counts])),
        "entropy": entropy,
        "perplexity": float(2**entropy),
    }
