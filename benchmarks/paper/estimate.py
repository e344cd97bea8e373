"""Hours and gigabytes of `m2l-bench paper` by stage, on one CPU, one consumer GPU and eight of them.

CPU hours come from measured rates: of this store, of records beside results, else those that ship (see
`benchmarks.status.dry_run`). Nothing was measured on a GPU for those that ship, so a GPU's hours are scaled:
floating-point operations of each network (`costs.json`, counted) over the published throughput of the GPU, of which
`GPU_SHARE` is taken to be reached. Where this store has measured a GPU, its rate counts instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.evaluation.systems import STEREO
from benchmarks.harness.units import Unit
from benchmarks.status.dry_run import GPU_STAGES, STAGES, Rates, rate_of, units_to_run
from benchmarks.store.store import Store
from benchmarks.tables.text import markdown_table
from benchmarks.weights.table import WEIGHTS

#: Counted and measured by tests/golden/make_costs.py, which says what each figure is.
COSTS = Path(__file__).with_name("costs.json")

#: Float32 throughput without tensor cores, as published in the specifications of the whitepaper "NVIDIA Ada GPU
#: Architecture" (2022): 16,384 cores at a boost clock of 2.52 GHz do two operations a cycle. And the share of it that
#: networks are taken to reach.
GPU_NAME, GPU_FLOPS, GPU_SHARE = "GeForce RTX 4090", 82.6e12, 0.25
#: Bits per second that times of transfers are given for.
BITS_PER_SECOND = 100e6
#: Training steps of a row of Table 3, items of 34,304 samples each, and how many passes through the network a step
#: costs: the student's forward and backward (3) and the teacher's forward (1).
STEPS, BATCH, CROP_SECONDS, PASSES = 200_000, 16, 34_304 / 44_100, 4


@dataclass(frozen=True)
class Machine:
    """A machine that hours are given for."""

    name: str
    cores: int
    gpus: int


MACHINES = (Machine("1 CPU of 16 cores", 16, 0), Machine("1 GPU", 16, 1), Machine("8 GPUs", 64, 8))


@dataclass
class StageHours:
    """What is left of one stage.

    Attributes:
        units: that would run.
        audio_seconds: of audio.
        cpu_seconds: of one core, without a GPU.
        beside_gpu_seconds: of one core, of what has no place on a GPU.
        gpu_seconds: of one GPU.
        wait_seconds: that no machine shortens: transfers.
        bytes: on disk.
        measured, scaled: names whose GPU rate was measured here, and was scaled.
        uncounted: networks whose operations were not counted: their CPU time stands in on a GPU, too.
        unknown: names without any rate.
    """

    units: int = 0
    audio_seconds: float = 0.0
    cpu_seconds: float = 0.0
    beside_gpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    wait_seconds: float = 0.0
    bytes: float = 0.0
    measured: set[str] = field(default_factory=set)
    scaled: set[str] = field(default_factory=set)
    uncounted: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    def hours(self, machine: Machine) -> float:
        """By the clock, all cores and GPUs busy."""
        if not machine.gpus:
            return (self.wait_seconds + self.cpu_seconds / machine.cores) / 3600
        busy = self.beside_gpu_seconds / machine.cores + self.gpu_seconds / machine.gpus
        return (self.wait_seconds + busy) / 3600

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        plain = {name: sorted(value) if isinstance(value, set) else value for name, value in vars(self).items()}
        return plain | {"hours": {machine.name: self.hours(machine) for machine in MACHINES}}


@cache
def costs() -> dict[str, dict[str, float]]:
    """Operations per second of audio by stage and name, dimensions of features, bytes per second of audio by stage."""
    record: dict[str, dict[str, float]] = json.loads(COSTS.read_text(encoding="utf-8"))
    return record


def stage_hours(planned: Sequence[Unit], store: Store, overwrite: str, rates: Rates) -> dict[str, StageHours]:
    """What the units of a plan cost that the store lacks, in the order of the stages.

    Args:
        planned: targets of a dry run.
        store: holds what is done.
        overwrite: as for a run.
        rates: measured ones.
    """
    found: dict[str, StageHours] = {}
    for unit in units_to_run(planned, store, overwrite):
        stage = found.setdefault(unit.stage, StageHours())
        stage.units += 1
        if unit.stage == "probe":
            _add_probe(stage, unit)
        elif unit.amount > 0:
            _add(stage, unit, rates)
    order = {name: index for index, name in enumerate(STAGES)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _add(stage: StageHours, unit: Unit, rates: Rates) -> None:
    seconds, key = unit.amount, (unit.stage, unit.name)
    stage.audio_seconds += seconds
    stage.bytes += costs()["bytes"].get(unit.stage, 0.0) * seconds
    rate, gpu_rate = rate_of(rates.cpu, key), rate_of(rates.gpu, key)
    if rate is None:
        stage.unknown.add(unit.name)
    cpu = (rate or 0.0) * seconds
    stage.cpu_seconds += cpu
    flops = rate_of(_operations(), key)
    if unit.stage in GPU_STAGES and gpu_rate is not None:
        stage.measured.add(unit.name)
        stage.gpu_seconds += gpu_rate * seconds
    elif unit.stage in GPU_STAGES and flops is not None:
        stage.scaled.add(unit.name)
        stage.gpu_seconds += flops * seconds / (GPU_FLOPS * GPU_SHARE)
    else:
        stage.beside_gpu_seconds += cpu
        if unit.stage in GPU_STAGES and unit.name.removesuffix(STEREO) in WEIGHTS:
            stage.uncounted.add(unit.name)


@cache
def _operations() -> dict[tuple[str, str], float]:
    """(stage, name) -> counted operations per second of audio."""
    return {(stage, name): count for stage in GPU_STAGES for name, count in costs()[stage].items()}


def _add_probe(stage: StageHours, unit: Unit) -> None:
    """A probe's training on a CPU: all seeds, at most all epochs, by the features' dimension."""
    name = unit.name.partition(" on ")[0]
    dim = costs()["dim"].get(name.partition("@")[0], 0.0)
    tasks = 1 + unit.name.count(" + ")
    seconds = costs()["probe"]["seconds_per_unit_and_dim"] * dim * len(unit.inputs) * tasks
    stage.cpu_seconds += seconds
    stage.beside_gpu_seconds += seconds


def training_hours() -> dict[str, float]:
    """Hours to train the three rows of Table 3, on one and on eight GPUs, by their operations."""
    rows = [flops for name, flops in costs()["reconstruct"].items() if name.startswith("music2latent:table3-")]
    seconds = sum(rows) * CROP_SECONDS * BATCH * PASSES * STEPS / (GPU_FLOPS * GPU_SHARE)
    return {machine.name: seconds / machine.gpus / 3600 for machine in MACHINES if machine.gpus}


def hours_markdown(stages: dict[str, StageHours], rates: Rates) -> str:
    """The stages for people, and where the figures are from."""
    total = StageHours()
    rows = []
    for name, stage in stages.items():
        rows.append(_line(name, stage))
        for part in ("wait_seconds", "cpu_seconds", "beside_gpu_seconds", "gpu_seconds", "bytes", "units"):
            setattr(total, part, getattr(total, part) + getattr(stage, part))
    rows.append(_line("in all", total))
    header = ["stage", "to do", "audio", "GB", *(f"hours, {machine.name}" for machine in MACHINES)]
    lines = [markdown_table(header, rows), ""]
    sources = ", ".join(rates.sources) or "none"
    measured = sorted(set().union(*(stage.measured for stage in stages.values())))
    unknown = sorted(set().union(*(stage.unknown for stage in stages.values())))
    lines += [
        f"CPU: measured rates ({sources}), shared by all cores; probes: at most 100 epochs, measured once.",
        f"GPU: {', '.join(measured) + ' as measured here; the others' if measured else 'nothing measured;'} scaled by "
        f"counted operations at {GPU_SHARE:.0%} of the {GPU_FLOPS / 1e12:g} TFLOP/s that are published for a "
        f"{GPU_NAME} (an assumption: expect a factor of two); beside it {MACHINES[1].cores} cores a GPU for one and "
        f"{MACHINES[2].cores} for eight do the rest.",
        f"Fetching: {BITS_PER_SECOND / 1e6:g} Mbit/s, and what a guest of YouTube is given.",
    ]
    uncounted = sorted(set().union(*(stage.uncounted for stage in stages.values())))
    lines += (
        [f"Operations not counted, so with the CPU's time everywhere: {', '.join(uncounted)}."] if uncounted else []
    )
    lines += [f"Without any rate, and so not counted: {', '.join(unknown)}."] if unknown else []
    return "\n".join(lines)


def _line(name: str, stage: StageHours) -> list[str]:
    audio = f"{stage.audio_seconds / 3600:.1f} h" if stage.audio_seconds else "-"
    size = f"{stage.bytes / 1e9:.1f}" if stage.bytes >= 5e7 else "< 0.1"
    return [name, f"{stage.units}", audio, size, *(_short(stage.hours(machine)) for machine in MACHINES)]


def _short(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.1f}" if hours >= 0.05 else "< 0.1"
