"""Reading published weights without executing pickled code, and loading them strictly."""

from __future__ import annotations

import json
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

from m2l.io.torch_files import CheckpointError, first_line, read_pickled

if TYPE_CHECKING:
    import torch


def check_state(state: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Compare a state dict with the published names and shapes.

    Raises:
        CheckpointError: missing, unknown or wrongly shaped entries; the message names them.
    """
    problems = []
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    if missing:
        problems.append(f"missing {_named(missing)}")
    if unknown:
        problems.append(f"unknown {_named(unknown)}")
    shapes = [
        f"{key} is {tuple(state[key].shape)}, published {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if shapes:
        problems.append(f"shapes differ: {_named(shapes)}")
    if problems:
        raise CheckpointError(f"{what} is not in the published format: {'; '.join(problems)}")


def _named(items: list[str], limit: int = 8) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return f"{len(items)}: {', '.join(items[:limit])}{more}"


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


def read_released(path: Path, member: str) -> Any:
    """What a file of torch holds, or the file called `member` in a release's archive.

    Raises:
        CheckpointError: damaged, more than weights, or an archive without such a file.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch's own files are zips, too: they have a `data.pkl`.
            if any(name.endswith("/data.pkl") for name in archive.namelist()):
                return read_pickled(path, any_form=True)
            names = [name for name in archive.namelist() if Path(name).name == member]
            if not names:
                raise CheckpointError(f"{path} holds no {member}")
            with tempfile.NamedTemporaryFile(suffix=".pt") as file:
                file.write(archive.read(names[0]))
                file.flush()
                return read_pickled(Path(file.name), any_form=True)
    except zipfile.BadZipFile as error:
        if path.suffix != ".zip":
            return read_pickled(path, any_form=True)
        raise CheckpointError(f"{path} is a damaged archive: {error}") from error


@contextmanager
def without_values() -> Iterator[None]:
    """Networks built here skip the functions of `torch.nn.init`: a strict load is about to replace every value."""
    from torch.overrides import TorchFunctionMode

    class Skip(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with Skip():
        yield


def load_strict(model: torch.nn.Module, state: Mapping[str, torch.Tensor], what: str) -> torch.nn.Module:
    """Make `state` the weights of `model`, without a copy: a mapped file stays one.

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
        raise CheckpointError(f"{what} is not in the published format: types differ: {_named(types)}")
    model.load_state_dict(dict(state), strict=True, assign=True)
    return model


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_safetensors(model: torch.nn.Module, path: Path, config: Mapping[str, Any]) -> torch.nn.Module:
    """Load a hub snapshot: a folder with `config.json` and one safetensors file, or that file alone.

    The values of a `config.json` beside the weights have to agree with `config`, because some of them change
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

    Keys that only one side has are ignored, because libraries add and drop them with their versions.

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


def read_old_pickle(path: Path) -> Any:
    """A file of plain tensors that torch before 1.6 wrote with opcodes that `weights_only` does not know.

    The unpickler finds four names and no others, so a file cannot run anything. For files whose checksum is known: in
    that form a small file can claim any amount of memory.

    Raises:
        CheckpointError: it refers to anything but tensors and dictionaries, or is damaged.
    """
    import torch

    allowed: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch", "FloatStorage"): torch.FloatStorage,
        ("torch", "LongStorage"): torch.LongStorage,
    }

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in allowed:
                raise pickle.UnpicklingError(f"it refers to {module}.{name}")
            return allowed[module, name]

    def load(file: IO[bytes], **options: Any) -> Any:
        return Unpickler(file, **options).load()

    reader = SimpleNamespace(Unpickler=Unpickler, load=load, __name__="pickle")
    try:
        return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # unpickling what may be anything
        raise CheckpointError(
            f"{path} is not a readable file of weights (nothing in it was run): {first_line(error)}"
        ) from error
