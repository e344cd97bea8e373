"""How long a run takes and how it goes: estimates, the line on stderr, and a job's record in the store."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from benchmarks.harness.base import Executor
from benchmarks.harness.units import Done, Unit
from benchmarks.store.store import Store

#: Seconds between renewals of a job's record.
RENEW = 10.0
_ERRORS = 5


class Monitor(Protocol):
    """Follows a run, so that others can see it (`m2l-bench status`)."""

    def begin(self, units: Sequence[Unit]) -> None:
        """These units are about to run, in some order."""
        ...

    def step(self, done: Done) -> None:
        """One of them ended, or cannot run because an input failed."""
        ...


class Estimate:
    """CPU seconds that units will take, from the rates that this store has recorded."""

    def __init__(self, store: Store) -> None:
        self.rates = store.rates()
        self.by_stage: dict[str, list[float]] = {}
        for (stage, _), rate in self.rates.items():
            self.by_stage.setdefault(stage, []).append(rate)

    def seconds(self, unit: Unit) -> float | None:
        """CPU seconds of one unit: its own rate, else the mean rate of its stage, else None."""
        rate = self.rates.get((unit.stage, unit.name))
        if rate is None and unit.stage in self.by_stage:
            rate = sum(self.by_stage[unit.stage]) / len(self.by_stage[unit.stage])
        return None if rate is None else rate * unit.amount

    def total(self, units: Iterable[Unit]) -> tuple[float, int]:
        """Seconds of all units that can be estimated, and the number of the others."""
        known = [self.seconds(unit) for unit in units]
        return sum(s for s in known if s is not None), sum(s is None for s in known)


class Progress:
    """One line on stderr: how many units are done, which was the last, and about how long the rest takes."""

    def __init__(
        self,
        units: Sequence[Unit],
        store: Store,
        executor: Executor,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet or not units
        self.clock = clock
        self.count, self.total = 0, len(units)
        self.live = self.stream.isatty()
        self.last = -1e9
        estimate = Estimate(store)
        guess = [estimate.seconds(unit) for unit in units]
        known = [seconds for seconds in guess if seconds is not None]
        filler = sum(known) / len(known) if known else 1.0
        self.weights = {
            unit.key: seconds if seconds is not None else filler for unit, seconds in zip(units, guess, strict=True)
        }
        self.left = sum(self.weights.values())
        self.all = self.left
        self.workers = int(getattr(executor, "workers", 1))
        self.known = bool(known)
        self.start = clock()

    def step(self, done: Done) -> None:
        """A unit ended."""
        self.count += 1
        self.left -= self.weights.get(done.key, 0.0)
        if done.error is not None and not self.quiet:
            self._write(f"failed: {done.stage} {done.name}: {done.error}", end="\n")
        now = self.clock()
        if self.quiet or (now - self.last < (0.2 if self.live else 10.0) and self.count < self.total):
            return
        self.last = now
        self._write(f"[{self.count}/{self.total}] {done.stage} {done.name}{self._remaining(now)}")

    def _remaining(self, now: float) -> str:
        done = self.all - self.left
        if self.count == self.total:
            return f"  done in {duration(now - self.start)}"
        if done < 0.05 * self.all:
            # Too early for the clock: workers are still starting. Rates of earlier runs may tell.
            return f"  about {duration(self.left / self.workers)} left" if self.known else ""
        # Weights are CPU seconds where rates are known, else equal shares; the clock scales both.
        return f"  about {duration((now - self.start) * self.left / done)} left"

    def _write(self, text: str, end: str | None = None) -> None:
        if self.live and end is None:
            self.stream.write(f"\r\x1b[K{text}")
        else:
            self.stream.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """End the live line."""
        if self.live and not self.quiet and self.count:
            self.stream.write("\n")
            self.stream.flush()


def duration(seconds: float) -> str:
    """A length of time for people: "12 s", "3 min 20 s", "2.5 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds / 3600:.1f} h"


class Beat:
    """A job's record, renewed as its units end; a `Monitor` and a context manager.

    A store that cannot be written for a moment does not end a run: the record is merely older then.

    Args:
        store: where the job's results go.
        suite: its suite.
        shard: (index, count); (0, 1) for a run of everything.
        about: further entries of the record (executor, device).
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        suite: str,
        shard: tuple[int, int] = (0, 1),
        about: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self.clock = store, clock
        self.name = f"runs/{suite}/{shard[0]}-of-{shard[1]}.json"
        self.record: dict[str, Any] = {
            **(about or {}),
            "suite": suite,
            "shard": list(shard),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "state": "running",
            "started": clock(),
            "planned": 0,
            "done": 0,
            "failed": 0,
            "cpu_seconds": 0.0,
            "last": "",
            "errors": [],
        }
        self._written = -1e18

    def __enter__(self) -> Beat:
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.record["state"] = "finished" if kind is None else "stopped"
        self._write()

    def begin(self, units: Sequence[Unit]) -> None:
        self.record["planned"] += len(units)
        self._renew()

    def step(self, done: Done) -> None:
        self.record["failed" if done.error is not None else "done"] += 1
        self.record["cpu_seconds"] += done.cpu_seconds
        self.record["last"] = f"{done.stage} {done.name}"
        if done.error is not None and len(self.record["errors"]) < _ERRORS:
            self.record["errors"].append(f"{done.stage} {done.name}: {done.error}")
        self._renew()

    def _renew(self) -> None:
        if self.clock() - self._written >= RENEW:
            self._write()

    def _write(self) -> None:
        self._written = self.clock()
        try:
            self.store.put_record(self.name, self.record | {"updated": self._written})
        except OSError as error:
            print(f"status record not written: {error}", file=sys.stderr)
