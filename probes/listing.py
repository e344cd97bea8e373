"""What `m2l-bench probe list` shows; names only unless it is asked to check, so that no model is imported."""

from __future__ import annotations

from probes.representations import ALIASES, create_representation, list_representations, split_name
from probes.tasks import create_task, list_tasks


def listing(kind: str, check: bool = False) -> dict[str, str]:
    """Name -> remark of all tasks, representations or protocols.

    Args:
        kind: "tasks", "representations" or "protocols".
        check: also say whether the data or weights are available on this machine (reads them).
    """
    if kind == "protocols":
        # their settings are documented in probes.protocol; importing it would import torch
        return {
            "mir_ref-1": "as the published Table 1: raw features, one split; batches of 64 for Beatport and TinySOL, "
            "as mir_ref's 1,083 would leave nothing of their test parts",
            "strict-1": "standardized, folds, disjoint groups, linear and kNN probes",
        }
    if kind == "tasks":
        return {name: _task_remark(name) if check else "" for name in list_tasks()}
    return {name: _representation_remark(name) if check else ALIASES.get(name, "") for name in list_representations()}


def _task_remark(name: str) -> str:
    try:
        task = create_task(name)
        return f"available: {len(task.load().clips)} clips"
    except (OSError, ValueError) as error:
        return f"missing: {error}"


def _representation_remark(name: str) -> str:
    try:
        create_representation(split_name(name)[0])
        return "available"
    except (OSError, ImportError, ValueError) as error:
        return f"missing: {error}"
