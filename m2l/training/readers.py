"""Processes that read crops ahead of the training, and what happens when one of them dies.

Torch's loader hands crops over in `/dev/shm`, of which a container may have little, and a killed process of it raises
in the middle of an optimizer step. Here crops lie in memory that is shared with their reader alone; a reader that dies
is started again and asked for the same crops; and whoever waits for crops still hears that the run is to stop. A reader
that gives no sign for long is treated as dead: it may have been forked while another thread held a lock that it needs.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from typing import Any

import numpy as np
import torch

from m2l.training.data import Crops, DataError, StepOrder, collate
from m2l.training.settings import SettingsError

Batch = dict[str, Any]
#: Batches that each reader may be ahead of the training.
AHEAD = 2
#: Deaths of a reader over the same crops before the run is given up.
MAX_DEATHS = 3
#: Seconds after which waiting for a batch is mentioned, and how many times as long until its reader is killed.
PATIENCE = 60.0
PATIENCES = 5
_POLL = 0.2


class ReaderError(RuntimeError):
    """A process that reads audio and dies again and again, or cannot be started."""


class StopRequestedError(Exception):
    """The run was asked to stop while it waited for crops."""


@contextmanager
def reading(
    crops: Crops, order: StepOrder, workers: int, stopped: Callable[[], bool], *, pin: bool = False
) -> Iterator[Iterator[Batch]]:
    """The batches of `order`, read by so many processes (0: by this one), which end with the block.

    Args:
        crops: what an item is.
        order: the items of each batch.
        workers: processes.
        stopped: whether waiting for a batch should be given up.
        pin: put batches into pinned memory.

    Raises:
        SettingsError: the system cannot fork.
        DataError: on a batch that cannot be read.
        ReaderError: on a batch over which its reader dies again and again.
        StopRequestedError: on a batch that is not read yet, if `stopped()`.
    """
    if not workers:
        yield (collate([crops[item] for item in items]) for items in order)
        return
    readers = _Readers(crops, order, workers, stopped, pin)
    try:
        yield readers
    finally:
        readers.close()


def take(batches: Iterator[Batch], parts: int) -> tuple[list[Batch], DataError | ReaderError | None]:
    """The next batches, or those before one that is not available and the reason; fewer if the run is to stop."""
    taken: list[Batch] = []
    try:
        for _ in range(parts):
            taken.append(next(batches))
    except StopRequestedError:
        pass
    except (DataError, ReaderError) as error:
        return taken, type(error)(str(error))  # without the traceback's frames
    return taken, None


class _Readers(Iterator[Batch]):
    """Batch `n` comes from reader `n % workers`; the crops are the same whoever reads them."""

    def __init__(self, crops: Crops, order: StepOrder, workers: int, stopped: Callable[[], bool], pin: bool) -> None:
        self._order, self._stopped, self._pin = iter(order), stopped, pin
        self._readers: list[_Reader] = []
        self._turn = 0
        # Readers wait for the end of this pipe. It comes when this process ends, however it ends.
        self._lifeline = os.pipe()
        _, part = order.settings.shares(order.world_size)
        try:
            for _ in range(workers):
                self._readers.append(_Reader(crops, part, self._lifeline))
        except BaseException:
            self.close()
            raise
        for slot in range(AHEAD):
            for reader in self._readers:
                self._ask(reader, slot)

    def _ask(self, reader: _Reader, slot: int) -> None:
        items = next(self._order, None)
        if items is not None:
            reader.ask(slot, items)

    def __next__(self) -> Batch:
        reader = self._readers[self._turn % len(self._readers)]
        if not reader.pending:
            raise StopIteration
        origins, unreadable, fault = self._answer(reader)
        slot, items = reader.pending.popleft()
        reader.deaths = 0
        if fault is not None:
            raise DataError(fault)
        waveform, noise = reader.take(slot, len(items), self._pin)
        self._turn += 1
        self._ask(reader, slot)
        return {"waveform": waveform, "noise": noise, "origin": origins, "unreadable": unreadable}

    def _answer(self, reader: _Reader) -> Any:
        since, mentioned = time.monotonic(), False
        while True:
            try:
                ready = connection.wait([reader.connection, reader.process.sentinel], _POLL)
                if reader.connection in ready:
                    return reader.connection.recv()
                dead = bool(ready)
            except (EOFError, OSError):  # it died while it answered
                dead = True
            if self._stopped() and not dead:
                raise StopRequestedError
            waited = time.monotonic() - since
            if dead or waited > PATIENCES * PATIENCE:
                reader.restart("" if dead else f"no answer for {waited:.0f} s")
                since, mentioned = time.monotonic(), False
            elif waited > PATIENCE and not mentioned:
                print(
                    f"m2l: no audio for {PATIENCE:.0f} s (is the disk available?); the process that reads it is "
                    f"replaced after {PATIENCES * PATIENCE:.0f} s",
                    file=sys.stderr,
                )
                mentioned = True

    def close(self) -> None:
        """End all readers."""
        for end in self._lifeline:
            os.close(end)
        for reader in self._readers:
            reader.end()


class _Reader:
    """One process, the crops it is asked for, and the memory it leaves them in."""

    def __init__(self, crops: Crops, n_items: int, lifeline: tuple[int, int]) -> None:
        self.pending: deque[tuple[int, list[int]]] = deque()
        self.deaths = 0
        self._crops, self._lifeline = crops, lifeline
        self._noise_shape = (2, crops.config.n_bins, crops.settings.crop_frames)
        width = crops.samples + int(np.prod(self._noise_shape))
        slots = [mmap.mmap(-1, 4 * n_items * width) for _ in range(AHEAD)]
        self._slots = [np.frombuffer(slot, np.float32).reshape(n_items, width) for slot in slots]
        self._start()

    def _start(self) -> None:
        # Ctrl-C and job schedulers signal all processes of a run. The trainer finishes its step and ends its readers
        # itself, so they never see these: a blocked signal stays blocked in a child.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            context = multiprocessing.get_context("fork")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(
                target=_serve, args=(theirs, self._lifeline, self._crops, self._slots), daemon=True
            )
            self.process.start()
            theirs.close()
        except ValueError as error:
            raise SettingsError("workers need a system that can fork; use 0") from error
        except OSError as error:
            raise ReaderError(f"no process to read audio could be started: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for request in self.pending:
            self._send(request)

    def _send(self, request: tuple[int, list[int]]) -> None:
        with suppress(OSError):  # it is dead, and its replacement is asked again
            self.connection.send(request)

    def ask(self, slot: int, items: list[int]) -> None:
        """Have these items read into this slot."""
        self.pending.append((slot, items))
        self._send((slot, items))

    def take(self, slot: int, n_items: int, pin: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of what lies in a slot: (items, samples) and (items, 2, n_bins, T)."""
        rows, samples = torch.from_numpy(self._slots[slot][:n_items]), self._crops.samples
        waveform, noise = (
            part.pin_memory() if pin else part.clone(memory_format=torch.contiguous_format)
            for part in (rows[:, :samples], rows[:, samples:])
        )
        return waveform, noise.view(n_items, *self._noise_shape)

    def restart(self, silence: str = "") -> None:
        """Replace a process that died, or is killed for its `silence`, and ask the new one for the same crops."""
        self.end(wait=0 if silence else 1)
        self.deaths += 1
        how = silence or f"exit code {self.process.exitcode}"
        if not silence and (self.process.exitcode or 0) < 0:
            how = f"signal {-self.process.exitcode}"  # type: ignore[operator]
        if self.deaths >= MAX_DEATHS:
            raise ReaderError(f"a process that reads audio died {self.deaths} times over one batch ({how})")
        print(f"m2l: a process that reads audio died ({how}); another one takes over", file=sys.stderr)
        self._start()

    def end(self, wait: float = 1) -> None:
        """End the process, by force after `wait` seconds."""
        self.connection.close()
        self.process.join(wait)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(5)


def _serve(requests: Any, lifeline: tuple[int, int], crops: Crops, slots: list[np.ndarray]) -> None:
    """Answer requests until the parent is gone: the body of a reader process."""
    os.close(lifeline[1])
    threading.Thread(target=_end_with, args=(lifeline[0],), daemon=True).start()
    torch.set_num_threads(1)  # more would take the trainer's
    os.environ["OMP_NUM_THREADS"] = "1"
    with suppress(EOFError, OSError):
        while True:
            slot, items = requests.recv()
            requests.send(_read(crops, items, slots[slot]))


def _read(crops: Crops, items: list[int], slot: np.ndarray) -> tuple[list[str], list[tuple[str, str]], str | None]:
    """Put crops into a slot; returns their origins, what was unreadable meanwhile, and what made it fail."""
    try:
        batch = collate([crops[item] for item in items])
        rows = torch.from_numpy(slot[: len(items)])
        rows[:, : crops.samples] = batch["waveform"]
        rows[:, crops.samples :] = batch["noise"].flatten(1)
        return batch["origin"], batch["unreadable"], None
    except DataError as error:
        return [], [], str(error)
    except Exception as error:
        return [], [], f"{type(error).__name__}: {error}"


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(0)
