"""Random choices that stay the same across processes, machines and numpy versions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.synthetic import VERSION

T = TypeVar("T")


class Draw:
    """A stream of random choices, named by a key.

    numpy promises that `SeedSequence` and the raw output of `PCG64` never change, but not what
    `Generator` makes of it (normal deviates, shuffles). So every choice here is built on uniform doubles,
    the one thing that has a fixed recipe (53 bits of one raw draw).

    Args:
        *key: Numbers and words; equal keys give equal streams, different keys independent ones.
    """

    def __init__(self, *key: int | str) -> None:
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else int(k) for k in key]
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([VERSION, *words])))

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return float(self._generator.random())

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def integer(self, count: int) -> int:
        """Uniform in 0 … count - 1."""
        return min(int(self.unit() * count), count - 1)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def choice(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of the options, evenly or by weight."""
        if weights is None:
            return options[self.integer(len(options))]
        target = self.unit() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            target -= weight
            if target < 0:
                return option
        return options[-1]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in random order."""
        order = np.argsort(self._generator.random(len(options)), kind="stable")
        return [options[int(i)] for i in order]

    def noise(self, *shape: int) -> npt.NDArray[np.float64]:
        """White noise of unit variance: uniform in ±sqrt(3), which is white just as normal deviates are."""
        return (self._generator.random(shape) * 2.0 - 1.0) * np.sqrt(3.0)
