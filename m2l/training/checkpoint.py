"""Checkpoints of a run: `step-00001000/` with the averaged model and all that resuming needs.

A folder is written under another name and renamed when it is complete, so what bears the name is whole:

* `config.json`, `model.safetensors`: the EMA weights, as `Music2Latent.from_pretrained` reads them;
* `training.safetensors`, `training.json`: raw weights, optimiser state, step, the last losses. No pickles.

All randomness of training comes from (seed, step, item), so there are no generators to save.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from m2l.files import write_bytes
from m2l.loading import CheckpointError, write_checkpoint
from m2l.model import Music2Latent

_FOLDER = re.compile(r"step-(\d{8})")
STATE_FILE, STEP_FILE = "training.safetensors", "training.json"


@dataclass
class TrainingState:
    """All that changes while training."""

    model: Music2Latent
    ema: Music2Latent
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    #: Losses that the next ones are compared with.
    recent: deque[float]
    step: int = 0


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [path for path in run.glob("step-*") if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: path.name)


def step_of(checkpoint: Path) -> int:
    """Optimiser steps a checkpoint has seen."""
    match = _FOLDER.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def save_checkpoint(run: Path, state: TrainingState) -> Path:
    """Write the checkpoint of `state.step`; returns its folder."""
    target = run / f"step-{state.step:08d}"
    partial = run / f".{target.name}.part"
    for leftover in run.glob(".step-*.part"):  # of a killed run
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        write_checkpoint(partial, state.ema.config, state.ema.state_dict())
        tensors, plain = _flatten(state)
        write_bytes(partial / STATE_FILE, save(tensors))
        write_bytes(partial / STEP_FILE, json.dumps(plain, indent=2).encode() + b"\n")
        if target.exists():  # the same step of a run that went back: same content
            shutil.rmtree(target)
        os.replace(partial, target)
    except BaseException:  # a full disk stays full with half a checkpoint on it
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def prune(run: Path, keep: int, milestone: int | None = None) -> None:
    """Remove all but the last `keep` checkpoints and those whose step is a multiple of `milestone`."""
    for path in list_checkpoints(run)[:-keep]:
        if not (milestone and step_of(path) % milestone == 0):
            shutil.rmtree(path)


def load_checkpoint(path: Path, state: TrainingState) -> None:
    """Put a checkpoint's content into `state`.

    Raises:
        CheckpointError: if a file is missing or damaged, or belongs to another model.
    """
    try:
        tensors = load_file(path / STATE_FILE)
        plain = json.loads((path / STEP_FILE).read_text(encoding="utf-8"))
        average = load_file(path / "model.safetensors")
        state.model.load_state_dict(_part(tensors, "model."))
        state.ema.load_state_dict(average)
        state.optimiser.load_state_dict(_optimiser_state(tensors, state.optimiser))
        _own_memory(state.optimiser)
        state.scaler.load_state_dict(plain["scaler"])
        state.recent.extend(plain.get("recent_losses", ()))
        state.step = int(plain["step"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"cannot resume from {path}: {error}") from error


def _flatten(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    for index, values in state.optimiser.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
    plain = {"step": state.step, "scaler": state.scaler.state_dict(), "recent_losses": list(state.recent)}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, plain


def _optimiser_state(tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimiser.").items():
        index, _, field = name.partition(".")
        values.setdefault(int(index), {})[field] = tensor
    return {"state": values, "param_groups": optimiser.state_dict()["param_groups"]}


def _own_memory(optimiser: torch.optim.Optimizer) -> None:
    """Copy moments out of the file, laid out like their parameters, as the optimiser itself makes them.

    In the file they are contiguous, and aligned to nothing; across two layouts torch computes by another path,
    which may round differently. The file, mapped into memory, would also stay open after it is pruned.
    """
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            alike = value.shape == parameter.shape
            values[name] = torch.empty_like(parameter).copy_(value) if alike else value.clone()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters the optimiser holds, in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
