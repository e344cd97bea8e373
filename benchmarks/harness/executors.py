"""Fan-out of work units: in this process, on local processes, or on a dask or ray cluster.

Each executor hands units to a well-known scheduler and yields how they ended, in any order.
A worker needs this package and the store (a folder it sees under the same path, or a URL), nothing else.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence

from benchmarks.harness import EXECUTORS
from benchmarks.harness.base import BaseExecutor, Executor
from benchmarks.harness.clusters import DaskExecutor, RayExecutor
from benchmarks.harness.units import Done, Unit, execute
from benchmarks.registry import UnknownNameError
from m2l.processes import end_with_parent


def make_executor(name: str = "loky", *, workers: int | None = None, address: str | None = None) -> Executor:
    """The executor called `name`.

    Args:
        name: "serial", "loky", "dask" or "ray".
        workers: number of local workers; default the number of CPUs this process may use.
        address: a running dask scheduler ("tcp://host:8786") or ray cluster ("host:6379",
            "ray://host:10001", "auto"); without it dask and ray start local workers.

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


class SerialExecutor(BaseExecutor):
    """Units one after the other in this process."""

    name = "serial"

    def run(self, units: Sequence[Unit], root: str) -> Iterator[Done]:
        for unit in units:
            yield execute(unit, root)


class LokyExecutor(BaseExecutor):
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
        from joblib.externals.loky import get_reusable_executor
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        # Units are pickled as workers become free; a queue of all of them would grow with the suite.
        pool = Parallel(
            n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch="4*n_jobs"
        )
        ended: set[str] = set()
        # joblib replaces workers that grew (a model was loaded) and warns each time, which is expected here.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
        try:
            parent, folder = os.getpid(), os.getcwd()
            for done in pool(delayed(_execute_in_worker)(unit, root, parent, folder) for unit in units):
                ended.add(done.key)
                yield done
        except TerminatedWorkerError as error:
            # A worker was killed (out of memory, by hand): report the units that did not finish.
            for unit in units:
                if unit.key not in ended:
                    message = f"worker process died ({str(error).splitlines()[0][:200]})"
                    yield Done(unit.key, unit.stage, unit.name, unit.amount, error=message)
        except (KeyboardInterrupt, GeneratorExit):
            # Workers would otherwise finish their current units, which can take minutes.
            get_reusable_executor().shutdown(wait=False, kill_workers=True)
            raise


def _execute_in_worker(unit: Unit, root: str, parent: int, folder: str) -> Done:
    end_with_parent(parent)
    os.chdir(folder)  # a worker outlives the call that started it, and a user's paths may be relative
    return execute(unit, root)
