"""Protocols: how a task is turned into numbers. A protocol's name stands for all of its settings.

`mir_ref-1` is what the published Table 1 used, with its peculiarities kept on purpose: raw features, early
stopping on the validation loss but selection by accuracy (or flattened micro ROC-AUC), one fold of TinySOL,
a key split that ignores artists. What was a plain defect is not kept: nothing is dropped, everything is
seeded. `strict-1` is what we would have done.

Batches are the task's: 1,083 clips for MagnaTagATune, as in mir_ref's example, and 64 items for Beatport and TinySOL.
mir_ref drops the last incomplete batch, of the test part too, so 1,083 would leave nothing of their 128 and 582 test
items; the sizes behind the published table are not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.registry import UnknownNameError
from probes.mlp.config import ProbeConfig


@dataclass(frozen=True)
class Protocol:
    """All settings of an evaluation.

    Attributes:
        name: stands for everything below.
        scheme: which splits of a task are used.
        config: the MLP; its batch size is the task's.
        probes: "mlp", "linear" (no hidden layer) and "knn"; the first one is the one of Table 1.
        learning_rates: tried on the validation part by `config.select_on`; empty takes the configuration's.
        neighbors: numbers of neighbors tried on the validation part.
        batch_size: items per training step; None takes the task's.
        drop_last: leave out the last incomplete batch of the test part too, as mir_ref does. For studies.
        inferred: sizes of the MLP's hidden layers from those of input and output in place of the configuration's, one
            entry per layer: all "infer" (evenly spaced) or all "power_infer" (by squares), as mir_ref's.
    """

    name: str
    scheme: str
    config: ProbeConfig
    probes: tuple[str, ...] = ("mlp",)
    learning_rates: tuple[float, ...] = ()
    neighbors: tuple[int, ...] = field(default=(1, 3, 5, 11, 21))
    batch_size: int | None = None
    drop_last: bool = False
    inferred: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.inferred and set(self.inferred) not in ({"infer"}, {"power_infer"}):
            raise ValueError(f"inferred must be all 'infer' or all 'power_infer', got {self.inferred!r}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready copy."""
        record = dataclasses.asdict(self)
        if not self.inferred:
            del record["inferred"]
        return record

    def hidden_units(self, dim: int, n_outputs: int) -> tuple[int, ...]:
        """Widths of the MLP's hidden layers for features of `dim` numbers; inferred ones are made even."""
        layers = len(self.inferred)
        if not layers:
            return self.config.hidden_units
        step = (dim - n_outputs) / (layers + 1)
        if self.inferred[0] == "infer":
            widths = [int(n_outputs + (layers - i) * step) for i in range(layers)]
        else:
            widths = [int(n_outputs + (i + 1) ** 2 * step) for i in range(layers)]
        return tuple(max(2, width + width % 2) for width in widths)

    def replace(self, **changes: Any) -> Protocol:
        """A copy under a name that says what differs; fields of `config` may be given too."""
        own_fields = {item.name for item in dataclasses.fields(Protocol)}
        own = {key: value for key, value in changes.items() if key in own_fields}
        inner = {key: value for key, value in changes.items() if key not in own_fields}
        suffix = ",".join(f"{key}={value}" for key, value in sorted(changes.items()))
        config = dataclasses.replace(self.config, **inner)
        name = f"{self.name}+{suffix}" if suffix else self.name
        return dataclasses.replace(self, **(own | {"config": config, "name": name}))


#: Items per training step in mir_ref's example; it divides MagnaTagATune's test part.
MIR_REF_BATCH = 1083

DEFAULT_PROTOCOL = "mir_ref-1"
PROTOCOLS: dict[str, Protocol] = {
    "mir_ref-1": Protocol("mir_ref-1", "mir_ref", ProbeConfig()),
    "strict-1": Protocol(
        "strict-1",
        "strict",
        ProbeConfig(standardize=True, stop_on="macro", select_on="macro"),
        probes=("mlp", "linear", "knn"),
        learning_rates=(1e-4, 3e-4, 1e-3),
    ),
}


def get_protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        UnknownNameError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def seeds_from(seed: int, count: int) -> Sequence[int]:
    """`count` probe seeds beginning at `seed`."""
    if count < 1:
        raise ValueError(f"at least one seed is needed, got {count}")
    return tuple(range(seed, seed + count))
