"""Finding, reading and writing checkpoints; nothing here downloads.

Three forms are read: our own (`model.safetensors` beside `config.json`, or one safetensors file with the config
in its header), and the published one (`music2latent.pt`, see `m2l.published`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from m2l.config import ConfigError, Music2LatentConfig, create_config, from_json
from m2l.files import write_bytes
from m2l.hub import HUB_COMMIT, in_hub_cache
from m2l.published import HUB_FILE, HUB_NAME, CheckpointError, describe_keys, key_map, read_published

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
SHIPPED = Path(__file__).parent / "checkpoints"


class WeightsNotFoundError(FileNotFoundError):
    """Weights that are not on this machine; the message holds the command that gets them."""


def cache_dir() -> Path:
    """M2L_CACHE, else XDG_CACHE_HOME/m2l, else ~/.cache/m2l."""
    if explicit := os.environ.get("M2L_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "m2l"


def list_checkpoints() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def find_checkpoint(name_or_path: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The file or folder that `name_or_path` stands for.

    Looked up in this order: a path that exists, a shipped checkpoint, and for the hub name
    `SonyCSLParis/music2latent` the m2l cache, then the hub's own cache (HF_HOME) at the pinned commit and at main,
    which are the places that `m2l-bench` looks in, too.

    Raises:
        WeightsNotFoundError: if it is nowhere; the message says what to run.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    name = os.fspath(name_or_path)
    if (SHIPPED / name / CONFIG_FILE).is_file():
        return SHIPPED / name
    if name == HUB_NAME:
        if revision is None and (cached := cache_dir() / "weights" / "music2latent" / HUB_FILE).is_file():
            return cached
        revisions = (revision,) if revision else (HUB_COMMIT, "main")
        if found := in_hub_cache(HUB_NAME, HUB_FILE, revisions):
            return found
        command = (
            f"hf download {HUB_NAME} {HUB_FILE} --revision {revision}"
            if revision
            else "m2l-bench fetch music2latent --accept-licence"
        )
        raise WeightsNotFoundError(
            f"{HUB_NAME}{'@' + revision if revision else ''} is not on this machine. Get it (233 MB, CC BY-NC 4.0)"
            f" with: {command}"
        )
    known = [*list_checkpoints(), HUB_NAME]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise WeightsNotFoundError(
        f"no checkpoint at {name!r} and none of that name.{hint} Known names: {', '.join(known)}"
    )


@dataclass(frozen=True)
class Checkpoint:
    """Config and weights as read. `names` gives the file's own name of a parameter where it differs from ours."""

    source: str
    config: Music2LatentConfig
    weights: Mapping[str, Tensor]
    names: Mapping[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file or folder, its weights under our names.

    Raises:
        CheckpointError: if it is damaged, incomplete, or of an unknown form.
    """
    if path.is_dir():
        if (path / WEIGHTS_FILE).is_file():
            return read_checkpoint(path / WEIGHTS_FILE)
        if (path / HUB_FILE).is_file():
            return read_checkpoint(path / HUB_FILE)
        raise CheckpointError(f"{path} holds neither {WEIGHTS_FILE} nor {HUB_FILE}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        config = create_config("paper")
        names = {ours: theirs for theirs, ours in key_map(config).items()}
        return Checkpoint(str(path), config, read_published(path, config), names)
    raise CheckpointError(f"{path} is no checkpoint: expected .safetensors, or .pt in the published format")


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    beside = path.with_name(CONFIG_FILE)
    text = beside.read_text(encoding="utf-8") if beside.is_file() else metadata.get("config")
    if text is None:
        raise CheckpointError(f"{path} has no config: neither {CONFIG_FILE} beside it nor one in its header")
    try:
        return Checkpoint(str(path), from_json(text), weights)
    except ConfigError as error:
        raise CheckpointError(f"config of {path}: {error}") from error


def check_weights(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` naming the keys if one is missing, extra, mis-shaped or not finite."""
    source, weights = checkpoint.source, checkpoint.weights
    missing = [key for key in expected if key not in weights]
    extra = [key for key in weights if key not in expected]
    if missing or extra:
        raise CheckpointError(f"{source} does not fit its config: {describe_keys(missing, extra)}")
    for key, tensor in expected.items():
        name, found = checkpoint.names.get(key, key), weights[key]
        if not isinstance(found, Tensor) or not found.is_floating_point():
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise CheckpointError(f"{source}: {name!r} holds {kind}, not floating point numbers")
        if found.shape != tensor.shape:
            raise CheckpointError(
                f"{source}: {name!r} has shape {tuple(found.shape)}, the config needs {tuple(tensor.shape)}"
            )
        if not bool(found.isfinite().all()):
            raise CheckpointError(f"{source}: {name!r} holds NaN or infinite weights")


def write_checkpoint(folder: Path, config: Music2LatentConfig, weights: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, each beside and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # One entry: several come in random order, and the same weights would not be the same bytes.
    metadata = {"config": config.to_json()}
    # Weights last: a folder with weights is complete.
    write_bytes(folder / CONFIG_FILE, config.to_json().encode())
    write_bytes(folder / WEIGHTS_FILE, save(tensors, metadata=metadata))
