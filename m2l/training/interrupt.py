"""Signals that end a run politely: after the step in flight, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from m2l.training.loop import Trainer


@contextmanager
def stopping(trainer: Trainer) -> Iterator[list[int]]:
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
