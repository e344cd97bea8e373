"""What `doctor --deep NAME` may examine: systems, embedders, representations, and sets of weights by their own name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.autoencoders import AUTOENCODERS, create_autoencoder, list_autoencoders
from benchmarks.autoencoders.names import KINDS
from benchmarks.embedders import create_embedder, embedder_entry, list_embedders
from benchmarks.errors import UsageError
from benchmarks.evaluation.systems import accepts_device
from benchmarks.registry import Registry, UnknownNameError, parameters_of
from benchmarks.weights.table import WEIGHTS

#: Sets of weights whose name is not that of what runs them.
_RUNS = {"lyra-v2": "lyra-9.2k"}
#: Weights of metrics, which are no networks of their own.
_NO_NETWORK = ("visqol-svr", "visqol-lattice")


@dataclass(frozen=True)
class Subject:
    """Something with weights.

    Attributes:
        name: registered name.
        kind: "autoencoder", "embedder" or "representation".
        make: makes it.
        weights: its entry in the table of weights; None where it has none.
        path: file or folder instead of the look-up.
        untrained: its weights are random.
        device: where it runs.
    """

    name: str
    kind: str
    make: Callable[[], Any]
    weights: str | None
    path: str | None
    untrained: bool
    device: str


def subject(
    name: str, representations: Registry, *, path: str | None = None, untrained: bool = False, device: str = "cpu"
) -> Subject:
    """What a name stands for: a system before an embedder before a representation.

    Args:
        name: as in `m2l-bench list`, a representation of Table 1, or an entry of the table of weights.
        representations: registry of the representations, which lie above this package.
        path: file or folder of the weights.
        untrained: random weights.
        device: torch device.

    Raises:
        UnknownNameError: nothing has that name.
        UsageError: it has no weights, or cannot be given a file or random ones.
    """
    if name in _NO_NETWORK:
        raise UsageError(f"{name} is a part of ViSQOL, not a network: `m2l-bench speed visqol` compares it")
    name = _RUNS.get(name, name)
    if not (name in AUTOENCODERS or name in list_embedders() or name in representations):
        name = next((entry for entry in list_embedders() if embedder_entry(entry).weight == name), name)
    maker: Callable[..., Any]
    if name in AUTOENCODERS or name.partition(":")[0] in KINDS:
        kind, maker, factory = "autoencoder", create_autoencoder, _factory(name)
    elif name in list_embedders():
        kind, maker, factory = "embedder", create_embedder, create_embedder
    elif name in representations:
        kind, maker, factory = "representation", representations.create, representations.load(name)
    else:
        known = {*list_autoencoders(), *list_embedders(), *representations.names()}
        raise UnknownNameError("system, embedder or representation", name, known)
    parameters = parameters_of(factory)
    options: dict[str, Any] = {}
    if "device" in parameters or (kind == "autoencoder" and accepts_device(name)):
        options["device"] = device
    if path is not None:
        options[_parameter(name, parameters, ("path", "weights"), "--weights")] = path
    if untrained:
        options[_parameter(name, parameters, ("random_seed",), "--untrained")] = 0
    weights = None if untrained else _weights(name, kind, factory)
    return Subject(name, kind, lambda: maker(name, **options), weights, path, untrained, device)


def _factory(name: str) -> Any:
    """What makes a system; a kind with an argument takes neither a path nor a seed."""
    return (lambda: None) if ":" in name else AUTOENCODERS.load(name)


def _parameter(name: str, parameters: set[str], wanted: tuple[str, ...], option: str) -> str:
    for parameter in wanted:
        if parameter in parameters:
            return parameter
    raise UsageError(f"{option}: {name} takes none")


def _weights(name: str, kind: str, factory: Any) -> str | None:
    """The entry of the table of weights that a name uses."""
    if kind == "embedder":
        return embedder_entry(name).weight or None
    runs = next((weights for weights, system in _RUNS.items() if name.startswith(system.partition("-")[0])), name)
    # A name with a number of the user's choice, "dac-44khz-3q", is made by the class of "dac-44khz".
    own = getattr(getattr(factory, "func", factory), "name", None)
    return next((base for base in (runs, own) if base in WEIGHTS), None)
