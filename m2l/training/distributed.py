"""One process or many: what `torchrun` says, and the model wrapped accordingly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This process's place among those of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def device(self, wanted: str | None) -> torch.device:
        """The process's device: its own GPU if there are any and none other is wanted."""
        if wanted is not None:
            return torch.device(wanted)
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds in any process. All must call it."""
        return bool(self.max(float(flag)))

    def max(self, value: float) -> float:
        """The largest of all processes' values, NaN if one is. All must call it."""
        return max(self.gather(value), key=lambda one: (one != one, one))

    def mean(self, value: float) -> float:
        """The mean of all processes' values. All must call it."""
        values = self.gather(value)
        return sum(values) / len(values)

    def gather(self, value: float) -> list[float]:
        """All processes' values, by rank. All must call it."""
        if self.size == 1:
            return [value]
        gathered: list[float] = [0.0] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """Join the process group that `torchrun` describes in the environment, or be alone.

    gloo on the CPU, NCCL on GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    here = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    target = here.device(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    dist.init_process_group("nccl" if target.type == "cuda" else "gloo", rank=here.rank, world_size=size)
    try:
        yield here
    finally:
        dist.destroy_process_group()
