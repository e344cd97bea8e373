"""`m2l-bench speed probe`: five seeds of the Table 1 probe in one pass, against five fits by scikit-learn.

The size is MagnaTagATune's: 15,000 clips, 8,192 features, 50 tags. Both sides train the same network on the
same float32 features for the same number of epochs with the same batch size (`--batch-sizes` sweeps it;
scikit-learn's default is 200); neither has a validation set. "bf16" keeps features and first-layer products in
bfloat16 (master weights and the rest in float32); the macro ROC-AUC on held-out items says what that costs.
"""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.errors import UsageError
from benchmarks.speed.timing import CLOCKS, Contest, Timing
from probes.mlp import training

N_SEEDS = 5
HIDDEN = (256, 128)
N_HELD_OUT = 500


def run(*, items: int, dim: int, epochs: int, batch_sizes: Sequence[int], repeats: int, clock: str) -> Contest:
    """The contest.

    Args:
        items: training items.
        dim: features.
        epochs: epochs of every fit.
        batch_sizes: items per step of both sides, one race each.
        repeats: times that each side runs, in turns.
        clock: "wall" or "cpu".

    Raises:
        UsageError: a batch of no items.
    """
    for batch in batch_sizes:
        if batch < 1:
            raise UsageError(f"--batch-sizes must be at least 1, not {batch}")
    n_tags = 50
    features, targets = make_data(items + N_HELD_OUT, dim, n_tags)
    train, held_out = np.arange(items), np.arange(items, items + N_HELD_OUT)
    print(f"{items} x {dim} features, {n_tags} tags, {epochs} epochs", file=sys.stderr)
    contest = Contest("Probe: all seeds in one pass against one fit after the other", clock)
    # one small fit each first: threads, allocators and kernels are then set up
    small = features[:400], targets[:400], np.arange(400)
    for precision in ("fp32", "bf16"):
        fit_ours(*small, 1, batch_sizes[0], precision)
    fit_sklearn(*small, 1, batch_sizes[0])
    for batch in batch_sizes:
        case = f"{items} x {dim}, {n_tags} tags, {N_SEEDS} seeds, {epochs} epochs, batch {batch}"
        fits = {
            "ours fp32": partial(fit_ours, features, targets, train, epochs, batch, "fp32"),
            "ours bf16": partial(fit_ours, features, targets, train, epochs, batch, "bf16"),
            "scikit-learn": partial(fit_sklearn, features, targets, train, epochs, batch),
        }
        race(contest, case, fits, (features[held_out], targets[held_out]), repeats)
    contest.notes.append(
        "auc: macro ROC-AUC on held-out items, mean over seeds. peak_memory_gib: of the process up to then, "
        "features included."
    )
    return contest


def race(
    contest: Contest,
    case: str,
    contestants: Mapping[str, Callable[[], list[Any]]],
    held_out: tuple[np.ndarray, np.ndarray],
    repeats: int,
) -> None:
    """Add the rows of one batch size: all sides in turns."""
    now = CLOCKS[contest.clock]
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    scores: dict[str, float] = {}
    memory: dict[str, float] = {}
    for _ in range(repeats):
        for name, fit in contestants.items():
            start = now()
            models = fit()
            seconds[name].append(now() - start)
            memory.setdefault(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
            scores[name] = held_out_auc(models, *held_out)
            print(f"{case}, {name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
    timings = {name: Timing(name, tuple(values)) for name, values in seconds.items()}
    for name in ("ours fp32", "ours bf16"):
        contest.add(
            case,
            timings[name],
            timings["scikit-learn"],
            auc=scores[name],
            rival_auc=scores["scikit-learn"],
            peak_memory_gib=memory[name],
        )


def make_data(n_items: int, dim: int, n_tags: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Float32 features of 64 hidden factors and noise, and 0/1 tags of the factors, 7 % positive."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n_items, 64), dtype=np.float32)
    features = rng.standard_normal((n_items, dim), dtype=np.float32)
    features += factors @ (0.3 * rng.standard_normal((64, dim), dtype=np.float32))
    hidden = factors @ rng.standard_normal((64, n_tags), dtype=np.float32)
    return features, (hidden > np.quantile(hidden, 0.93, axis=0)).astype(np.uint8)


def fit_ours(
    features: np.ndarray, targets: np.ndarray, train: np.ndarray, epochs: int, batch: int, precision: str
) -> list[Any]:
    """Five seeds in one pass."""
    config = training.ProbeConfig(
        hidden_units=HIDDEN, batch_size=batch, max_epochs=epochs, patience=epochs, select_on="last", precision=precision
    )
    nothing = np.arange(0)
    jobs = [training.ProbeJob(targets, targets.shape[1], train, nothing, seed) for seed in range(N_SEEDS)]
    return list(training.train_probes(features, jobs, config))


def fit_sklearn(features: np.ndarray, targets: np.ndarray, train: np.ndarray, epochs: int, batch: int) -> list[Any]:
    """Five fits, one after the other."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(N_SEEDS):
            model = MLPClassifier(HIDDEN, batch_size=batch, max_iter=epochs, n_iter_no_change=epochs, random_state=seed)
            models.append(model.fit(features[: len(train)], targets[: len(train)]))
    return models


def held_out_auc(models: Sequence[Any], features: np.ndarray, targets: np.ndarray) -> float:
    """Macro ROC-AUC, mean over models."""
    from sklearn.metrics import roc_auc_score

    return float(np.mean([roc_auc_score(targets, model.predict_proba(features)) for model in models]))
