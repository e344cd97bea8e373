"""Fan-out of work units: in this process, on local processes, or on a dask or ray cluster.

We write no scheduler: each executor hands units to a known one and yields how they ended, in any order.
A worker needs this package and a view of the store's folder, nothing else.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from benchmarks.registry import UnknownNameError
from benchmarks.units import Done, Unit, execute

EXECUTORS = ("serial", "loky", "dask", "ray")


class Executor(Protocol):
    """Runs units against the store at `root`. A context manager: workers are kept until it is left."""

    name: str

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exception: object) -> None: ...

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        """Yield one `Done` per unit, as they end. Units given are independent of each other."""
        ...


def make_executor(name: str = "loky", *, workers: int | None = None, address: str | None = None) -> Executor:
    """The executor called `name`.

    Args:
        name: "serial", "loky", "dask" or "ray".
        workers: number of local workers; default the number of CPUs this process may use.
        address: a running dask scheduler ("tcp://host:8786") or ray cluster ("ray://host:10001", "auto");
            without it dask and ray start local workers.

    Raises:
        UnknownNameError: no such executor.
        ValueError: `workers` < 1, or an address for an executor that takes none.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if address and name in ("serial", "loky"):
        raise ValueError(f"executor {name!r} takes no address, got {address!r}")
    workers = workers or available_cpus()
    if name == "serial":
        return SerialExecutor()
    if name == "loky":
        return LokyExecutor(workers)
    if name == "dask":
        return DaskExecutor(workers, address)
    if name == "ray":
        return RayExecutor(workers, address)
    raise UnknownNameError("executor", name, EXECUTORS)


def available_cpus() -> int:
    """CPUs this process may run on (a container's limit, not the machine's size)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class _Base:
    """Entering starts nothing: workers start with the first units."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let workers go."""


class SerialExecutor(_Base):
    """Units one after the other in this process."""

    name = "serial"

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        for unit in units:
            yield execute(unit, root)


class LokyExecutor(_Base):
    """Units on local processes, through joblib's loky back end."""

    name = "loky"

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        workers = min(self.workers, len(units))
        if workers <= 1:
            yield from SerialExecutor().run(units, root)
            return
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        pool = Parallel(
            n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch="all"
        )
        ended: set[str] = set()
        # joblib renews workers that grew (a model was loaded) and warns each time; that is no news here.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
        try:
            for done in pool(delayed(execute)(unit, root) for unit in units):
                ended.add(done.key)
                yield done
        except TerminatedWorkerError as error:
            # A worker was killed (out of memory, by hand): what it left undone is reported, not lost.
            for unit in units:
                if unit.key not in ended:
                    message = f"worker process died ({str(error).splitlines()[0][:200]})"
                    yield Done(unit.key, unit.stage, unit.name, unit.amount, error=message)


class DaskExecutor(_Base):
    """Units on a dask cluster: the one at `address`, or local worker processes."""

    name = "dask"

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers, self.address = workers, address
        self._client: Any = None
        self._cluster: Any = None

    def _start(self) -> Any:
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise ImportError("executor 'dask' needs the extra: pip install 'm2l[dask]'") from None
        if self._client is None:
            if not self.address:
                self._cluster = LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, dashboard_address=None, silence_logs=40
                )
            self._client = Client(self.address or self._cluster)
        return self._client

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        if not units:
            return
        client = self._start()
        from distributed import as_completed

        futures = {client.submit(execute, unit, root, pure=False, retries=2): unit for unit in units}
        for future in as_completed(list(futures)):
            yield _outcome(futures[future], future.result)
            future.release()

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
        self._client = self._cluster = None


class RayExecutor(_Base):
    """Units on a ray cluster: the one at `address`, or local worker processes."""

    name = "ray"

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers, self.address = workers, address
        self._started = False

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        if not units:
            return
        try:
            import ray
        except ImportError:
            raise ImportError("executor 'ray' needs the extra: pip install 'm2l[ray]'") from None
        if not ray.is_initialized():
            if self.address:
                ray.init(address=self.address, log_to_driver=False)
            else:
                ray.init(num_cpus=self.workers, log_to_driver=False, include_dashboard=False)
            self._started = True
        remote = ray.remote(num_cpus=1, max_retries=2)(execute)
        pending = {remote.remote(unit, root): unit for unit in units}
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            for reference in ready:
                yield _outcome(pending.pop(reference), partial(ray.get, reference))

    def close(self) -> None:
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


def _outcome(unit: Unit, result: Any) -> Done:
    """What a cluster answers for a unit; a lost worker becomes a failed unit."""
    try:
        return result()
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Done(unit.key, unit.stage, unit.name, unit.amount, error=text)
