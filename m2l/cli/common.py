"""What the commands of `m2l` share: exit codes, errors and messages, kinds of options, and `load_model`."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, TypeVar, get_origin

from cyclopts import Parameter

from m2l.cli.plain import styled
from m2l.config import RANDOM

if TYPE_CHECKING:
    import torch

    from m2l.model import Music2Latent

FINE, FAILED, USAGE, MISSING, INTERRUPTED = 0, 1, 2, 3, 130

#: Suffixes of checkpoints in the published format.
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
CHECKPOINT_HELP = (
    "name of a shipped checkpoint, folder, .safetensors or published .pt file, or SonyCSLParis/music2latent; "
    "random:PRESET or random:PRESET:SEED for untrained weights (for tests)"
)


class UsageError(Exception):
    """Arguments that make no sense, alone or together."""


class MissingError(Exception):
    """Data or weights that do not exist, or cannot be read."""


# --- messages -----------------------------------------------------------------------------------------------------


def say(message: object) -> None:
    """Print one message to stderr. A closed terminal or a full disk behind it does not end the work."""
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        mute(sys.stderr)


def fail(error: object, code: int) -> int:
    """Print what went wrong; returns `code`. Of the processes of a `torchrun`, the first is left to speak."""
    if is_follower():
        yield_to_torchrun()
    say(f"{styled('m2l:', 'red', sys.stderr)} {message_of(error)}")
    return code


def is_follower() -> bool:
    """Whether this is a process of a `torchrun` other than the first."""
    return os.environ.get("RANK", "0") not in ("", "0") and os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def yield_to_torchrun() -> None:
    """Wait to be ended: torchrun ends the other processes once one has failed, and all fail for the same reason."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(3)


def message_of(error: object) -> str:
    """An error in words: "name: reason" for those of the operating system, without their number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or type(error).__name__


def mute(stream: TextIO) -> None:
    """Discard what `stream` still holds, so that the interpreter does not complain when it exits."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


# --- options ------------------------------------------------------------------------------------------------------

T = TypeVar("T")
Name = Annotated[str | None, Parameter(metavar="NAME")]
Dtype = Annotated[Literal["float32", "bfloat16", "float16"], Parameter(metavar="NAME")]


def option(default: T, help: str) -> T:
    """A field of a dataclass of options, with its help text."""
    return field(default=default, metadata={"help": help})  # type: ignore[no-any-return]


def path(shown: str, metavar: str = "PATH", **more: Any) -> Parameter:
    """An option or argument that names files, which must not be empty and have `~` expanded; errors say `shown`."""
    return Parameter(converter=partial(_paths, shown), metavar=metavar, **more)


def _paths(shown: str, kind: Any, tokens: Sequence[Any]) -> str | list[str]:
    paths = [_path(token.value, shown) for token in tokens]
    return paths if get_origin(kind) is list else paths[0]


def _path(text: str, shown: str) -> str:
    """The path with `~` expanded, which shells leave alone in `--output=~/x`.

    Raises:
        UsageError: for an empty path, which would stand for the current folder, or an unknown home folder.
    """
    if not text.strip() or (shown == "--data" and text.startswith("=")):
        raise UsageError(f"{shown} is empty ({text!r}); the current folder is called .")
    if "\0" in text:
        raise UsageError(f"{shown} {text!r} contains a zero byte; no file has such a name")
    if not text.startswith("~") or os.path.lexists(text):
        return text
    expanded = os.path.expanduser(text)
    if expanded == text and (text == "~" or "/" in text):
        raise UsageError(f"{shown} {text!r}: the home folder is not known; write the path in full, or ./{text}")
    return expanded


def seconds(_: Any, tokens: Sequence[Any]) -> float:
    """A converter for positive, finite durations."""
    try:
        value = float(tokens[0].value)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"must be a positive number of seconds, not {tokens[0].value[:40]!r}")
    return value


# --- models -------------------------------------------------------------------------------------------------------


def portable_name(checkpoint: str) -> str:
    """The name to keep in files: paths are made absolute, other names are kept."""
    if not checkpoint.startswith(RANDOM) and os.path.exists(os.path.expanduser(checkpoint)):
        return os.path.abspath(os.path.expanduser(checkpoint))
    return checkpoint


def check_device(device: str | None) -> torch.device:
    """The device of `--device`.

    Raises:
        UsageError: if it does not exist on this machine.
    """
    from m2l.arrays import default_device

    try:
        return default_device(device)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error


def load_model(checkpoint: str, device: str | None = None, dtype: str = "float32") -> tuple[Music2Latent, str]:
    """The model and its digest.

    The digest is taken before the weights are rounded to `dtype`: latents made in bfloat16 belong to the same
    checkpoint as those made in float32.

    Raises:
        UsageError: for an unknown preset, seed or device.
        MissingError: for weights that do not exist, are damaged, or unsafe.
    """
    from m2l.arrays import torch_dtype
    from m2l.config import ConfigError
    from m2l.io.checkpoint_files import WeightsNotFoundError
    from m2l.io.torch_files import CheckpointError
    from m2l.loading import load

    target = check_device(device)
    try:
        model = load(checkpoint, device="cpu")
    except ConfigError as error:
        raise UsageError(error) from error
    except (WeightsNotFoundError, CheckpointError, OSError) as error:
        raise MissingError(message_of(error)) from error
    digest = model.digest()
    return model.to(device=target, dtype=torch_dtype(dtype)).eval().requires_grad_(False), digest
