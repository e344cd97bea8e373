"""Whoever computes, whatever is killed: the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from harness_helpers import tiny_suite, tiny_toml, write_clips

from benchmarks.cli.main import main
from benchmarks.harness import EXECUTORS
from benchmarks.harness.executors import SerialExecutor, make_executor
from benchmarks.harness.run import RunOptions, run_units
from benchmarks.harness.units import Unit, execute, pinned_threads
from benchmarks.registry import UnknownNameError
from benchmarks.store.store import Store
from benchmarks.tables.paper import build_table2

FILES = ("table2.json", "table2.csv", "table2.md")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder)
    return folder


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    return tiny_toml(tmp_path_factory.mktemp("suite"), clips)


def tables(toml: Path, folder: Path, *options: str, store: Path | None = None) -> dict[str, bytes]:
    """Bytes of the result files of `m2l-bench tables` with a fresh store."""
    arguments = ["tables", "--suite", str(toml), "--quiet", "--results", str(folder / "results")]
    status = main([*arguments, "--store", str(store or folder / "store"), *options])
    assert status == 0
    return {name: (folder / "results" / "tiny" / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def expected(toml: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tables(toml, tmp_path_factory.mktemp("serial"), "--executor", "serial")


def test_loky_gives_the_bytes_of_serial(toml: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    assert tables(toml, tmp_path, "--executor", "loky", "--workers", "2") == expected


def test_three_shards_merged_give_the_bytes_of_one_run(
    toml: Path, tmp_path: Path, expected: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Three machines with stores of their own; their files copied together; then the tables."""
    merged = tmp_path / "merged"
    counts = []
    for index in range(3):
        store = tmp_path / f"store{index}"
        arguments = ["run", "--suite", str(toml), "--quiet", "--executor", "serial", "--shard", f"{index}/3"]
        assert main([*arguments, "--store", str(store)]) == 0
        counts.append(int(capsys.readouterr().out.split()[0]))
        if store.exists():
            shutil.copytree(store, merged, dirs_exist_ok=True)
    assert sum(counts) == 21  # loads, reconstructions, scores: each exactly once; aggregates come with the tables
    assert tables(toml, tmp_path, "--executor", "serial", store=merged) == expected


def test_shards_of_one_store_in_any_order(toml: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    for index in (2, 0, 1):
        arguments = ["run", "--suite", str(toml), "--quiet", "--executor", "serial", "--shard", f"{index}/3"]
        assert main([*arguments, "--store", str(tmp_path / "store")]) == 0
    assert tables(toml, tmp_path, "--executor", "serial") == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_clusters_give_the_bytes_of_serial(toml: Path, tmp_path: Path, expected: dict[str, bytes], name: str) -> None:
    pytest.importorskip({"dask": "distributed", "ray": "ray"}[name])
    assert tables(toml, tmp_path, "--executor", name, "--workers", "2") == expected


@pytest.mark.slow
def test_a_running_dask_scheduler_by_address(toml: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = ["--address", cluster.scheduler_address]
        assert tables(toml, tmp_path, "--executor", "dask", *address) == expected


def _killed_runs(toml: Path, folder: Path, kills: int, executor: str, longest: float) -> int:
    """Start the command in its own process group and kill -9 the group at random moments."""
    command = [sys.executable, "-m", "benchmarks.cli", "tables", "--suite", str(toml), "--quiet"]
    command += ["--executor", executor, "--workers", "2"]
    command += ["--store", str(folder / "store"), "--results", str(folder / "results")]
    root = Path(__file__).resolve().parent.parent
    rng = np.random.default_rng(len(executor))
    interrupted = 0
    for _ in range(kills):
        process = subprocess.Popen(
            command, cwd=root, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(float(rng.uniform(0.3, longest)))
        if process.poll() is None:
            interrupted += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return interrupted


def test_killed_and_resumed_gives_the_same_bytes(toml: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    assert _killed_runs(toml, tmp_path, 3, "serial", 1.5) > 0
    assert tables(toml, tmp_path, "--executor", "serial") == expected


@pytest.mark.slow
def test_killed_twenty_times_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", count=24, seconds=4.0)
    toml = tiny_toml(tmp_path, tmp_path / "clips")
    text = toml.read_text().replace('"opus-16k"', '"opus-16k", "mel-griffinlim", "vorbis-64k"')
    toml.write_text(text)
    for executor in ("serial", "loky"):
        folder = tmp_path / executor
        assert _killed_runs(toml, folder, 10, executor, 3.0) >= 5
        undisturbed = tables(toml, tmp_path / f"{executor}-undisturbed", "--executor", "serial")
        assert tables(toml, folder, "--executor", executor) == undisturbed


def test_an_interrupt_keeps_what_is_done(
    toml: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = execute, []

    def interrupted(unit: Unit, root: str) -> object:
        calls.append(unit)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(unit, root)

    monkeypatch.setattr("benchmarks.harness.executors.execute", interrupted)
    arguments = ["tables", "--suite", str(toml), "--quiet", "--executor", "serial"]
    arguments += ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(arguments) == 130
    assert len(list(Store(tmp_path / "store").keys())) == 7
    monkeypatch.undo()
    assert tables(toml, tmp_path, "--executor", "serial") == expected


def test_a_dead_worker_is_a_failed_unit_not_a_crash(tmp_path: Path) -> None:
    units = [Unit("x", str(index), "benchmarks.harness.units:no_such_function", {"i": index}) for index in range(3)]
    with make_executor("loky", workers=2) as executor:
        report = run_units(units, Store(tmp_path), executor, RunOptions(quiet=True))
        assert len(report.failed) == 3
        killer = [Unit("x", "kill", "os:abort", {"i": index}) for index in range(2)]
        report = run_units(killer, Store(tmp_path), executor, RunOptions(quiet=True))
    assert len(report.failed) == 2
    # A worker that aborts is seen as dead; what was still queued with it is reported, too.
    assert any("died" in (done.error or "") or "abort" in (done.error or "") for done in report.failed.values())


def test_threads_are_pinned_inside_units_and_restored_after() -> None:
    import torch
    from threadpoolctl import threadpool_info

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pinned_threads():
            assert torch.get_num_threads() == 1
            assert all(pool["num_threads"] == 1 for pool in threadpool_info())
            assert os.environ["OMP_NUM_THREADS"] == "1"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_are_pinned_where_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with pinned_threads():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "torch" not in sys.modules


def test_a_unit_says_how_long_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, wall = iter([2.0, 5.0]), iter([10.0, 14.5])
    clocks = SimpleNamespace(process_time=lambda: next(cpu), perf_counter=lambda: next(wall))
    monkeypatch.setattr("benchmarks.harness.units.time", clocks)
    done = execute(Unit("x", "little", "harness_systems:returns_little", {}, amount=7.0), str(tmp_path))
    assert (done.error, done.cpu_seconds, done.wall_seconds, done.amount) == (None, 3.0, 4.5, 7.0)


def test_executors_are_checked() -> None:
    assert [make_executor(name, workers=1).name for name in EXECUTORS] == list(EXECUTORS)
    with pytest.raises(UnknownNameError, match="loky"):
        make_executor("loki")
    with pytest.raises(ValueError, match="at least 1"):
        make_executor("loky", workers=0)
    with pytest.raises(ValueError, match="takes no address"):
        make_executor("serial", address="tcp://x:1")


def test_seeds_reach_the_noise_whatever_the_order(clips: Path, tmp_path: Path) -> None:
    """The same clip in another unit, in another position, gets the same noise."""
    one = build_table2(tiny_suite(clips), Store(tmp_path), SerialExecutor(), RunOptions(quiet=True))[0]
    other = tiny_suite(clips, data={"unit_clips": 5})
    two = build_table2(other, Store(tmp_path), SerialExecutor(), RunOptions(quiet=True))[0]
    assert one.rows[1].cells["si_sdr"] == two.rows[1].cells["si_sdr"]
    reseeded = tiny_suite(clips, seed=1)
    three = build_table2(reseeded, Store(tmp_path), SerialExecutor(), RunOptions(quiet=True))[0]
    assert three.rows[1].cells["si_sdr"].value != one.rows[1].cells["si_sdr"].value
