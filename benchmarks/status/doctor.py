"""What is installed, which weights and data are available, and what each missing cell needs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.datasets import create_dataset, list_datasets
from benchmarks.embedders.parity import parity_versions
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.run import RunOptions, RunReport
from benchmarks.store.store import Store
from benchmarks.suite import load_suite
from benchmarks.tables.build import build_part
from benchmarks.weights.find import has_weight
from benchmarks.weights.table import WEIGHTS
from m2l.io.cache import cache_dir

CORE = ("torch", "numpy", "scipy", "soundfile", "soxr", "numba", "scikit-learn", "transformers", "safetensors")
OPTIONAL = {
    "distributed": "executor dask: pip install 'm2l[dask]'",
    "ray": "executor ray: pip install 'm2l[ray]'",
    "h5py": "Musika's weights: pip install 'm2l[h5]'",
    "ai-edge-litert": "Lyra v2: pip install 'm2l[lyra]'",
    "diffusers": "newer VAEs: pip install 'm2l[diffusers]'",
    "frechet-audio-distance": "back end of FAD and FAD_clap, in an environment of its own: make parity",
}


def examine(suite_name: str) -> dict[str, Any]:
    """Everything the report says, as a dictionary."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "packages": {name: _version(name) for name in CORE},
        "optional": {name: parity_versions().get(name) or _version(name) for name in OPTIONAL},
        "folders": {
            "cache": str(cache_dir()),
            "store": str(Store().root),
            "data (M2L_DATA)": os.environ.get("M2L_DATA") or "not set",
        },
        "weights": _weights(),
        "suite": suite_name,
        "datasets": _datasets(),
        "missing_cells": missing_cells(suite_name),
    }


def missing_cells(suite_name: str) -> dict[str, list[str]]:
    """Reason -> cells ("table2: system x metric") that cannot be measured for it.

    Every table is built as in a dry run; what is merely not computed yet is not missing.
    """
    suite, store, options = load_suite(suite_name), Store(), RunOptions(dry_run=True, quiet=True)
    reasons: dict[str, list[str]] = {}
    for name in suite.tables:
        report = RunReport()
        build_part(name, suite, store, SerialExecutor(), options, report)
        for (row, column), reason in report.blocked.items():
            reasons.setdefault(reason, []).append(f"{name}: {row} x {column}")
    return reasons


def describe(found: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"Python {found['python']}, {found['machine']}", "", "Packages"]
    lines += [f"  {name:24} {value or 'MISSING'}" for name, value in found["packages"].items()]
    for name, value in found["optional"].items():
        lines.append(f"  {name:24} {value or 'not installed (' + OPTIONAL[name] + ')'}")
    lines += ["", "Folders"] + [f"  {name:24} {value}" for name, value in found["folders"].items()]
    lines += ["", "Weights"]
    for name, state in found["weights"].items():
        mark = "present" if state["present"] else f"missing: m2l-bench fetch {name}"
        lines.append(f"  {name:44} {mark}  ({state['used_for']}; {state['license']})")
    lines += ["", "Data sets"]
    lines += [f"  {name:24} {state}" for name, state in found["datasets"].items()]
    lines += ["", f"Suite {found['suite']}"]
    if not found["missing_cells"]:
        lines.append("  every cell can be measured")
    for reason, cells in found["missing_cells"].items():
        shown = ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
        lines.append(f"  {len(cells)} missing: {reason}\n      {shown}")
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _weights() -> dict[str, dict[str, Any]]:
    found = {}
    for name, source in WEIGHTS.items():
        present, reason = has_weight(name)
        found[name] = {"present": present, "reason": reason, "used_for": source.used_for, "license": source.license}
    return found


def _datasets() -> dict[str, str]:
    found = {}
    for name in list_datasets():
        if name == "folder":
            continue
        try:
            clips = create_dataset(name).clips()
            found[name] = f"{len(clips)} clips"
        except FileNotFoundError as error:
            found[name] = f"missing: {error}"
        except ModuleNotFoundError as error:
            found[name] = f"not in this installation ({error.name})"
    return found
