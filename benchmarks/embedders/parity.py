"""The environment of frechet-audio-distance and laion-clap, which `make parity` builds beside the product's own."""

from __future__ import annotations

import os
from pathlib import Path

from m2l.io.json_files import read_object

#: What the build leaves in the environment once its packages import: their versions.
RECORD = "m2l-parity.json"
_DEFAULT = Path(__file__).resolve().parents[2] / ".venv-parity"


def parity_folder() -> Path:
    """The environment's folder: `M2L_PARITY`, or `.venv-parity` in the checkout."""
    return Path(os.environ.get("M2L_PARITY") or _DEFAULT).expanduser()


def parity_versions() -> dict[str, str]:
    """Package -> version in the environment; empty if it has not been built."""
    try:
        record = read_object(parity_folder() / RECORD, ValueError)
    except (OSError, ValueError):
        return {}
    return {str(name): str(version) for name, version in record.items()}


def parity_missing() -> str:
    """Why the environment cannot be used, and the command that builds it; empty if it can."""
    if parity_versions() and (parity_folder() / "bin" / "python").exists():
        return ""
    return (
        "no environment with frechet-audio-distance and laion-clap (.venv-parity, or M2L_PARITY=DIR). "
        "To build it: make parity"
    )
