"""The benchmark that compares music autoencoders: Tables 2 and 3 and Figure 2 of the paper.

    import benchmarks
    found = benchmarks.evaluate(model, suite="synthetic")      # your autoencoder beside a suite's baselines
    found.table, found.scores, found.comparisons               # data frames; found.report("folder") writes HTML
    benchmarks.score("originals", "outputs")                   # the files of two folders, one row per file and metric
    benchmarks.load_scores("open")                             # scores of single clips that a suite's tables rest on

Names are imported on first use, so `import benchmarks` alone loads nothing else.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

import m2l  # noqa: F401  (what it does after a fork holds for torch here, too)

if TYPE_CHECKING:
    from benchmarks.compare.evaluate import evaluate
    from benchmarks.compare.score import score
    from benchmarks.latents.measure import latent_statistics
    from benchmarks.tables.scores import load_scores

_LAZY = {
    "evaluate": "benchmarks.compare.evaluate:evaluate",
    "latent_statistics": "benchmarks.latents.measure:latent_statistics",
    "load_scores": "benchmarks.tables.scores:load_scores",
    "score": "benchmarks.compare.score:score",
}

__all__ = ["evaluate", "latent_statistics", "load_scores", "score"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return pkgutil.resolve_name(_LAZY[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
