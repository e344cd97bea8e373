"""The benchmark that compares music autoencoders: Tables 2 and 3 and Figure 2 of the paper.

`benchmarks.load_scores(suite)` gives the scores of single clips as a data frame, `benchmarks.score(originals, outputs)`
those of the files of two folders.
"""

import pkgutil
from typing import Any

import m2l  # noqa: F401  (what it does after a fork holds for torch here, too)

_LAZY = {"load_scores": "benchmarks.tables.scores:load_scores", "score": "benchmarks.compare.score:score"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return pkgutil.resolve_name(_LAZY[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
