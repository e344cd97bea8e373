"""Units on clusters: on matching workers, in bounded queues, and never with other code than was planned."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli.main import main
from benchmarks.harness import clusters
from benchmarks.harness.clusters import DaskExecutor, environment, execute_alike, sources_digest
from benchmarks.harness.executors import make_executor
from benchmarks.harness.units import Done, Unit
from benchmarks.store.store import Store

TESTS = str(Path(__file__).resolve().parent)


def units(count: int, device: str = "cpu", target: str = "scale_systems:where") -> list[Unit]:
    return [Unit("embed", device, target, {"i": i, "device": device}, amount=1.0) for i in range(count)]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)


Cluster = Callable[[dict[str, dict[str, float]]], Any]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Makes dask clusters with one worker in this process per name, with the resources given."""
    distributed = pytest.importorskip("distributed")
    made: list[Any] = []

    def make(workers: dict[str, dict[str, float]]) -> Any:
        specs = {
            name: {"cls": distributed.Worker, "options": {"nthreads": 1, "resources": offered, "name": name}}
            for name, offered in workers.items()
        }
        scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "port": 0}}
        made.append(distributed.SpecCluster(workers=specs, scheduler=scheduler, silence_logs=40))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_stages_run_where_their_device_is(cluster: Cluster, tmp_path: Path) -> None:
    running = cluster({"processor": {"CPU": 1}, "accelerator": {"GPU": 1}})
    work = [*units(6), *units(6, "cuda"), *units(2, "cuda:1")]
    with make_executor("dask", address=running.scheduler_address) as executor:
        ended = {done.key: done for done in executor.run(work, str(tmp_path))}
    assert {done.error for done in ended.values()} == {None}
    store = Store(tmp_path)
    for unit in work:
        expected = "processor" if unit.device == "cpu" else "accelerator"
        assert store.get(unit.key).meta == {"worker": expected}
        assert ended[unit.key].device == unit.device


def test_without_a_gpu_its_units_fail_with_the_command_that_helps(cluster: Cluster, tmp_path: Path) -> None:
    """The others run; and workers that offer nothing in particular take whatever needs no GPU."""
    running = cluster({"plain": {}})
    with make_executor("dask", address=running.scheduler_address) as executor:
        ended = list(executor.run([*units(3), *units(2, "cuda")], str(tmp_path)))
    errors = [done.error for done in ended if done.error is not None]
    assert len(ended) == 5
    assert len(errors) == 2
    assert "--resources GPU=1" in errors[0]


def test_a_worker_with_other_code_computes_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = cluster({"old": {}})
    planned = {**environment(), "numpy": "1.99"}
    monkeypatch.setattr(clusters, "environment", lambda: planned if sys._getframe(1).f_code.co_name == "run" else REAL)
    with make_executor("dask", address=running.scheduler_address) as executor:
        ended = list(executor.run(units(2), str(tmp_path)))
    assert all("numpy" in (done.error or "") and "1.99" in (done.error or "") for done in ended)
    assert list(Store(tmp_path).keys()) == []


REAL = environment()


def test_what_must_match_is_named(tmp_path: Path) -> None:
    unit = units(1, target="scale_systems:nothing")[0]
    done = execute_alike(unit, str(tmp_path), {**environment(), "code": "0123"})
    assert "code" in (done.error or "")
    assert "0123" in (done.error or "")
    done = execute_alike(unit, str(tmp_path), environment())
    assert "nothing" in (done.error or "")  # it was tried


class _Client:
    """Counts what is handed over at a time; every second unit was lost with its worker."""

    def __init__(self, threads: int) -> None:
        self.threads, self.pending, self.most = threads, 0, 0

    def nthreads(self) -> dict[str, int]:
        return {"tcp://worker:1": self.threads}

    def submit(self, _: object, unit: Unit, *__: object, **___: object) -> Any:
        self.pending += 1
        self.most = max(self.most, self.pending)
        return _Future(self, unit)

    def close(self) -> None:
        pass


class _Future:
    def __init__(self, client: _Client, unit: Unit) -> None:
        self.client, self.unit = client, unit

    def result(self) -> Done:
        self.client.pending -= 1
        if self.unit.spec["i"] % 2:
            raise CancelledError("lost")
        return Done(self.unit.key, "embed", "x", 1.0)

    def release(self) -> None:
        pass


class _Ending:
    def __init__(self, futures: list[_Future]) -> None:
        self.futures = list(futures)

    def add(self, future: _Future) -> None:
        self.futures.append(future)

    def next_batch(self, block: bool = True) -> list[_Future]:
        return [self.futures.pop(0)] if self.futures else []


@pytest.mark.parametrize("threads", [1, 20])
def test_the_queue_is_bounded_and_lost_units_are_reported(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "as_completed", _Ending)
    executor = DaskExecutor(1)
    client = _Client(threads)
    executor._client = client
    ended = list(executor.run(units(500), "nowhere"))
    assert len({done.key for done in ended}) == 500
    assert sum(done.error is not None for done in ended) == 250
    assert client.most <= max(32, 4 * threads)


@pytest.mark.parametrize("name", ["dask", "ray"])
@pytest.mark.slow
def test_an_address_where_nobody_is_ends_with_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "dask":
        distributed = pytest.importorskip("distributed")
        monkeypatch.setattr(distributed.Client, "__init__", _refuse)
    else:
        ray = pytest.importorskip("ray")
        monkeypatch.setattr(ray, "init", _refuse)
    toml = tmp_path / "s.toml"
    toml.write_text(
        '[data]\ndataset = "scale_systems:PaperSized"\noptions = { size = 2 }\n'
        '[table2]\nsystems = ["identity"]\nmetrics = ["si_sdr"]\n'
    )
    common = ["run", "--suite", str(toml), "--store", str(tmp_path / "store"), "--quiet"]
    assert main([*common, "--executor", name, "--address", "tcp://127.0.0.1:1"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err


def _refuse(*_: object, **__: object) -> None:
    raise OSError("connection refused")


@pytest.mark.slow
def test_ray_gives_gpus_to_units_that_need_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts what it is told it has: here one GPU that does not exist, which nothing here touches."""
    ray = pytest.importorskip("ray")
    paths = [str(Path(TESTS).parent), TESTS]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    ray.init(num_cpus=2, num_gpus=1, log_to_driver=False, include_dashboard=False)
    try:
        work = [*units(3), *units(3, "cuda")]
        ended = list(make_executor("ray").run(work, str(tmp_path)))
        assert {done.error for done in ended} == {None}
        store = Store(tmp_path)
        for unit in work:
            assert len(store.get(unit.key).meta["gpus"]) == (0 if unit.device == "cpu" else 1)
    finally:
        ray.shutdown()


def test_a_root_without_sources_is_an_error(tmp_path: Path) -> None:
    """With such a root the code of all workers would look the same, whatever they have."""
    with pytest.raises(RuntimeError, match="no source file"):
        sources_digest(tmp_path)
    (tmp_path / "m2l").mkdir()
    (tmp_path / "m2l" / "a.py").write_text("x = 1\n")
    first = sources_digest(tmp_path)
    (tmp_path / "m2l" / "a.py").write_text("x = 2\n")
    assert sources_digest(tmp_path) != first


def test_a_cluster_that_lost_its_workers_is_not_waited_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_NO_WORKER", 1.0)
    running = cluster({"processor": {}})
    work = units(4, target="scale_systems:slow")
    with make_executor("dask", address=running.scheduler_address) as executor:
        ending = executor.run(work, str(tmp_path))
        ended = [next(ending)]
        for worker in running.workers.values():
            running.sync(worker.close)
        ended += ending
    assert {done.key for done in ended} == {unit.key for unit in work}
    assert any("no worker" in (done.error or "") for done in ended)
