"""Systems that misbehave, for the tests of the harness."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.autoencoders.base import AutoencoderSpec
from benchmarks.autoencoders.controls import Identity
from benchmarks.store.store import Result


class MonoOnly(Identity):
    spec = AutoencoderSpec(name="mono-only", sample_rate=None, channels="mono")

    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        if len(audio) > 1:
            raise ValueError(f"{len(audio)} channels: mono only")
        return audio * np.float32(0.5) + np.float32(0.01) * np.roll(audio, 1, axis=1)


class WrongLength(Identity):
    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        return audio[:, :-1]


class NotFinite(Identity):
    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        return np.full_like(audio, np.nan)


class Raises(Identity):
    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        raise ValueError("cannot do this\nwith many lines of details")


class Crashes(Identity):
    """Runs out of memory while HARNESS_CRASH is set."""

    def reconstruct(self, audio: np.ndarray, sample_rate: int, **_: object) -> np.ndarray:
        if os.environ.get("HARNESS_CRASH"):
            raise MemoryError("no memory left")
        return audio


def returns_little(unit: object, store: object) -> Result:
    """A stage function."""
    return Result({"n": 1})


def returns_nothing(unit: object, store: object) -> None:
    """A stage function that breaks the contract."""
