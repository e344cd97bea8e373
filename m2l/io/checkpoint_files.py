"""Where checkpoints lie, and what their headers and cards say; nothing here loads torch or downloads."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from m2l.config import ConfigError, Music2LatentConfig, from_json, list_configs
from m2l.io.cache import HUB_COMMIT, HUB_FILE, HUB_LICENSE, HUB_NAME, cache_dir, in_hub_cache
from m2l.io.json_files import parse_object
from m2l.io.torch_files import CheckpointError, first_line
from m2l.names import did_you_mean

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "card.json"
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


def read_metadata(path: Path) -> tuple[Music2LatentConfig | None, int]:
    """Config and number of parameters of a safetensors file, from its header and the config beside it alone.

    Raises:
        CheckpointError: if it is damaged.
    """
    with opened(path) as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a dict
        return config_of(path, file.metadata() or {}), sum(map(math.prod, shapes))


@contextmanager
def opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """A safetensors file, open; `framework` "pt" gives tensors of torch.

    Raises:
        CheckpointError: if it cannot be read, or its header is not one.
    """
    try:
        with open(path, "rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            if size > _MAX_HEADER:
                raise CheckpointError(f"{path} is not a readable safetensors file: its header claims {size} bytes")
            # safetensors takes valid Unicode only.
            name = path if _is_unicode(path) else f"/dev/fd/{raw.fileno()}"
            with safe_open(name, framework=framework) as file:
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


def config_of(path: Path, metadata: Mapping[str, str]) -> Music2LatentConfig | None:
    """The config beside the weights at `path`, else the one in their header; None if there is none.

    Raises:
        CheckpointError: if it is damaged.
    """
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
