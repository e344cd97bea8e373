"""Probing of representations with small MLPs: Table 1 of the paper.

    import probes
    found = probes.evaluate(model, tasks="synthetic-pitch")   # your representation beside others
    found.table, found.scores, found.predictions              # data frames, in percent

Names are imported on first use, so `import probes` alone loads nothing else.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

import m2l  # noqa: F401  (what it does after a fork holds for torch here, too)

if TYPE_CHECKING:
    from probes.evaluation import evaluate
    from probes.tasks import create_task, list_tasks

_LAZY = {
    "create_task": "probes.tasks:create_task",
    "evaluate": "probes.evaluation:evaluate",
    "list_tasks": "probes.tasks:list_tasks",
}

__all__ = ["create_task", "evaluate", "list_tasks"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return pkgutil.resolve_name(_LAZY[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
