"""Dry runs and progress: what is here, what is not, what it costs, who is working on it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from test_scale import write_suite

from benchmarks.cli.main import main
from benchmarks.datasets.musiccaps import MusicCaps
from benchmarks.harness.executors import SerialExecutor
from benchmarks.harness.progress import RENEW, Beat
from benchmarks.harness.run import RunOptions, run_units, waves_of
from benchmarks.harness.units import Done, Unit
from benchmarks.status import shards as status
from benchmarks.status.doctor import missing_cells
from benchmarks.status.dry_run import dry_run, measured_rates, plan_suite, planned_keys
from benchmarks.status.shards import examine, state_of
from benchmarks.store.store import Result, Store
from benchmarks.suite import Suite, load_suite, parse_suite
from probes.tasks.beatport import Beatport

TESTS = Path(__file__).resolve().parent
DRY = RunOptions(dry_run=True, quiet=True)


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data, no weights, and the simulated systems importable."""
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("M2L_DATA", raising=False)


def simulated(folder: Path) -> Path:
    return write_suite(folder, 24, ["scale_systems:Instant0", "scale_systems:Instant1"], unit_clips=2)


def test_two_classes_of_one_module_are_two_systems(tmp_path: Path) -> None:
    """Their specs are equal but for the name, their audio is not: one must not pass for the other."""
    plan = plan_suite(load_suite(simulated(tmp_path)), DRY, ["table2"], Store(tmp_path / "store"))
    units = [unit for layer in waves_of(plan.planned) for unit in layer]
    systems = {unit.name: unit.key for unit in units if unit.stage == "reconstruct"}
    assert len(set(systems.values())) == len(systems) == 2


def paper_like(**data: object) -> Suite:
    return parse_suite(
        {
            "name": "like-paper",
            "data": {"dataset": "musiccaps", "unit_clips": 64, **data},
            "table2": {"systems": ["identity", "dac-44khz", "latmusic"], "metrics": ["si_sdr", "fad:vggish"]},
            "figure2": {"systems": ["music2latent"], "metrics": ["si_sdr"], "steps": [1, 3]},
        }
    )


def test_a_suite_without_data_and_weights_is_planned_in_its_published_size(tmp_path: Path) -> None:
    """87 units of 64 clips; LatMusic, which nobody has, is not planned."""
    found = dry_run(paper_like(), DRY, ["table2", "figure2"], Store(tmp_path), None)
    groups = -(-MusicCaps.published.clips // 64)
    assert {stage: cost.units for stage, cost in found.stages.items()} == {
        "load": groups,
        "reconstruct": groups * (2 + 2),
        "score": groups * (2 + 2),
        "embed": groups * (2 + 1),
        # cells, a comparison per column of more than one row, and the metadata of each row
        "aggregate": (2 * 2 + 2 + 2) + (2 + 1 + 2),
    }
    assert found.stages["reconstruct"].audio_seconds == pytest.approx(4 * 55210)
    missing = {need.name: need.text for need in found.needs if not need.present}
    assert set(missing) == {"musiccaps", "dac-44khz", "latmusic", "music2latent", "vggish"}
    for name in ("musiccaps", "dac-44khz", "music2latent", "vggish"):
        assert f"m2l-bench fetch {name}" in missing[name]
    assert "never released" in missing["latmusic"]


@pytest.mark.parametrize(("limit", "groups"), [(10, 1), (130, 3)])
def test_a_limit_limits_the_plan(tmp_path: Path, limit: int, groups: int) -> None:
    found = dry_run(paper_like(limit=limit), DRY, ["table2"], Store(tmp_path), None)
    assert found.stages["load"].units == groups


@pytest.fixture
def no_rates_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.status.dry_run.SHIPPED", tmp_path / "no-rates.json")


@pytest.mark.usefixtures("no_rates_ship")
def test_a_plan_of_what_is_here_has_the_keys_of_a_run(tmp_path: Path) -> None:
    """After a run nothing is left to do; before it, hours come from rates alone."""
    toml, store = simulated(tmp_path), Store(tmp_path / "store")
    suite = load_suite(toml)
    before = dry_run(suite, DRY, suite.tables, store, None)
    assert all(cost.to_run == cost.units for cost in before.stages.values())
    assert before.stages["score"].without_cpu_rate == {"si_sdr": pytest.approx(48.0)}
    assert before.stages["score"].cpu_hours == 0
    arguments = ["tables", "--suite", str(toml), "--quiet", "--executor", "serial"]
    arguments += ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(arguments) == 0
    after = dry_run(suite, DRY, suite.tables, store, None)
    assert all(cost.to_run == 0 and cost.stored == cost.units for cost in after.stages.values())
    assert {s: c.units for s, c in after.stages.items()} == {s: c.units for s, c in before.stages.items()}
    assert set(store.keys()) == planned_keys(plan_suite(suite, DRY, suite.tables, store))
    # What it cost stands beside the results, and estimates a run with another store.
    elsewhere = dry_run(suite, DRY, suite.tables, Store(tmp_path / "other"), tmp_path / "results")
    rate = store.rates()["score", "si_sdr"]
    assert elsewhere.stages["score"].cpu_hours == pytest.approx(rate * 48 / 3600, rel=0.01)
    assert not elsewhere.stages["score"].without_cpu_rate


def test_prune_keeps_what_a_suite_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results of another suite and of an earlier version go; nothing that stays is computed again."""
    toml, place = simulated(tmp_path), tmp_path / "store"
    run = ["run", "--suite", str(toml), "--quiet", "--executor", "serial", "--store", str(place)]
    assert main(run) == 0
    store = Store(place)
    named = set(store.keys())
    for key in ("0" * 64, "f" * 64):
        store.put(key, Result({"of": "an earlier version"}))
    capsys.readouterr()
    prune = ["store", "prune", "--suite", str(toml), "--store", str(place)]
    assert main([*prune, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kept"], found["removed"]) == (len(named), 2)
    assert len(set(store.keys())) == len(named) + 2
    assert main(prune) == 0
    assert f"2 results (0.0 MB) removed, {len(named)} kept in {place}" in capsys.readouterr().out
    assert set(store.keys()) == named
    assert main(run) == 0
    assert "0 units computed" in capsys.readouterr().out


def test_prune_names_what_it_cannot_recognize(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "store").put("0" * 64, Result())
    assert main(["store", "prune", "--suite", "paper", "--store", str(tmp_path / "store"), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "its results are not recognized: data musiccaps" in shown.err
    assert "1 results" in shown.out
    assert main(["store", "prune", "--suite", "papre", "--store", str(tmp_path / "store")]) == 2


@pytest.mark.usefixtures("no_rates_ship")
def test_rates_on_a_gpu_are_measured_or_absent(tmp_path: Path) -> None:
    suite, store = paper_like(limit=64), Store(tmp_path)
    found = dry_run(suite, DRY, ["table2"], store, None)
    assert found.stages["embed"].gpu_hours == 0
    assert set(found.stages["embed"].without_gpu_rate) == {"vggish"}
    store.add_rate("embed", "vggish", 100.0, 50.0, device="cuda:0", wall_seconds=2.0)
    found = dry_run(suite, DRY, ["table2"], store, None)
    assert found.stages["embed"].gpu_hours == pytest.approx(3 * 640 * 0.02 / 3600)
    assert not found.stages["embed"].without_gpu_rate
    # A GPU's seconds are no CPU seconds.
    assert set(found.stages["embed"].without_cpu_rate) == {"vggish"}


def test_every_hour_of_the_paper_suite_has_a_rate_that_ships(tmp_path: Path) -> None:
    suite = load_suite("paper")
    store = Store(tmp_path)
    found = dry_run(suite, DRY, ["table2", "table3", "figure2"], store, None)
    assert {stage: cost.without_cpu_rate for stage, cost in found.stages.items() if cost.without_cpu_rate} == {}
    assert found.stages["reconstruct"].cpu_hours > 100
    assert "that ship" in found.rates.sources[0]
    # What this machine measured goes first.
    store.add_rate("score", "visqol", 100.0, 1e6)
    assert dry_run(suite, DRY, ["table2"], store, None).stages["score"].cpu_hours > 1000


@pytest.mark.usefixtures("no_rates_ship")
def test_damaged_cost_records_are_left_out(tmp_path: Path) -> None:
    for name, text in {"a": "{", "b": "[1]", "c": '{"systems": {"x": {}}}', "d": '{"systems": 3}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cost.json").write_text(text)
    (tmp_path / "e").mkdir()
    good = {"systems": {"opus": {"cpu_seconds_per_second": 0.5}}, "stages": {"embed": {"vggish": 0.25}}}
    (tmp_path / "e" / "cost.json").write_text(json.dumps(good))
    rates = measured_rates(Store(tmp_path / "store"), tmp_path)
    assert rates.cpu == {("reconstruct", "opus"): 0.5, ("embed", "vggish"): 0.25}
    assert len(rates.sources) == 1


def test_the_paper_suite_s_dry_run_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All three tables and the figure, in text and as JSON; nothing is written."""
    arguments = ["tables", "--suite", "paper", "--dry-run", "--store", str(tmp_path / "store"), "--limit", "64"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for part in ("m2l-bench fetch magnatagatune", "m2l-bench fetch musiccaps", "| features", "GPU hours"):
        assert part in text
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    stages = record["stages"]
    assert set(stages) == {"load", "reconstruct", "score", "embed", "aggregate", "features", "probe"}
    assert stages["load"]["units"] == 2  # the clips as mono folds, and with all their channels
    # 64 clips of each of three parts, for three tasks, 24 to a unit.
    assert stages["features"]["units"] % (3 * -(-3 * 64 // 24)) == 0
    assert not (tmp_path / "store").exists()


# -- progress


def test_progress_of_shards_and_of_those_that_never_started(tmp_path: Path) -> None:
    toml, place = simulated(tmp_path), str(tmp_path / "store")
    common = ["run", "--suite", str(toml), "--quiet", "--executor", "serial", "--store", place]
    assert main([*common, "--shard", "1/3"]) == 0
    found = examine(str(toml), Store(place))
    states = [(shard.index, shard.count, shard.state, shard.left) for shard in found.shards]
    assert [state[:3] for state in states] == [(0, 3, "not started"), (1, 3, "finished"), (2, 3, "not started")]
    assert states[1][3] == 0
    assert sum(shard.total for shard in found.shards) == 12 * 5
    assert found.shards[1].record["done"] == found.shards[1].total > 0
    assert states[0][3] == found.shards[0].total
    assert found.merging == found.left - found.shards[0].left - found.shards[2].left == 2 + 2 + 1
    assert found.shards[0].left_seconds > 0  # rates of the share that is done
    text = status.describe(found)
    assert "not started" in text
    assert f"{found.shards[1].total}/{found.shards[1].total}" in text


def test_status_ends_with_0_when_all_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml, place = simulated(tmp_path), str(tmp_path / "store")
    asked = ["status", "--suite", str(toml), "--store", place]
    assert main([*asked, "--shards", "2"]) == 1
    assert "0/2" in capsys.readouterr().out
    common = ["--suite", str(toml), "--quiet", "--executor", "serial", "--store", place]
    assert main(["tables", *common, "--results", str(tmp_path / "results")]) == 0
    capsys.readouterr()
    assert main([*asked, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["left"] == 0
    assert [(shard["index"], shard["count"], shard["state"]) for shard in record["shards"]] == [(0, 1, "finished")]
    assert main(["status", "--shards", "-1"]) == 2


def test_failures_are_shown_and_a_stopped_job_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    units = [Unit("score", "m", "benchmarks.harness.units:no_such_function", {"i": i}, amount=1.0) for i in range(3)]
    with Beat(store, "s", (0, 2)) as beat:
        run_units(units, store, SerialExecutor(), RunOptions(quiet=True, monitor=beat))
    record = store.records("runs/s")["runs/s/0-of-2.json"]
    assert (record["planned"], record["done"], record["failed"]) == (3, 0, 3)
    assert "no_such_function" in record["errors"][0]
    beat = Beat(store, "s", (1, 2))
    with pytest.raises(KeyboardInterrupt), beat:
        raise KeyboardInterrupt
    assert store.records("runs/s")["runs/s/1-of-2.json"]["state"] == "stopped"


def test_a_job_without_a_sign_is_silent(tmp_path: Path) -> None:
    clock = [1000.0]
    store = Store(tmp_path)
    beat = Beat(store, "s", clock=lambda: clock[0])

    def record() -> dict[str, object]:
        return store.records("runs/s")["runs/s/0-of-1.json"]

    beat.begin([])
    assert state_of(record(), 1000.0 + status.SILENT) == "running"
    assert state_of(record(), 1001.0 + status.SILENT) == "silent"
    clock[0] += RENEW / 2  # too soon to write again
    beat.step(Done("k", "score", "m", 1.0))
    assert record()["done"] == 0
    clock[0] += RENEW
    beat.step(Done("k", "score", "m", 1.0))
    assert (record()["done"], record()["updated"]) == (2, clock[0])
    assert state_of({}, 0.0) == "not started"


def test_a_store_that_cannot_be_written_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "put_record", full)
    with Beat(Store(tmp_path), "s"):
        pass
    assert "No space" in capsys.readouterr().err


@pytest.mark.parametrize("array", [True, False])
def test_the_slurm_example_calls_the_command_line(tmp_path: Path, array: bool) -> None:
    """Run with a stand-in for m2l-bench that writes down how it was called."""
    program = tmp_path / "m2l-bench"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    script = TESTS.parent / "benchmarks" / "suites" / "slurm.sh"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "4"}
    assert subprocess.run(["bash", str(script)], env=environment, capture_output=True).returncode == 1
    environment["M2L_STORE"] = "s3://bucket/store"
    if array:
        environment |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "64"}
    ran = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True)
    words = ran.stdout.split()
    assert words[0] == ("run" if array else "tables")
    assert ("--shard" in words) is array
    if array:
        assert words[words.index("--shard") + 1] == "3/64"
    assert words[words.index("--workers") + 1] == "4"
    assert words[words.index("--store") + 1] == "s3://bucket/store"


def test_a_missing_representation_is_counted_on_the_tasks_that_are_available(tmp_path: Path) -> None:
    """Its stand-ins are no work that would run here, and their keys are not a suite's."""
    suite = parse_suite(
        {
            "name": "probing",
            "data": {"dataset": "synthetic"},
            "table1": {
                "tasks": ["synthetic-keys", "beatport"],
                "representations": ["mfcc", "mert-v1-95m", "latmusic", "chance"],
            },
        }
    )
    store = Store(tmp_path)
    plan = plan_suite(suite, DRY, ["table1"], store)
    units = [unit for layer in waves_of(plan.planned) for unit in layer]
    beatport = -(-Beatport.published.clips // 24)
    per_name = {
        name: sum(unit.stage == "features" and unit.name == name for unit in units)
        for name in ("handcrafted", "mert-v1-95m", "latmusic")
    }
    own = per_name["handcrafted"] - beatport
    assert own > 0
    assert per_name == {"handcrafted": own + beatport, "mert-v1-95m": own + beatport, "latmusic": 0}
    # two tasks for each row, but for the one that nobody can run
    assert sum(unit.stage == "probe" for unit in units) == 2 * 3
    assert {name for (kind, name), need in plan.needs.items() if not need.present} == {
        "beatport",
        "mert-v1-95m",
        "latmusic",
    }
    keys = planned_keys(plan)
    assert keys == {unit.key for unit in units if not unit.stands_in}
    assert not {unit.key for unit in plan.pending} - keys
    assert sum(unit.stage == "features" for unit in plan.pending) == own


def test_doctor_names_what_each_missing_cell_lacks(tmp_path: Path) -> None:
    """A cell that merely has not been computed is not missing."""
    path = tmp_path / "s.toml"
    path.write_text(
        '[data]\ndataset = "synthetic"\noptions = { size = 2, seconds = 2.0 }\n'
        '[table2]\nsystems = ["identity", "music2latent"]\nmetrics = ["si_sdr", "fad:vggish"]\n'
        '[table1]\ntasks = ["beatport"]\nrepresentations = ["mfcc"]\n'
    )
    cells = {cell: reason for reason, found in missing_cells(str(path)).items() for cell in found}
    assert "fetch music2latent" in cells.pop("table2: music2latent x si_sdr")
    assert "fetch music2latent" in cells.pop("table2: music2latent x fad:vggish")
    assert "fetch vggish" in cells.pop("table2: identity x fad:vggish")
    assert {cell.partition("/")[0] for cell in cells} == {"table1: mfcc x beatport"}
