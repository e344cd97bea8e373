"""`train_probes`: many small MLPs on one feature matrix, checked first, then trained in stacks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from probes.mlp.config import ProbeConfig
from probes.mlp.models import ProbeJob, TrainedProbe, balance, batch_order, glorot_layers
from probes.mlp.stack import Stack

__all__ = ["ProbeConfig", "ProbeJob", "TrainedProbe", "batch_order", "check_inputs", "glorot_layers", "train_probes"]


def check_inputs(features: np.ndarray, jobs: Sequence[ProbeJob], config: ProbeConfig) -> None:
    """Refuse what would train to nonsense.

    Raises:
        ValueError: features that are not a finite (n_items, dim) matrix, targets of another length, an
            empty split, or a training split that holds a single class.
    """
    if features.ndim != 2:
        raise ValueError(f"features must be (n_items, dim), got shape {features.shape}")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise ValueError(f"features of {bad.size} items are not finite, the first is item {bad[0]}")
    if not jobs:
        raise ValueError("no probes to train")
    for job in jobs:
        if len(job.targets) != len(features):
            raise ValueError(f"{len(job.targets)} targets for {len(features)} items")
        if job.targets.ndim == 2 and job.targets.shape[1] != job.n_outputs:
            raise ValueError(f"targets have {job.targets.shape[1]} columns, n_outputs is {job.n_outputs}")
        if job.regression and not np.isfinite(job.targets[job.train]).all():
            raise ValueError("targets to regress on must be finite")
        if job.targets.ndim == 1 and (job.targets.min() < 0 or job.targets.max() >= job.n_outputs):
            raise ValueError(f"class numbers must lie in 0..{job.n_outputs - 1}, got {job.targets.max()}")
        if not len(job.train):
            raise ValueError("the training split is empty")
        if job.targets.ndim == 1 and len(np.unique(job.targets[job.train])) < 2:
            raise ValueError(f"the training split holds one class only: {job.targets[job.train][0]}")
        needs_validation = config.select_on != "last" or config.patience < config.max_epochs
        if needs_validation and not len(job.validation):
            raise ValueError("the validation split is empty, and training stops or selects on it")


def train_probes(
    features: np.ndarray,
    jobs: Sequence[ProbeJob],
    config: ProbeConfig | None = None,
    *,
    device: str = "cpu",
    memory: float = 1.5e9,
    initial: Sequence[list[tuple[np.ndarray, np.ndarray]]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[TrainedProbe]:
    """Train all `jobs` on one feature matrix, as many at a time as `memory` allows.

    Args:
        features: (n_items, dim) float32, finite.
        jobs: the models; they may differ in targets, splits, seed and learning rate.
        config: shared settings.
        device: where to train.
        memory: bytes the stacked weights, their Adam moments and batches may take.
        initial: layers to begin with in place of `glorot_layers(…, job.seed)`, one list per job.
        progress: called with (epoch, models still training) after every epoch.

    Returns:
        One `TrainedProbe` per job, in order.

    Raises:
        ValueError: see `check_inputs`.
    """
    config = config or ProbeConfig()
    features = np.ascontiguousarray(features, dtype=np.float32)
    check_inputs(features, jobs, config)
    sizes = [features.shape[1], *config.hidden_units, max(job.n_outputs for job in jobs)]
    n_weights = sum(a * b + b for a, b in itertools.pairwise(sizes))
    # weights, two moments, gradient, best epoch, bf16 copies; and the gathered batch
    bytes_each = 4 * (6 * n_weights + 2 * config.batch_size * sum(sizes))
    at_once = max(1, int(memory // bytes_each))
    factors = balance(features) if config.standardize else None
    data = torch.from_numpy(features if factors is None else features * factors).to(device)
    trained: list[TrainedProbe] = []
    for start in range(0, len(jobs), at_once):
        part = slice(start, start + at_once)
        stack = Stack(data, list(jobs[part]), config, initial[part] if initial is not None else None)
        trained += stack.fit(progress)
    for probe in trained:
        probe.factors = factors
    return trained
