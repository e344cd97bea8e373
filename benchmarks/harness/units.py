"""Work units: idempotent, keyed by content, runnable anywhere.

A unit is one stage of work on up to a few dozen clips. Its key is a hash over everything that can change
its result; its result lies in the store under that key. A unit runs in any process that can import this
project and reach the store, with all thread pools pinned to one thread, so that every executor gives the
same bits.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from benchmarks.registry import load_target
from benchmarks.store.fingerprint import digest
from benchmarks.store.store import CorruptEntryError, Result, Store
from benchmarks.user_code import UserCodeError, describe, place_of, stdout_to_stderr

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

#: Key in the spec of a unit that a dry run plans for data, weights or packages that are not available.
STAND_IN = "stand-in"


@dataclass(frozen=True)
class Watch:
    """What the result of a unit that runs a user's code depends on (see `benchmarks.evaluation.trial`).

    Attributes:
        folder: where the store records which files units read beyond `files`.
        files: path -> digest of every file that was read when the code was tried.
        opaque: programs that the code starts; what they read is unknown.
        keep: whether a later run may reuse the result.
    """

    folder: str
    files: dict[str, str]
    opaque: tuple[str, ...] = ()
    keep: bool = True


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        stage: "load", "reconstruct", "score", "embed", "aggregate", "features", "probe", ...
        name: what the stage works on or with (system, metric, embedder); for progress and rates.
        target: `"module:function"`, called as `function(unit, store) -> Result`.
        spec: JSON-ready; everything that can change the result, code digests included.
        inputs: units whose results this one reads; their keys are part of this unit's key.
        payload: what the function needs and the spec already identifies (clips, paths); picklable, not
            part of the key.
        amount: how much work it is, in seconds of audio; for estimates.
        group: units of one group belong on one shard (a reconstruction and its scores).
        watch: for units that run a user's code; None for code of this project.
        local: it uses an object that only the planning process has, and runs there.
    """

    stage: str
    name: str
    target: str
    spec: dict[str, Any]
    inputs: tuple[Unit, ...] = ()
    payload: Any = None
    amount: float = 0.0
    group: str = ""
    watch: Watch | None = None
    local: bool = False

    @property
    def device(self) -> str:
        """Device of its network ("cpu", "cuda", "cuda:1"); "cpu" for a unit without one."""
        return str(self.spec.get("device") or "cpu")

    @cached_property
    def stands_in(self) -> bool:
        """Whether it stands for work that cannot run here: a dry run plans it to count it."""
        return STAND_IN in self.spec or any(unit.stands_in for unit in self.inputs)

    @cached_property
    def own(self) -> bool:
        """Whether a user's code contributes to its result."""
        return self.watch is not None or any(unit.own for unit in self.inputs)

    @cached_property
    def key(self) -> str:
        """Content key: sha256 over stage, target, spec, and the keys of the inputs."""
        return digest(
            {
                "stage": self.stage,
                "target": self.target,
                "spec": self.spec,
                "inputs": [unit.key for unit in self.inputs],
            }
        )

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unit) and self.key == other.key

    def on_shard(self, index: int, count: int) -> bool:
        """Whether this unit is the work of shard `index` of `count`."""
        return int(digest(self.group or self.key)[:12], 16) % count == index


@dataclass(frozen=True)
class Done:
    """How a unit ended."""

    key: str
    stage: str
    name: str
    amount: float
    cpu_seconds: float = 0.0
    error: str | None = None
    wall_seconds: float = 0.0
    device: str = "cpu"
    details: str = field(default="", repr=False)
    own: bool = False


def fetch(unit: Unit, store: Store) -> Result:
    """The unit's result: read from the store if it exists and is intact, else computed (inputs first)."""
    try:
        return store.get(unit.key)
    except (KeyError, CorruptEntryError):
        return compute(unit, store)


def compute(unit: Unit, store: Store) -> Result:
    """Run the unit and store its result; a result that depends on a provisional one is provisional too."""
    result = load_target(unit.target)(unit, store)
    if not isinstance(result, Result):
        raise TypeError(f"{unit.target} returned {type(result).__name__}, expected a Result")
    if unit.own and any(is_provisional(item, store) for item in unit.inputs):
        result.meta["again"] = True
    store.put(unit.key, result)
    return result


def is_provisional(unit: Unit, store: Store) -> bool:
    """Whether a user's code failed on some item of the unit's stored result, so that the next run tries again."""
    try:
        return unit.own and bool(store.meta(unit.key).get("again"))
    except KeyError:
        return False


def execute(unit: Unit, root: str) -> Done:
    """Run one unit for an executor; an exception is returned in the answer instead of being raised.

    Only ``KeyboardInterrupt`` and ``SystemExit`` pass through.
    """
    start, clock = time.process_time(), time.perf_counter()
    try:
        with pinned_threads(), stdout_to_stderr():
            compute(unit, Store(root))
    except Exception as error:
        own = unit.watch is not None or place_of(error) is not None
        message = describe(error) if own else f"{type(error).__name__}: {error}"
        details = error.details if isinstance(error, UserCodeError) else traceback.format_exc()
        return Done(unit.key, unit.stage, unit.name, unit.amount, error=message, details=details, own=own)
    return Done(
        unit.key,
        unit.stage,
        unit.name,
        unit.amount,
        cpu_seconds=time.process_time() - start,
        wall_seconds=time.perf_counter() - clock,
        device=unit.device,
    )


@contextmanager
def pinned_threads() -> Iterator[None]:
    """One thread for BLAS, OpenMP and torch: sums are then taken in one order in every process.

    Libraries that are imported inside read the environment; those already imported are set directly.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else None
    try:
        if torch is not None:
            torch.set_num_threads(1)
        with _thread_pools(len(sys.modules)).limit(limits=1):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch is not None and threads is not None:
            torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> ThreadpoolController:
    """The thread pools of the libraries that are loaded; looked up again (some ms) once modules were imported."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_resident: tuple[Any, Any] = (None, None)


def resident(key: Any, make: Callable[[], Any]) -> Any:
    """The object for `key`, kept between units of this process.

    Another key releases the last object before the next one is made, so a process holds one model at a time.
    """
    global _resident
    if _resident[0] != key:
        _resident = (None, None)
        _resident = (key, make())
    return _resident[1]
