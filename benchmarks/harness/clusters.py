"""Units on dask and ray clusters: bounded queues, CPU and GPU stages on matching workers.

A unit whose network runs on a GPU goes to a worker that offers one (dask: `--resources GPU=1`; ray counts
them itself), the others to CPUs. A worker of a running cluster whose code or numerical libraries
differ from those that the run was planned with returns an error and computes nothing: its result would be
stored under a key that promises something else.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.harness.base import BaseExecutor
from benchmarks.harness.units import Done, Unit, execute
from benchmarks.store.fingerprint import library_versions

#: Units submitted per CPU of the cluster: enough to keep it busy, few enough to keep memory flat.
_AHEAD = 4
_LEAST_WINDOW = 32
#: Seconds between checks of the cluster's size.
_RESIZE = 10.0
#: Seconds to wait for a worker of a running cluster: for the first one, and again when all are gone.
_NO_WORKER = 600.0
#: Seconds between checks for units that have ended.
_POLL = 0.05
#: A unit fails after this many of its workers were lost.
_RETRIES = 3


@lru_cache(maxsize=1)
def environment() -> dict[str, str]:
    """What a worker must share with the run: versions of the numerical libraries, and this project's code."""
    return {**library_versions(), "code": sources_digest(Path(__file__).resolve().parents[2])}


def sources_digest(root: Path) -> str:
    """Digest of this project's sources below `root`.

    Raises:
        RuntimeError: there are none: with a wrong root the code of all workers would look the same.
    """
    paths = [path for package in ("m2l", "benchmarks", "probes") for path in sorted((root / package).rglob("*.py"))]
    if not paths:
        raise RuntimeError(f"no source file of m2l below {root}: workers cannot be compared with this run")
    sha = hashlib.sha256()
    for path in paths:
        sha.update(f"{path.relative_to(root).as_posix()}\0".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def execute_alike(unit: Unit, root: str, expected: Mapping[str, str] | None) -> Done:
    """`execute`, unless this worker's environment is not the expected one (None: any will do)."""
    found = environment() if expected is not None else {}
    for name, wanted in (expected or {}).items():
        if found.get(name) != wanted:
            error = (
                f"worker {socket.gethostname()} has {name} {found.get(name)}, the run was planned with "
                f"{wanted}; install the same m2l and constraints.txt on all hosts and restart its worker"
            )
            return Done(unit.key, unit.stage, unit.name, unit.amount, error=error)
    return execute(unit, root)


class DaskExecutor(BaseExecutor):
    """Units on a dask cluster: the one at `address`, or local worker processes.

    Args:
        workers: number of local workers, where there is no address.
        address: of a running scheduler.
    """

    name = "dask"

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers, self.address = workers, address
        self._client: Any = None
        self._cluster: Any = None
        self._looked = -1e9
        self._window = _LEAST_WINDOW
        self._offered: set[str] = set()

    def _start(self) -> Any:
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise ImportError("executor 'dask' needs the extra: pip install 'm2l[dask]'") from None
        if self._client is not None:
            return self._client
        if not self.address:
            self._cluster = LocalCluster(
                n_workers=self.workers, threads_per_worker=1, dashboard_address=None, silence_logs=40
            )
            self._client = Client(self._cluster)
            return self._client
        try:
            self._client = Client(self.address)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no dask scheduler at {self.address!r}: {error}") from None
        if not self._client.nthreads():
            print(f"waiting for a worker at {self.address}", file=sys.stderr)
            try:
                self._client.wait_for_workers(1, timeout=_NO_WORKER)
            except TimeoutError:
                raise ConnectionError(f"no worker joined {self.address!r} within {_NO_WORKER:g} s") from None
        return self._client

    def _look(self, client: Any) -> None:
        """Update the number of units to submit and the resources that workers offer; clusters grow and shrink."""
        if time.monotonic() - self._looked < _RESIZE:
            return
        self._looked = time.monotonic()
        self.workers = max(1, sum(client.nthreads().values()))
        self._window = max(_LEAST_WINDOW, _AHEAD * self.workers)
        if self.address:
            workers = _scheduler_workers(client).values()
            self._offered = {name for worker in workers for name in worker.get("resources", {})}

    def _submit(self, client: Any, unit: Unit, root: str, expected: Mapping[str, str] | None) -> Any:
        needs: dict[str, float] = {}
        if self.address and unit.device != "cpu":
            needs = {"GPU": 1}
        elif "CPU" in self._offered:
            needs = {"CPU": 1}
        return client.submit(execute_alike, unit, root, expected, pure=False, retries=_RETRIES, resources=needs or None)

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        if not units:
            return
        client = self._start()
        from distributed import as_completed

        self._look(client)
        expected = environment() if self.address else None
        lost = self.address and "GPU" not in self._offered
        waiting = iter([unit for unit in units if not (lost and unit.device != "cpu")])
        for unit in units:
            if lost and unit.device != "cpu":
                yield _without_gpu(unit, "dask worker ADDRESS --nthreads 1 --resources GPU=1")
        futures = {self._submit(client, unit, root, expected): unit for unit in islice(waiting, self._window)}
        ending = as_completed(list(futures))
        alone = _Alone()
        while futures:
            ended = ending.next_batch(block=False)
            if not ended:
                time.sleep(_POLL)
                if alone.too_long(lambda: not client.nthreads()):
                    yield from (_without_worker(unit) for unit in (*futures.values(), *waiting))
                    return
                continue
            for future in ended:
                yield _outcome(futures.pop(future), future.result)
                future.release()
            self._look(client)
            for unit in islice(waiting, max(0, self._window - len(futures))):
                added = self._submit(client, unit, root, expected)
                futures[added] = unit
                ending.add(added)

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
        self._client = self._cluster = None


def _scheduler_workers(client: Any) -> dict[str, Any]:
    """What the scheduler knows about all its workers (newer versions of dask show only the first five)."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:
        info = client.scheduler_info()
    return dict(info["workers"])


class RayExecutor(BaseExecutor):
    """Units on a ray cluster: the one at `address`, or local worker processes.

    Args:
        workers: number of local workers, where there is no address.
        address: of a running cluster.
    """

    name = "ray"

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers, self.address = workers, address
        self._started = False

    def _start(self) -> Any:
        try:
            import ray
        except ImportError:
            raise ImportError("executor 'ray' needs the extra: pip install 'm2l[ray]'") from None
        if not ray.is_initialized():
            if self.address:
                try:
                    ray.init(address=self.address, log_to_driver=False)
                except (OSError, ConnectionError, RuntimeError, ValueError) as error:
                    raise ConnectionError(f"no ray cluster at {self.address!r}: {error}") from None
            else:
                ray.init(num_cpus=self.workers, log_to_driver=False, include_dashboard=False)
            self._started = True
        return ray

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        if not units:
            return
        ray = self._start()
        expected = environment() if self.address else None
        task = ray.remote(max_retries=_RETRIES)(execute_alike)
        on_cpu, on_gpu = task.options(num_cpus=1), task.options(num_cpus=1, num_gpus=1)
        lost = not ray.cluster_resources().get("GPU")
        waiting = iter([unit for unit in units if not (lost and unit.device != "cpu")])
        for unit in units:
            if lost and unit.device != "cpu":
                yield _without_gpu(unit, "ray start --address=ADDRESS --num-gpus=1")
        pending: dict[Any, Unit] = {}
        alone = _Alone()
        window, looked = _LEAST_WINDOW, -1e9
        while True:
            if time.monotonic() - looked > _RESIZE:
                looked = time.monotonic()
                self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
                window = max(_LEAST_WINDOW, _AHEAD * self.workers)
            for unit in islice(waiting, max(0, window - len(pending))):
                place = on_cpu if unit.device == "cpu" else on_gpu
                pending[place.remote(unit, root, expected)] = unit
            if not pending:
                return
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=_RESIZE)
            if not ready and alone.too_long(lambda: not ray.cluster_resources().get("CPU")):
                yield from (_without_worker(unit) for unit in (*pending.values(), *waiting))
                return
            for reference in ready:
                yield _outcome(pending.pop(reference), partial(ray.get, reference))

    def close(self) -> None:
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


class _Alone:
    """Tells when a cluster has had no worker for `_NO_WORKER` seconds; it is asked every `_RESIZE` seconds at most."""

    def __init__(self) -> None:
        self.asked = self.last = time.monotonic()

    def too_long(self, empty: Callable[[], bool]) -> bool:
        """Whether it is time to give up; `empty` says whether the cluster has no worker now."""
        now = time.monotonic()
        if now - self.asked >= min(_RESIZE, _NO_WORKER):
            self.asked = now
            if not empty():
                self.last = now
        return now - self.last >= _NO_WORKER and self.asked == now


def _without_worker(unit: Unit) -> Done:
    error = f"the cluster has had no worker for {_NO_WORKER:g} s"
    return Done(unit.key, unit.stage, unit.name, unit.amount, error=error)


def _without_gpu(unit: Unit, command: str) -> Done:
    error = f"no worker of the cluster offers a GPU, asked for by device {unit.device!r}; start one: {command}"
    return Done(unit.key, unit.stage, unit.name, unit.amount, error=error)


def _outcome(unit: Unit, result: Callable[[], Done]) -> Done:
    """The cluster's answer for a unit; when a worker or the scheduler is lost, the unit has failed."""
    try:
        return result()
    except (Exception, asyncio.CancelledError) as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Done(unit.key, unit.stage, unit.name, unit.amount, error=text)
