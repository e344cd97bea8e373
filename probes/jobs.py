"""What units of the probe stage carry. Planning makes them, so this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probes.protocol import Protocol
from probes.scoring import Problem


@dataclass(frozen=True)
class EvaluateJob:
    """Payload of `probe`: tasks on one feature matrix.

    Attributes:
        problems, protocol, seeds, shuffle_labels: see `probes.stage.evaluate`.
        output: of the representation; None takes its first.
        n_features: how many of the unit's inputs are features of clean audio; they come first.
        deformed: deformation -> number of inputs with features of the test clips after it, in this order.
        is_chance: evaluate the best constant answer; there are no features.
    """

    problems: tuple[Problem, ...]
    protocol: Protocol
    seeds: tuple[int, ...]
    shuffle_labels: bool
    output: str | None
    n_features: int
    deformed: Mapping[str, int]
    is_chance: bool
