"""`m2l-bench speed --probe`: five seeds of the Table 1 probe in one pass, against five fits by scikit-learn.

The size is MagnaTagATune's: 15,000 clips, 8,192 features, 50 tags. Both sides train the same network on the
same float32 features for the same number of epochs with the same batch size (`--batch-sizes` sweeps it;
scikit-learn's default is 200); neither has a validation set. "bf16" keeps features and first-layer products in
bfloat16 (master weights and the rest in float32); the macro ROC-AUC on held-out items says what that costs.
"""

from __future__ import annotations

import argparse
import resource
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.timing import CLOCKS, Contest, Timing

N_SEEDS = 5
HIDDEN = (256, 128)
N_HELD_OUT = 500


def main(argv: Sequence[str] | None = None) -> int:
    """Run the contest; returns 0."""
    parser = _parser()
    options = parser.parse_args(argv)
    for batch in options.batch_sizes:
        if batch < 1:
            parser.error(f"--batch-sizes must be at least 1, not {batch}")
    n_items, dim, n_tags = (2000, 1024, 50) if options.quick else (options.items, options.dim, 50)
    features, targets = make_data(n_items + N_HELD_OUT, dim, n_tags)
    train, held_out = np.arange(n_items), np.arange(n_items, n_items + N_HELD_OUT)
    print(f"{n_items} x {dim} features, {n_tags} tags, {options.epochs} epochs", file=sys.stderr)
    contest = Contest("Probe: all seeds in one pass against one fit after the other", options.clock)
    # one small fit each first: threads, allocators and kernels are then set up
    small = features[:400], targets[:400], np.arange(400)
    for precision in ("fp32", "bf16"):
        fit_ours(*small, 1, options.batch_sizes[0], precision)
    fit_sklearn(*small, 1, options.batch_sizes[0])
    for batch in options.batch_sizes:
        case = f"{n_items} x {dim}, {n_tags} tags, {N_SEEDS} seeds, {options.epochs} epochs, batch {batch}"
        race(contest, case, features, targets, train, held_out, batch, options)
    contest.notes.append(
        "auc: macro ROC-AUC on held-out items, mean over seeds. peak_memory_gib: of the process up to then, "
        "features included."
    )
    contest.show(options.json)
    return 0


def race(
    contest: Contest,
    case: str,
    features: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    batch: int,
    options: argparse.Namespace,
) -> None:
    """Add the rows of one batch size: all sides in turns."""
    now = CLOCKS[options.clock]
    contestants: dict[str, Callable[[], list[Any]]] = {
        "ours fp32": lambda: fit_ours(features, targets, train, options.epochs, batch, "fp32"),
        "ours bf16": lambda: fit_ours(features, targets, train, options.epochs, batch, "bf16"),
        "scikit-learn": lambda: fit_sklearn(features, targets, train, options.epochs, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    scores: dict[str, float] = {}
    memory: dict[str, float] = {}
    for _ in range(options.repeats):
        for name, fit in contestants.items():
            start = now()
            models = fit()
            seconds[name].append(now() - start)
            memory.setdefault(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
            scores[name] = held_out_auc(models, features[held_out], targets[held_out])
            print(f"batch {batch}, {name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="m2l-bench speed --probe", description=__doc__)
    add = parser.add_argument
    add("--items", type=int, default=15000, help="training items (15000)")
    add("--dim", type=int, default=8192, help="features (8192)")
    add("--epochs", type=int, default=3, help="epochs of every fit (3)")
    add("--batch-sizes", "--batch-size", type=int, nargs="+", default=[200], metavar="N",
        help="items per step of both, one race each (200, scikit-learn's default)")  # fmt: skip
    add("--repeats", type=int, default=1, help="times each side runs, in turns (1)")
    add("--clock", default="wall", choices=("wall", "cpu"), help="what is measured (wall)")
    add("--quick", action="store_true", help="a small size: 2000 x 1024")
    add("--json", action="store_true", help="JSON on stdout")
    return parser


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
    # probes imports benchmarks: by name, so that no module of benchmarks depends on it
    from importlib import import_module

    training = import_module("probes.mlp.training")
    config = training.ProbeConfig(
        hidden_units=HIDDEN,
        batch_size=batch,
        max_epochs=epochs,
        patience=epochs,
        select_on="last",
        precision=precision,
    )
    nothing = np.arange(0)
    jobs = [training.ProbeJob(targets, targets.shape[1], train, nothing, seed) for seed in range(N_SEEDS)]
    return list(training.train_probes(features, jobs, config))


def fit_sklearn(
    features: np.ndarray, targets: np.ndarray, train: np.ndarray, epochs: int, batch: int
) -> list[Any]:
    """Five fits, one after the other."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in range(N_SEEDS):
            model = MLPClassifier(
                HIDDEN, batch_size=batch, max_iter=epochs, n_iter_no_change=epochs, random_state=seed
            )
            models.append(model.fit(features[: len(train)], targets[: len(train)]))
    return models


def held_out_auc(models: Sequence[Any], features: np.ndarray, targets: np.ndarray) -> float:
    """Macro ROC-AUC, mean over models."""
    from sklearn.metrics import roc_auc_score

    return float(np.mean([roc_auc_score(targets, model.predict_proba(features)) for model in models]))


if __name__ == "__main__":
    sys.exit(main())
