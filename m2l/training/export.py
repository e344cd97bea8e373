"""From a run to a checkpoint that ships: rounded averaged weights, measured latent scale, model card."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from m2l.arrays import torch_dtype
from m2l.io.atomic import write_atomic
from m2l.io.checkpoints import write_checkpoint
from m2l.io.torch_files import CheckpointError
from m2l.model import Music2Latent
from m2l.representation import waveform_to_representation
from m2l.training import checkpoint as checkpoints
from m2l.training.card import readme_of
from m2l.training.data import Crops, crop_samples, open_corpus
from m2l.training.log import is_earlier
from m2l.training.settings import TrainingSettings

CARD_FILE, README_FILE = "card.json", "README.md"


def export(
    source: Path,
    output: Path,
    *,
    dtype: str = "float16",
    license: str = "",
    datasets: dict[str, str] | None = None,
    notes: list[str] | None = None,
    crops: int = 64,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `config.json`, `model.safetensors`, `card.json` and its page `README.md` into `output`; returns the card.

    Args:
        source: a run, of which the last checkpoint is taken, or one checkpoint of it.
        output: the folder to write.
        dtype: of the weights.
        license: of the weights.
        datasets: name -> license of the data sets that were trained on, for the card; if None, the names of the
            run's files and folders.
        notes: lines for the card.
        crops: crops of the run's data that the standard deviation of the latents is measured on; it becomes
            `latent_scale`, so that latents come out with about unit variance.
        metrics: measured figures, for the card; if None, the last validation in the run's log.

    Raises:
        CheckpointError: if there is no complete checkpoint, or it cannot be read.
        SettingsError: if the run's data are no longer there.
    """
    folder = _checkpoint_folder(source)
    run = folder.parent
    settings = checkpoints.read_settings(run)
    step = checkpoints.step_of(folder)
    model = _averaged_model(folder)
    corpora = [open_corpus(spec, crop_samples(settings, model.config), settings.split, run) for spec in settings.data]
    for corpus in corpora:
        if corpus.complaint:
            print(f"m2l: {corpus.complaint}", file=sys.stderr)
    scale = latent_deviation(model, Crops(corpora, settings, model.config), crops)
    config = model.config.replace(latent_scale=scale)
    target = torch_dtype(dtype)
    weights = {name: tensor.to(target) for name, tensor in model.state_dict().items()}
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise CheckpointError(f"{folder} holds weights beyond the range of {dtype}")
    write_checkpoint(output, config, weights)
    card = {
        "name": output.name,
        "architecture": config.name,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "dtype": dtype,
        "license": license,
        "training_datasets": list(datasets or (_short(corpus.name) for corpus in corpora)),
        "dataset_licenses": datasets or {},
        "corpora": [_portable_corpus(corpus.describe()) for corpus in corpora],
        "steps": step,
        "steps_planned": settings.steps,
        "batch_size": settings.batch_size,
        "crop_seconds": round(crop_samples(settings, config) / config.sample_rate, 4),
        "seed": settings.seed,
        "settings": _portable(settings),
        "hardware": hardware(),
        "hours": round(training_seconds(run, step) / 3600, 3),
        "latent_scale": scale,
        "metrics": last_validation(run, step) if metrics is None else metrics,
        "notes": notes or [],
    }
    # A file name that is not valid Unicode becomes its JSON escape.
    text = (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    write_atomic(output / CARD_FILE, text)
    write_atomic(output / README_FILE, readme_of(card).encode(errors="backslashreplace"))
    return card


def _checkpoint_folder(source: Path) -> Path:
    if source.resolve().name.startswith("step-"):
        folder = source.resolve()
        if not checkpoints.is_checkpoint(folder):
            raise CheckpointError(f"{source} is not a complete checkpoint (step-…)")
        return folder
    found = checkpoints.list_checkpoints(source)
    if not found:
        raise CheckpointError(f"{source} holds no complete checkpoint (step-…)")
    return found[-1]


def _averaged_model(folder: Path) -> Music2Latent:
    """The averaged weights of a checkpoint; if it is damaged, the error names the last that is not."""
    try:
        if not checkpoints.verify_checkpoint(folder):
            print(f"m2l: {folder} has no checksums, so damage to it would not be noticed", file=sys.stderr)
        return Music2Latent.from_pretrained(folder, device="cpu")
    except (ValueError, OSError) as error:
        whole = checkpoints.newest_whole(folder.parent)
        hint = f"; the last whole checkpoint is {whole}" if whole else ""
        raise CheckpointError(f"{error}{hint}") from error


@torch.no_grad()
def latent_deviation(model: Music2Latent, data: Crops, crops: int) -> float:
    """Standard deviation of the tanh latents over some crops and all dimensions, to 4 digits."""
    found = [data[index] for index in range(crops)]
    unreadable = sum(len(crop["unreadable"]) for crop in found)
    if unreadable:
        print(f"m2l: latent_scale: {unreadable} draws could not be read; others were taken", file=sys.stderr)
    latents = [model.encoder(waveform_to_representation(crop["waveform"][None], model.config)) for crop in found]
    return float(f"{float(torch.cat(latents).std()):.4g}")


def training_seconds(run: Path, step: int) -> float:
    """Seconds spent up to `step`, without interruptions, from the run's log."""
    spent = (entry.get("seconds") for entry in _log(run, step))
    return max((one for one in spent if isinstance(one, (int, float))), default=0.0)


def last_validation(run: Path, step: int) -> dict[str, float]:
    """Numbers of the last validation up to `step` from the run's log, with its step; empty without one."""
    entries = [entry for entry in _log(run, step) if any(name.startswith("validation_") for name in entry)]
    return entries[-1] if entries else {}


def _log(run: Path, step: int) -> Iterator[dict[str, Any]]:
    path = run / "log.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        if is_earlier(line, step):
            yield json.loads(line)


def hardware() -> dict[str, Any]:
    """Processor and threads, and the GPU if there is one."""
    facts: dict[str, Any] = {"machine": platform.machine(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _portable_corpus(facts: dict[str, Any]) -> dict[str, Any]:
    # A card travels: the path on the machine that trained means nothing elsewhere.
    return {**facts, "name": _short(facts["name"])}


def _portable(settings: TrainingSettings) -> dict[str, Any]:
    return {**settings.to_dict(), "data": [_short(spec) for spec in settings.data]}


def _short(spec: str) -> str:
    path = Path(spec)
    return "/".join(path.parts[-2:])
