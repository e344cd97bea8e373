"""Fan-out of work units: in this process, on local processes, or on a dask or ray cluster.

We write no scheduler: each executor hands units to a known one and yields how they ended, in any order.
A worker needs this package and a view of the store's folder, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from benchmarks.registry import UnknownNameError
from benchmarks.units import Done, Unit, execute

EXECUTORS = ("serial", "loky", "dask", "ray")


class Executor(Protocol):
    """Runs units against the store at `root`."""

    name: str

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


class SerialExecutor:
    """Units one after the other in this process."""

    name = "serial"

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        for unit in units:
            yield execute(unit, root)


class LokyExecutor:
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


class DaskExecutor:
    """Units on a dask cluster: the one at `address`, or local worker processes."""

    name = "dask"

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers, self.address = workers, address

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        try:
            from distributed import Client, LocalCluster, as_completed
        except ImportError:
            raise ImportError("executor 'dask' needs the extra: pip install 'm2l[dask]'") from None
        cluster = None
        if not self.address:
            cluster = LocalCluster(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None, silence_logs=40
            )
        try:
            with Client(self.address or cluster) as client:
                futures = {
                    client.submit(execute, unit, root, key=f"m2l-{unit.key}", pure=True, retries=2): unit
                    for unit in units
                }
                for future in as_completed(list(futures)):
                    yield _outcome(futures[future], future.result)
                    future.release()
        finally:
            if cluster is not None:
                cluster.close()


class RayExecutor:
    """Units on a ray cluster: the one at `address`, or local worker processes."""

    name = "ray"

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers, self.address = workers, address

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        try:
            import ray
        except ImportError:
            raise ImportError("executor 'ray' needs the extra: pip install 'm2l[ray]'") from None
        started = not ray.is_initialized()
        if started:
            options: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False}
            if self.address:
                ray.init(address=self.address, log_to_driver=False)
            else:
                ray.init(num_cpus=self.workers, **options)
        try:
            remote = ray.remote(num_cpus=1, max_retries=2)(execute)
            pending = {remote.remote(unit, root): unit for unit in units}
            while pending:
                ready, _ = ray.wait(list(pending), num_returns=1)
                for reference in ready:
                    yield _outcome(pending.pop(reference), lambda ref=reference: ray.get(ref))
        finally:
            if started:
                ray.shutdown()


def _outcome(unit: Unit, result: Any) -> Done:
    """What a cluster answers for a unit; a lost worker becomes a failed unit."""
    try:
        return result()
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Done(unit.key, unit.stage, unit.name, unit.amount, error=text)
