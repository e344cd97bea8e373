"""One process or many: what `torchrun` says, and the model wrapped accordingly."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from m2l.training.settings import SettingsError

T = TypeVar("T")

#: Groups that have ended, kept to the end of the process (see `world`).
_ended: list[dist.ProcessGroup] = []


class PeerError(RuntimeError):
    """Another process of the run has failed, and says why itself."""


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
        """The process's device: its own GPU if there are any and none other is wanted.

        Raises:
            SettingsError: for a device that is not available.
        """
        if wanted is not None:
            try:
                device = torch.device(wanted)
                torch.empty(1, device=device)
            except (RuntimeError, AssertionError, NotImplementedError) as error:
                reason = str(error).strip().splitlines()[0]
                raise SettingsError(f"device {wanted!r} cannot be used: {reason}") from error
            return device
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

    def gather(self, value: T) -> list[T]:
        """All processes' values, by rank. All must call it."""
        if self.size == 1:
            return [value]
        gathered: list[T] = [value] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that fails in all processes if it fails in one, instead of leaving the others waiting.

        All must enter it. The first that failed raises its own error, the others `PeerError`.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        failed = [rank for rank, flag in enumerate(self.gather(failure is not None)) if flag]
        if failure is not None and failed[0] == self.rank:
            raise failure
        if failed:
            raise PeerError(f"process {failed[0]} has failed") from failure


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """Join the process group that `torchrun` describes in the environment, or be alone.

    gloo on the CPU, NCCL on GPUs.

    Raises:
        SettingsError: for an environment that does not describe a group, or processes that cannot find each other.
    """
    here = _here()
    if here.size == 1:
        yield here
        return
    target = here.device(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    backend = "nccl" if target.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, rank=here.rank, world_size=here.size)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(f"the {here.size} processes of the run cannot find each other: {reason}") from error
    # A trainer can outlive the group, in an error's traceback for one. Were its DDP the last owner, the group's
    # destructor would hold the GIL and wait for a thread that waits for the GIL to drop the last collective's tensors.
    _ended.append(dist.distributed_c10d._get_default_group())
    try:
        yield here
    finally:
        dist.destroy_process_group()


def _here() -> World:
    text = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if text["WORLD_SIZE"] in (None, "", "1"):
        return World()
    try:
        here = World(*(int(value or 0) for value in text.values()))
        if text["RANK"] is None or not 0 <= here.rank < here.size:
            raise ValueError
    except ValueError:
        said = ", ".join(f"{name}={value}" for name, value in text.items())
        raise SettingsError(f"{said} in the environment do not describe a process of a run; use torchrun") from None
    return here


def peak_memory(device: torch.device) -> float:
    """Peak bytes: of the GPU's allocator, or resident in this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    import resource  # not on every system

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
