"""What ends a run before its last step: a signal, a loss that spikes, audio that cannot be read."""

from __future__ import annotations

import json
import math
import signal
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from m2l.io.atomic import write_atomic
from m2l.training.checkpoint import list_checkpoints
from m2l.training.log import RunLog

#: A run stops when more than this share of its draws could not be read, and judges from so many draws on.
LARGEST_SHARE, JUDGED_FROM = 0.25, 100
#: Files that are named on stderr as they turn up; further ones are in the log alone.
NAMED = 10


class TrainingStopped(RuntimeError):
    """Training that must not continue: a loss that is not finite or spikes, audio that cannot be read.

    Names step, loss and batch.
    """


class UnreadableDataError(TrainingStopped):
    """Training that stopped because too much of its audio could not be read; the state is in a checkpoint."""


class Stoppable(Protocol):
    """What `stopping` stops."""

    stop_requested: bool


@contextmanager
def stopping(trainer: Stoppable) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C end the run after the step in flight, with a checkpoint; a second Ctrl-C ends it at once."""
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        trainer.stop_requested = True

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def complaint_about(loss: float, recent: deque[float], loss_spike: float) -> str | None:
    """What is wrong with a loss, if anything; a good one joins the `recent` ones that the next are judged by."""
    if not math.isfinite(loss):
        return "the loss is not finite"
    if len(recent) == recent.maxlen and loss > loss_spike * (median := statistics.median(recent)):
        return f"the loss is over {loss_spike:g} x the last median {median:.4g}"
    recent.append(loss)
    return None


def report_failure(run: Path, rank: int, step: int, what: str, origins: list[str], loss: float | None) -> str:
    """Write `failure.json` into the run's folder; returns the message for the error."""
    kept = list_checkpoints(run)
    report = {"step": step, "what": what, "loss": None if loss is None else str(loss), "batch": origins,
              "rank": rank, "checkpoint": kept[-1].name if kept else None}  # fmt: skip
    if run.is_dir():
        name = f"failure-{rank}.json" if rank else "failure.json"
        write_atomic(run / name, (json.dumps(report, indent=2) + "\n").encode())
    batch = f"; batch: {'; '.join(origins)}" if origins else ""
    return (
        f"step {step}: {what}{'' if loss is None else f' ({loss:g})'}; the last checkpoint is "
        f"{kept[-1] if kept else 'none'}{batch}"
    )


class Unreadable:
    """The tally over all processes of a run.

    Args:
        counts: path -> draws of it that could not be read so far; changed in place.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        #: (path, what was wrong) of files that are not named yet.
        self.news: list[tuple[str, str]] = []

    def add(self, found: Iterable[tuple[str, str]], crops: int) -> str | None:
        """Count (path, what was wrong) of each draw; what to stop for, if it is too much for so many crops in all."""
        before = self.counts.copy()
        for path, reason in found:
            if path not in self.counts:
                self.news.append((path, reason))
            self.counts[path] += 1
        count = self.counts.total()
        draws = crops + count
        if count == before.total() or draws < JUDGED_FROM or count <= LARGEST_SHARE * draws:
            return None
        verdict = f"{self}, more than {LARGEST_SHARE:.0%} of {draws}"
        # The step is not taken: when the run goes on it makes the same draws.
        self.counts.clear()
        self.counts.update(before)
        return verdict

    def __str__(self) -> str:
        """Such as "3 draws could not be read (a.wav 2, b.wav 1)", the worst files first."""
        names = [f"{path} {count}" for path, count in self.counts.most_common(3)]
        if len(self.counts) > 3:
            names.append(f"{len(self.counts) - 3} other files")
        return f"{self.counts.total()} draws could not be read ({', '.join(names)})"

    def tell(self, log: RunLog, step: int, say: Callable[[str], None]) -> None:
        """Name the new files, in the log and by `say`."""
        known = len(self.counts) - len(self.news)
        for number, (path, reason) in enumerate(self.news, known + 1):
            log.write({"step": step, "unreadable": path, "reason": reason})
            if number <= NAMED:
                say(f"{reason}; another place is drawn")
            elif number == NAMED + 1:
                say("more files cannot be read; log.jsonl names them")
        self.news.clear()
