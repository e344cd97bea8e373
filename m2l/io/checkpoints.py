"""Finding, reading and writing checkpoints; nothing here downloads.

Three forms are read: our own (`model.safetensors` beside `config.json`, or one safetensors file with the config
in its header), and the published one (`music2latent.pt`, see `m2l.io.published`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from m2l.config import ConfigError, Music2LatentConfig, create_config, from_json, list_configs
from m2l.io.atomic import write_atomic
from m2l.io.cache import HUB_COMMIT, HUB_FILE, HUB_LICENSE, HUB_NAME, cache_dir, in_hub_cache
from m2l.io.json_files import parse_object
from m2l.io.published import describe_keys, key_map, read_published
from m2l.io.torch_files import CheckpointError, first_line
from m2l.names import did_you_mean

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "card.json"
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
# Far above what any checkpoint of ours has: a header or config that claims more is damaged.
_MAX_HEADER, _MAX_TEXT = 16 * 2**20, 2**20
SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"


class WeightsNotFoundError(FileNotFoundError):
    """Weights that are not on this machine; the message names the command that fetches them."""


def list_checkpoints() -> list[str]:
    """Names of the checkpoints that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def find_checkpoint(name_or_path: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The file or folder that `name_or_path` stands for.

    Looked up in this order: a path that exists, a shipped checkpoint, and for the hub name
    `SonyCSLParis/music2latent` the m2l cache, then the hub's own cache (HF_HOME) at the pinned commit and at main,
    which are the places that `m2l-bench` looks in, too.

    Raises:
        WeightsNotFoundError: if it is not found; the message says what to run.
    """
    name = os.fspath(name_or_path)
    path = os.path.expanduser(name)
    if name and os.path.exists(path):
        return Path(path)
    if name in list_checkpoints():
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
            else "m2l-bench fetch music2latent --accept-license"
        )
        raise WeightsNotFoundError(
            f"{HUB_NAME}{'@' + revision if revision else ''} is not on this machine. Get it (233 MB, {HUB_LICENSE})"
            f" with: {command}"
        )
    known = [*list_checkpoints(), HUB_NAME]
    hint = did_you_mean(name, known)
    if name in list_configs() and name not in known:
        hint = f"it is a preset: random:{name} is that architecture, untrained"
    raise WeightsNotFoundError(f"no checkpoint at {name!r} and none of that name; {hint}")


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
        OSError: if it cannot be opened.
    """
    if path.is_dir():
        if (path / WEIGHTS_FILE).is_file():
            return read_checkpoint(path / WEIGHTS_FILE)
        if (path / HUB_FILE).is_file():
            return read_checkpoint(path / HUB_FILE)
        raise CheckpointError(f"{path} holds neither {WEIGHTS_FILE} nor {HUB_FILE}")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a pipe or device; a checkpoint is a file or folder")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        config = create_config("paper")
        names = {ours: theirs for theirs, ours in key_map(config).items()}
        return Checkpoint(str(path), config, read_published(path, config), names)
    raise CheckpointError(f"{path} is not a checkpoint: expected .safetensors, or .pt in the published format")


def _read_safetensors(path: Path) -> Checkpoint:
    with _opened(path) as file:
        config = _config_of(path, file.metadata() or {})
        if config is None:
            raise CheckpointError(f"{path} has no config: neither {CONFIG_FILE} beside it nor one in its header")
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return Checkpoint(str(path), config, weights)


def read_metadata(path: Path) -> tuple[Music2LatentConfig | None, int]:
    """Config and number of parameters of a safetensors file, from its header and the config beside it alone.

    Raises:
        CheckpointError: if it is damaged.
    """
    with _opened(path) as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a dict
        return _config_of(path, file.metadata() or {}), sum(map(math.prod, shapes))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with open(path, "rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            if size > _MAX_HEADER:
                raise CheckpointError(f"{path} is not a readable safetensors file: its header claims {size} bytes")
            # safetensors takes valid Unicode only.
            name = path if _is_unicode(path) else f"/dev/fd/{raw.fileno()}"
            with safe_open(name, framework="pt") as file:
                yield file
    except CheckpointError:
        raise
    except Exception as error:  # the parser of a file that may hold anything
        raise CheckpointError(f"{path} is not a readable safetensors file: {first_line(error)}") from error


def _is_unicode(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _config_of(path: Path, metadata: Mapping[str, str]) -> Music2LatentConfig | None:
    beside = path.with_name(CONFIG_FILE)
    text = read_text(beside) if beside.is_file() else metadata.get("config")
    try:
        return None if text is None else from_json(text)
    except ConfigError as error:
        raise CheckpointError(f"config of {path}: {error}") from error


def read_text(path: Path) -> str:
    """A small text file that lies beside weights.

    Raises:
        CheckpointError: if it is no text, cannot be read, or is far too large.
    """
    try:
        if path.stat().st_size > _MAX_TEXT:
            raise CheckpointError(f"{path} is too large ({path.stat().st_size} bytes)")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def read_card(folder: Path) -> dict[str, Any]:
    """The model card beside the weights in `folder`; empty if there is none.

    Raises:
        CheckpointError: if it is not a JSON object.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return {}
    return parse_object(read_text(path), path, CheckpointError)


def license_of(name: str, place: Path) -> str:
    """License of the weights called `name`, from the card beside them at `place`; "not stated" if there is none."""
    if name == HUB_NAME:
        return HUB_LICENSE
    try:
        license = read_card(place if place.is_dir() else place.parent).get("license")
    except CheckpointError:  # a card is no part of the weights
        license = None
    return str(license or "not stated")


def check_weights(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` naming the keys if one is missing, extra, mis-shaped or not finite."""
    source, weights = checkpoint.source, checkpoint.weights
    missing = [key for key in expected if key not in weights]
    extra = [key for key in weights if key not in expected]
    if missing or extra:
        raise CheckpointError(f"{source} does not fit its config: {describe_keys(missing, extra)}")
    for key, tensor in expected.items():
        name, found = checkpoint.names.get(key, key), weights[key]
        if not isinstance(found, Tensor) or found.dtype not in _FLOATS:
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise CheckpointError(f"{source}: {name!r} holds {kind}, not floating point numbers")
        if found.layout != torch.strided or found.is_meta or found.is_nested:
            raise CheckpointError(f"{source}: {name!r} is no plain tensor ({found.layout}, {found.device})")
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
    write_atomic(folder / CONFIG_FILE, config.to_json().encode())
    write_atomic(folder / WEIGHTS_FILE, save(tensors, metadata=metadata))
