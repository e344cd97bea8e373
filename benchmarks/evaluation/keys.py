"""What the content keys of units hold beside their clips: code, libraries, weights."""

from __future__ import annotations

from functools import cache
from typing import Any

from benchmarks.embedders import embedder_spec
from benchmarks.store.fingerprint import code_digest, library_versions, module_digest

#: Versions of the stages, raised by hand when what one writes changes without its code showing it.
STAGE_VERSIONS = {"load": 2, "reconstruct": 1, "score": 1, "embed": 1, "aggregate": 1}


def stage_spec(stage: str) -> dict[str, Any]:
    """What every unit of a stage depends on: the stage's version and code, and the numerical libraries."""
    shared = ("m2l.audio", "benchmarks.statistics.multiple") if stage == "aggregate" else ("m2l.audio",)
    return {
        "version": STAGE_VERSIONS[stage],
        "code": [module_digest("benchmarks.evaluation.stages"), code_digest(*shared)],
        "libraries": library_versions(),
    }


@cache
def embedder_identity(name: str) -> dict[str, Any]:
    """What decides an embedder's numbers, its code included."""
    spec = embedder_spec(name)
    return spec | {"code": code_digest(spec["target"].partition(":")[0])}
