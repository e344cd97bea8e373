"""What a run leaves to read: `log.jsonl`, one object a line, and TensorBoard events where it is installed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from m2l.io.atomic import write_atomic


class RunLog:
    """Appends to `run/log.jsonl`. Lines of steps after `step` are dropped first: they are about to come again.

    `seconds` counts on over interruptions.

    Args:
        run: the run's folder; None writes nothing.
        step: the step the run goes on from.
    """

    def __init__(self, run: Path | None, step: int) -> None:
        #: What the last line about it says was left out of the corpora.
        self.left_out: list[Any] = []
        self._file: Any = None
        self._board: Any = None
        self._crops = 0
        self._since = time.perf_counter()
        self._start = self._since
        if run is None:
            return
        path = run / "log.jsonl"
        if path.is_file():
            kept = [line for line in path.read_bytes().splitlines(True) if is_earlier(line, step)]
            write_atomic(path, b"".join(kept))
            entries = [json.loads(line) for line in kept]
            spent = [entry["seconds"] for entry in entries if isinstance(entry.get("seconds"), (int, float))]
            self._start -= spent[-1] if spent else 0.0
            self.left_out = next((one["left_out"] for one in reversed(entries) if "left_out" in one), [])
        self._path = path
        self._file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step)

    def step(self, step: int, facts: dict[str, float], crops: int, *, write: bool) -> None:
        """Count a step of so many crops, and write its line if it is time."""
        self._crops += crops
        if not write:
            return
        now = time.perf_counter()
        rate = self._crops / max(now - self._since, 1e-9)
        self._crops, self._since = 0, now
        self.write({"step": step, **facts, "crops_per_second": round(rate, 3), "seconds": round(now - self._start, 2)})

    def write(self, facts: dict[str, Any]) -> None:
        """Append one line."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(facts) + "\n")
            self._file.flush()
        except OSError as error:
            raise type(error)(error.errno, f"cannot write {self._path}: {error.strerror}") from error
        if self._board is not None:
            for name, value in facts.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, facts["step"])

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._file is not None:
                self._file.close()
            if self._board is not None:
                self._board.close()
        except OSError:  # a full disk fails the closing, too, and must not hide what failed first
            if error is None:
                raise


def is_earlier(line: bytes, step: int) -> bool:
    """Whether a line of the log is whole and of this step or one before."""
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):  # a line cut short by a kill
        return False
