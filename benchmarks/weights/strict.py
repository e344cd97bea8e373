"""Loading published weights strictly: every name, shape and number type as expected, or an error that lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.weights.loading import CheckpointError, check_state


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file.

    Raises:
        CheckpointError: it is not one, or it is cut short.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def load_strict(model: torch.nn.Module, state: Mapping[str, torch.Tensor], what: str) -> torch.nn.Module:
    """Put `state` into `model`.

    Args:
        model: gives the expected names, shapes and types.
        state: the weights under the model's names.
        what: the file, for messages.

    Raises:
        CheckpointError: entries are missing, unknown, of another shape or type; the message names them.
    """
    expected = model.state_dict()
    check_state(state, {key: tuple(value.shape) for key, value in expected.items()}, what)
    types = [
        f"{key} is {_type(state[key])}, published {_type(value)}"
        for key, value in expected.items()
        if state[key].dtype != value.dtype
    ]
    if types:
        more = f" and {len(types) - 8} more" if len(types) > 8 else ""
        raise CheckpointError(
            f"{what} is not in the published format: types differ: {', '.join(types[:8])}{more}"
        )
    model.load_state_dict(dict(state), strict=True)
    return model


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_safetensors(model: torch.nn.Module, path: Path, config: Mapping[str, Any]) -> torch.nn.Module:
    """Load a hub snapshot: a folder with `config.json` and one safetensors file, or that file alone.

    Where a `config.json` lies beside the weights, its values have to agree with `config`: some of them change
    what a network computes without changing a shape (normalization, chunk length, strides of equal kernels).

    Raises:
        CheckpointError: configuration or weights differ; the message names what.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1:
        raise CheckpointError(f"{path} holds {len(files)} safetensors files, expected one")
    beside = folder / "config.json"
    if beside.is_file():
        check_config(json.loads(beside.read_text(encoding="utf-8")), config, str(beside))
    return load_strict(model, read_safetensors(files[0]), str(files[0]))


def check_config(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Compare a published `config.json` with the configuration a network was built with.

    Keys that only one side has are left alone: libraries add and drop them with their versions.

    Raises:
        CheckpointError: values differ; the message names them.
    """
    wrong = [
        f"{key} is {found[key]!r}, expected {value!r}"
        for key, value in expected.items()
        if key in found and _plain(found[key]) != _plain(value)
    ]
    if wrong:
        raise CheckpointError(f"{what} is not the published configuration: {', '.join(wrong)}")


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
