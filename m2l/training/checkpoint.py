"""Checkpoints of a run: `step-00001000/` with the averaged model and all that resuming needs.

A folder is written under another name and renamed when it is complete, so what bears the name is whole:

* `config.json`, `model.safetensors`: the EMA weights, as `Music2Latent.from_pretrained` reads them;
* `training.safetensors`, `training.json`: raw weights, optimizer state, step, the last losses. No pickles.

`training.json` holds a SHA-256 of every file, its own content included: a flipped bit would else resume to other
weights without a word. Checkpoints of earlier versions have none and are taken as they are.

All randomness of training comes from (seed, step, item), so there are no generators to save.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from m2l.io.atomic import write_atomic
from m2l.io.checkpoint_files import CONFIG_FILE, WEIGHTS_FILE
from m2l.io.checkpoints import write_checkpoint
from m2l.io.digest import file_sha256
from m2l.io.torch_files import CheckpointError
from m2l.model import Music2Latent
from m2l.training.settings import SettingsError, TrainingSettings, from_dict

#: In the folder of a run: the settings it was started with.
SETTINGS_FILE = "training.json"
_FOLDER = re.compile(r"step-(\d{8})")
STATE_FILE, STEP_FILE = "training.safetensors", "training.json"
#: What `training.json` held before there were checksums.
_WITHOUT_CHECKSUMS = {"step", "scaler", "recent_losses"}


@dataclass
class TrainingState:
    """All that changes while training."""

    model: Music2Latent
    ema: Music2Latent
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    #: Losses that the next ones are compared with.
    recent: deque[float]
    step: int = 0
    #: Draws of each file that could not be read, since the start of the run.
    unreadable: Counter[str] = field(default_factory=Counter)


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(filter(is_checkpoint, run.glob("step-*")), key=lambda path: path.name)


def is_checkpoint(path: Path) -> bool:
    """Whether a path bears the name of a complete checkpoint."""
    return _FOLDER.fullmatch(path.name) is not None and path.is_dir()


def newest_whole(run: Path) -> Path | None:
    """The last checkpoint of a run whose checksums are right, or that has none."""
    for path in reversed(list_checkpoints(run)):
        try:
            verify_checkpoint(path)
            return path
        except CheckpointError:
            continue
    return None


def step_of(checkpoint: Path) -> int:
    """Optimizer steps a checkpoint has seen."""
    match = _FOLDER.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def save_checkpoint(run: Path, state: TrainingState) -> Path:
    """Write the checkpoint of `state.step`; returns its folder."""
    target = run / f"step-{state.step:08d}"
    partial, replaced = run / f".{target.name}.part", run / f".{target.name}.old.part"
    remove_leftovers(run)
    try:
        write_checkpoint(partial, state.ema.config, state.ema.state_dict())
        tensors, plain = _flatten(state)
        content = save(tensors)
        write_atomic(partial / STATE_FILE, content)
        sums = {name: file_sha256(partial / name) for name in (CONFIG_FILE, WEIGHTS_FILE)}
        plain["checksums"] = {**sums, STATE_FILE: hashlib.sha256(content).hexdigest()}
        plain["checksums"][STEP_FILE] = _own_digest(plain)
        write_atomic(partial / STEP_FILE, json.dumps(plain, indent=2).encode() + b"\n")
        if target.exists():  # the same step of a run that went back: same content
            os.replace(target, replaced)
        os.replace(partial, target)
    except BaseException:  # a full disk stays full with half a checkpoint on it
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    return target


def remove_leftovers(run: Path) -> None:
    """Remove what killed processes left half-written; only for whoever holds the run."""
    for leftover in run.glob(".step-*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in run.rglob(".m2l-*.part"):
        leftover.unlink(missing_ok=True)


def newest_step(run: Path, damaged: list[Path]) -> int:
    """The step of the last checkpoint that is not among the damaged ones; 0 without any."""
    return max((step_of(path) for path in list_checkpoints(run) if path not in damaged), default=0)


def set_aside(path: Path) -> Path:
    """Give a damaged checkpoint a name under which it is not taken for one; returns where it lies."""
    number = 0
    while (target := path.with_name(f"{path.name}.damaged{f'-{number}' if number else ''}")).exists():
        number += 1
    os.replace(path, target)
    return target


def prune(run: Path, keep: int, milestone: int | None = None) -> None:
    """Remove all but the last `keep` checkpoints and those whose step is a multiple of `milestone`."""
    for path in list_checkpoints(run)[:-keep]:
        if not (milestone and step_of(path) % milestone == 0):
            shutil.rmtree(path)


def load_newest(run: Path, state: TrainingState) -> tuple[list[tuple[Path, str]], Path | None]:
    """Put the last checkpoint that is whole into `state`, if there is one.

    Returns:
        Newer ones that are damaged, each with what is wrong, and the one loaded if it carries no checksums.

    Raises:
        CheckpointError: if there are checkpoints and none can be read; the message names the last.
    """
    damaged: list[tuple[Path, str]] = []
    for path in reversed(list_checkpoints(run)):
        try:
            return damaged, None if load_checkpoint(path, state) else path
        except CheckpointError as error:
            if _is_denied(error):  # it may well be whole
                raise
            damaged.append((path, str(error)))
    if damaged:
        others = f", nor from the {len(damaged) - 1} before it" if len(damaged) > 1 else ""
        raise CheckpointError(f"{damaged[0][1]}{others}; give another --run to begin anew")
    return [], None


def _is_denied(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, PermissionError) or _is_denied(error.__cause__))


def load_checkpoint(path: Path, state: TrainingState) -> bool:
    """Put a checkpoint's content into `state`; returns whether it carries checksums.

    Raises:
        CheckpointError: if a file is missing or damaged, or belongs to another model.
    """
    try:
        verified = verify_checkpoint(path)
        tensors = load_file(path / STATE_FILE)
        plain = json.loads((path / STEP_FILE).read_text(encoding="utf-8"))
        average = load_file(path / WEIGHTS_FILE)
        state.model.load_state_dict(_part(tensors, "model."))
        state.ema.load_state_dict(average)
        state.optimizer.load_state_dict(_optimizer_state(tensors, state.optimizer))
        _own_memory(state.optimizer)
        state.scaler.load_state_dict(plain["scaler"])
        recent, unreadable = list(plain.get("recent_losses", ())), dict(plain.get("unreadable", {}))
        state.step = int(plain["step"])
        if state.step != step_of(path):
            raise ValueError(f"{STEP_FILE} says step {state.step}")
    except (
        OSError, SafetensorError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError
    ) as error:  # fmt: skip
        raise CheckpointError(f"cannot resume from {path}: {_line(error)}") from error
    state.recent.clear()
    state.recent.extend(recent)
    state.unreadable.clear()
    state.unreadable.update(unreadable)
    return verified


def verify_checkpoint(path: Path) -> bool:
    """Whether a checkpoint carries checksums, all of which are right.

    Raises:
        CheckpointError: naming a file that is missing, damaged or unreadable.
    """
    try:
        plain = json.loads((path / STEP_FILE).read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ValueError("it holds no JSON object")
        sums = plain.get("checksums")
        if sums is None and set(plain) <= _WITHOUT_CHECKSUMS:
            return False
        if not isinstance(sums, dict) or sums.pop(STEP_FILE, None) != _own_digest(plain):
            raise ValueError("its checksum differs")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / STEP_FILE} is damaged: {_line(error)}") from error
    for name, expected in sums.items():
        try:
            found = file_sha256(path / name)
        except OSError as error:
            raise CheckpointError(f"{path / name} cannot be read: {error.strerror}") from error
        if found != expected:
            raise CheckpointError(f"{path / name} is damaged: its checksum differs")
    return True


def _own_digest(plain: dict[str, Any]) -> str:
    """Of everything in `training.json` but this digest."""
    sums = {name: value for name, value in plain["checksums"].items() if name != STEP_FILE}
    return hashlib.sha256(json.dumps({**plain, "checksums": sums}, sort_keys=True).encode()).hexdigest()


def _line(error: BaseException) -> str:
    """The first line of a message: torch lists every key that does not fit."""
    text = str(error).strip() or type(error).__name__
    return text if len(text) < 300 and "\n" not in text else " ".join(text.split())[:300] + " …"


def _flatten(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    plain = {"step": state.step, "scaler": state.scaler.state_dict(), "recent_losses": list(state.recent),
             "unreadable": dict(state.unreadable)}  # fmt: skip
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, plain


def _optimizer_state(tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, _, field = name.partition(".")
        values.setdefault(int(index), {})[field] = tensor
    return {"state": values, "param_groups": optimizer.state_dict()["param_groups"]}


def _own_memory(optimizer: torch.optim.Optimizer) -> None:
    """Copy moments out of the file, laid out like their parameters, as the optimizer itself makes them.

    In the file they are contiguous, and aligned to nothing; across two layouts torch computes by another path,
    which may round differently. The file, mapped into memory, would also stay open after it is pruned.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            alike = value.shape == parameter.shape
            values[name] = torch.empty_like(parameter).copy_(value) if alike else value.clone()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters the optimizer holds, in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def read_settings(run: Path) -> TrainingSettings:
    """The settings that a run was started with.

    Raises:
        CheckpointError: if its file is missing, damaged, or of another version.
    """
    path = run / SETTINGS_FILE
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        return from_dict(values)
    except FileNotFoundError:
        raise CheckpointError(f"{run} is not a run of m2l train: it has no {SETTINGS_FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}, the settings of the run, cannot be read: {error}") from error


def check_same_run(run: Path, settings: TrainingSettings) -> None:
    """Raise `SettingsError` naming what differs if `run` was started with other settings.

    `loss_spike` may differ: it decides when a run gives up, not what it computes.

    Raises:
        CheckpointError: if the run's settings are damaged.
    """
    if not (run / SETTINGS_FILE).exists():
        return
    try:
        then, now = read_settings(run).to_dict(), settings.to_dict()
    except CheckpointError as error:
        raise CheckpointError(f"{error}; without that file the run resumes with the settings given") from error
    differing = [f"{name} {then[name]!r} -> {now[name]!r}" for name in now
                 if now[name] != then[name] and name != "loss_spike"]  # fmt: skip
    if differing:
        raise SettingsError(
            f"{run} was started with other settings ({'; '.join(differing)}); "
            "resume with the same, or give another --run"
        )
