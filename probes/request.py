"""What to evaluate: tasks, representations, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.protocol import Protocol

#: The representation that is the best constant answer.
CHANCE = "chance"


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        tasks: names.
        representations: names, with `@output` where not the default; `CHANCE` is the constant answer.
        protocol: how.
        seeds: of the probes.
        task_options, representation_options: by name, passed to the factories.
        level: coverage of the intervals.
        deformations: also test on deformed clips (the probe is trained on clean ones).
        shuffle_labels: permute training labels; a check that scores fall to chance.
    """

    tasks: tuple[str, ...]
    representations: tuple[str, ...]
    protocol: Protocol
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    task_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    representation_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    level: float = 0.95
    deformations: tuple[str, ...] = ()
    shuffle_labels: bool = False
