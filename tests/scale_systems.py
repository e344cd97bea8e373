"""A data set as large as the paper's and systems that cost nothing: what is left is the harness."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.autoencoders.controls import Identity
from benchmarks.datasets.base import Clip
from benchmarks.harness.units import Unit
from benchmarks.store.store import Result, Store

RATE = 16000
N_CLIPS = 5521


@dataclass(frozen=True)
class Tone:
    """One second of a tone that depends on the clip's number."""

    number: int

    def __call__(self) -> tuple[np.ndarray, int]:
        cycles = 100 + self.number % 900
        wave = np.sin(2 * np.pi * cycles * np.arange(RATE, dtype=np.float32) / RATE)
        return (wave[None] * np.float32(0.3)).astype(np.float32), RATE


class PaperSized:
    """As many clips as MusicCaps, of one second each."""

    name, version, license, citation = "paper-sized", "1", "CC0", ""

    def __init__(self, size: int = N_CLIPS) -> None:
        self.size = size

    def clips(self, split: str | None = None) -> list[Clip]:
        return [
            Clip(f"clip{i:05d}", self.name, f"{i:064x}", {}, f"generated {i}", Tone(i), seconds=1.0)
            for i in range(self.size)
        ]


class Instant(Identity):
    """Scales its input; ready at once."""

    gain = np.float32(0.5)

    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        return audio * self.gain + np.float32(1e-3)


def _system(number: int) -> type[Instant]:
    spec = AutoencoderSpec(name=f"instant{number}", sample_rate=None, channels="per_channel")
    return type(f"Instant{number}", (Instant,), {"spec": spec, "gain": np.float32(0.3 + 0.1 * number)})


Instant0, Instant1, Instant2, Instant3, Instant4, Instant5, Instant6 = (_system(i) for i in range(7))


class Slow(Instant):
    """Takes a moment for each clip, and can be told to leave a sign of where it runs.

    The moment is slept: a cluster's hosts in a test share two cores.
    """

    spec = AutoencoderSpec(name="slow", sample_rate=None, channels="per_channel")

    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        time.sleep(float(os.environ.get("SCALE_SECONDS", "0.2")))
        if folder := os.environ.get("SCALE_SIGNS"):
            with open(os.path.join(folder, os.environ.get("SCALE_HOST", "driver")), "a") as file:
                file.write(".\n")
        return super().reconstruct(audio, sample_rate)


def where(unit: Unit, store: Store) -> Result:
    """A stage that says which worker of a cluster it ran on."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        return Result({"worker": str(get_worker().name)})
    import ray

    return Result({"gpus": ray.get_runtime_context().get_accelerator_ids()["GPU"]})


def slow(unit: Unit, store: Store) -> Result:
    """A stage that takes a while."""
    time.sleep(0.3)
    return Result({})
