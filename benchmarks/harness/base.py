"""What an executor is: it runs units against a store and yields how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from benchmarks.harness.units import Done, Unit


class Executor(Protocol):
    """Runs units against the store at `root`. A context manager: workers are kept until it exits."""

    name: str

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exception: object) -> None: ...

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        """Yield one `Done` per unit, as they end. Units given are independent of each other."""
        ...


class BaseExecutor:
    """Workers start with the first units, not on entering."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the workers."""
