"""`m2l-bench paper`: what it asks for, what it takes, and published figures beside measured ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cli import paper as command
from benchmarks.cli.main import main
from benchmarks.compare.ablation import FULL
from benchmarks.datasets.base import Clip, shortened
from benchmarks.errors import MISSING, OK, USAGE, UsageError
from benchmarks.evaluation.cells import Cell, Column, Row
from benchmarks.evaluation.systems import STEREO
from benchmarks.fetch.options import Options
from benchmarks.harness.run import RunOptions
from benchmarks.harness.units import Unit
from benchmarks.paper import estimate, run
from benchmarks.paper.estimate import GPU_FLOPS, GPU_SHARE, MACHINES, Machine, StageHours, costs, stage_hours
from benchmarks.paper.request import PaperOptions, checkpoints_in, paper_suite
from benchmarks.status.dry_run import Rates, measured_rates
from benchmarks.store.store import Store
from benchmarks.suite import SuiteError, load_suite, parse_suite
from benchmarks.tables.beside import beside_markdown, beside_record, pairs_of
from benchmarks.tables.figure2 import FigureResult
from benchmarks.tables.table import TableResult
from benchmarks.weights.table import WEIGHTS

# ---- what is asked for -----------------------------------------------------------------------------------


def test_a_rehearsal_takes_fewer_steps_and_seeds_of_those_that_take_more() -> None:
    whole, few = load_suite("paper"), paper_suite(PaperOptions(steps=2, seeds=1))
    assert few.table2 is not None
    assert few.table2.n_steps == {"mousai-v2": 2, "mousai-v3": 2, "codicodec": 2}
    assert dict(few.table2.wanted)["mousai-v2"] == 2
    assert dict(few.table2.wanted)["music2latent"] is None
    assert few.table1 is not None
    assert few.table1["seeds"] == 1
    assert few.figure2 == whole.figure2
    assert few.name == "paper-rehearsal", "a part is not taken for the whole"
    assert few.title.startswith("rehearsal with --steps 2 --seeds 1: ")
    assert paper_suite(PaperOptions()).to_dict() == whole.to_dict()
    assert "n_steps" not in whole.to_dict()["table2"]


@pytest.mark.parametrize(
    ("n_steps", "message"),
    [({"identiti": 2}, "none of table2.systems"), ({"identity": 0}, "at least 1"), ({"identity": "2"}, "must be int")],
)
def test_steps_of_a_suite_are_checked(n_steps: dict[str, Any], message: str) -> None:
    table = {"systems": ["identity"], "metrics": ["si_sdr"], "n_steps": n_steps}
    with pytest.raises(SuiteError, match=message):
        parse_suite({"name": "x", "data": {"dataset": "synthetic"}, "table2": table})


def test_checkpoints_of_table_3_come_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="m2l-bench ablation --full --runs"):
        checkpoints_in(tmp_path)
    for place in (tmp_path / "checkpoints" / FULL[0], tmp_path / FULL[1]):
        place.mkdir(parents=True)
        (place / "model.safetensors").touch()
    found = checkpoints_in(tmp_path)
    assert found[FULL[0]] == tmp_path / "checkpoints" / FULL[0]
    assert found[FULL[1]] == tmp_path / FULL[1]
    suite = paper_suite(PaperOptions(ablation_runs=tmp_path))
    assert suite.table3 is not None
    assert list(suite.table3.rows) == ["Base Model", "+ Freq-wise Attention", "+ Adaptive Freq Scaling"]
    assert suite.table3.rows["Base Model"] == f"{FULL[0]}=music2latent:{found[FULL[0]]}"


class Tone:
    def __call__(self) -> tuple[np.ndarray, int]:
        return np.ones((1, 800), np.float32), 100


def test_clips_are_cut_to_their_beginning_under_another_digest() -> None:
    clip = Clip("a", "d", "0" * 64, {}, "", Tone(), seconds=8.0)
    (cut,) = shortened([clip], 2.5)
    assert cut.load()[0].shape == (1, 250)
    assert (cut.seconds, cut.id) == (2.5, "a")
    assert len({clip.digest, cut.digest, shortened([clip], 2.0)[0].digest}) == 3
    assert shortened([clip], 0.0) == [clip]
    assert shortened([clip], 8.0) == [clip]


# ---- hours -----------------------------------------------------------------------------------------------


def unit(stage: str, name: str, seconds: float, *inputs: Unit) -> Unit:
    return Unit(stage, name, "", {"n": name}, inputs, amount=seconds)


def test_hours_are_of_cores_or_of_a_gpu_and_the_cores_beside_it(tmp_path: Path) -> None:
    load = unit("load", "musiccaps", 3600.0)
    coded = unit("reconstruct", "dac-44khz", 3600.0, load)
    opus = unit("reconstruct", "opus-96k", 3600.0, load)
    other = unit("reconstruct", "mimi", 3600.0, load)
    rates = Rates({("reconstruct", "dac-44khz"): 4.0, ("reconstruct", "opus-96k"): 0.5}, {}, ["planted"])
    rates.gpu["reconstruct", "mimi"] = 0.1
    uncounted = unit("reconstruct", "clmr", 3600.0, load)  # a network that reconstructs nothing
    found = stage_hours([uncounted], Store(tmp_path), "missing", rates)
    assert found["reconstruct"].uncounted == {"clmr"}
    assert "with the CPU's time everywhere: clmr." in estimate.hours_markdown(found, rates)
    found = stage_hours([coded, opus, other], Store(tmp_path), "missing", rates)
    assert list(found) == ["load", "reconstruct"]
    stage = found["reconstruct"]
    assert stage.cpu_seconds == pytest.approx(4.5 * 3600)
    scaled = costs()["reconstruct"]["dac-44khz"] * 3600 / (GPU_FLOPS * GPU_SHARE)
    assert stage.gpu_seconds == pytest.approx(scaled + 360.0)
    assert stage.beside_gpu_seconds == pytest.approx(0.5 * 3600), "a codec has no place on a GPU"
    assert (stage.scaled, stage.measured, stage.unknown) == ({"dac-44khz"}, {"mimi"}, {"mimi"})
    assert stage.hours(Machine("", 2, 0)) == pytest.approx(4.5 / 2)
    assert stage.hours(Machine("", 2, 4)) == pytest.approx(0.25 + (scaled + 360) / 4 / 3600)
    assert StageHours(wait_seconds=7200.0).hours(MACHINES[2]) == 2.0, "no GPU shortens a transfer"
    text = estimate.hours_markdown(found, rates)
    assert "mimi as measured here; the others scaled" in text
    assert "Without any rate, and so not counted: mimi, musiccaps." in text


def test_two_channels_cost_a_gpu_twice_their_mono_fold(tmp_path: Path) -> None:
    load = unit("load", "musiccaps", 3600.0)
    rates = Rates({("reconstruct", "dac-44khz"): 4.0}, {("reconstruct", "mimi"): 0.1}, ["planted"])

    def of(*names: str) -> StageHours:
        units = [unit("reconstruct", name, 3600.0, load) for name in names]
        return stage_hours(units, Store(tmp_path), "missing", rates)["reconstruct"]

    mono, both = of("dac-44khz"), of("dac-44khz (stereo)")
    assert both.gpu_seconds == pytest.approx(2 * mono.gpu_seconds) != 0.0
    assert both.cpu_seconds == pytest.approx(2 * mono.cpu_seconds)
    assert both.scaled == {"dac-44khz (stereo)"}
    assert (both.unknown, both.beside_gpu_seconds) == (set(), 0.0)
    assert of("mimi (stereo)").gpu_seconds == pytest.approx(720.0), "measured goes before counted"
    assert of("codicodec (stereo)").uncounted == {"codicodec (stereo)"}


def test_two_channels_cost_twice_as_much_where_they_are_coded_one_by_one() -> None:
    known = measured_rates(Store("nowhere"), None).cpu
    seconds = {name: rate for (stage, name), rate in known.items() if stage == "reconstruct"}
    for name, times in (("dac-44khz", 2), ("music2latent@3", 2), ("encodec-48khz", 1), ("same-l", 1)):
        for of in (costs()["reconstruct"], seconds):
            assert of[name + STEREO] == pytest.approx(times * of[name], rel=0.02), name


def test_the_networks_of_the_paper_suite_have_their_operations() -> None:
    suite = load_suite("paper")
    assert suite.table2 is not None
    assert suite.table3 is not None
    nets = {name for name in suite.table2.systems if name in WEIGHTS} | {*suite.table3.rows.values()}
    assert nets - costs()["reconstruct"].keys() <= {"codicodec"}, "the dry run names it"
    assert {f"music2latent@{steps}" for steps in range(2, 6)} <= costs()["reconstruct"].keys()
    assert {m.embedder for m in suite.metrics.values() if hasattr(m, "embedder")} <= costs()["embed"].keys()
    # One more denoising step of Music2Latent costs as much as the one before.
    steps = [costs()["reconstruct"][f"music2latent@{n}"] for n in (2, 3, 4, 5)]
    assert np.diff(steps, 2) == pytest.approx([0.0, 0.0], abs=0.02 * steps[0])


def test_the_dry_run_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    arguments = ["paper", "--dry-run", "--data", str(tmp_path / "data"), "--limit", "5"]
    assert main([*arguments, "--json"]) == OK
    record = json.loads(capsys.readouterr().out)
    stages = ["fetch", "load", "reconstruct", "score", "embed", "aggregate", "features", "probe"]
    assert set(record["stages"]) == set(stages)
    assert all(set(stage["hours"]) == {machine.name for machine in MACHINES} for stage in record["stages"].values())
    names = [thing["name"] for thing in record["fetch"]["things"]]
    assert {"musiccaps", "magnatagatune", "music2latent", "vggish", "mert-v1-95m"} <= set(names)
    # The total is that of the table of weights and of the data's published sizes, for what is missing.
    missing = [thing for thing in record["fetch"]["things"] if not thing["present"]]
    known = [thing for thing in missing if thing["name"] in WEIGHTS]
    for thing in known:
        assert thing["bytes"] == sum(file.planned_size for file in WEIGHTS[thing["name"]].files) > 0
        assert thing["license"] == WEIGHTS[thing["name"]].license
    assert record["fetch"]["bytes"] == sum(thing["bytes"] or 0 for thing in missing)
    assert not set(record["fetch"]["unknown_size"]) & set(WEIGHTS), "no weight of unknown size"
    assert not (tmp_path / "data").exists()
    assert "M2L_DATA" not in os.environ or os.environ["M2L_DATA"] != str(tmp_path / "data")
    # For people: the same, and what Table 3 takes.
    assert main(arguments) == OK
    out, err = capsys.readouterr()
    assert "in all at most" in err
    assert "licenses:" in err
    assert "| hours, 1 GPU" in out
    assert "m2l-bench ablation --full" in out


def test_wrong_options_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["paper", "--steps", "-1"]) == USAGE
    assert "--steps must be at least 0, not -1" in capsys.readouterr().err
    assert main(["paper", "--seconds", "-1", "--dry-run"]) == USAGE
    assert "seconds must be at least 0" in capsys.readouterr().err
    assert main(["paper", "--ablation-runs", str(tmp_path)]) == USAGE


# ---- fetching ----------------------------------------------------------------------------------------------


def test_a_fetch_that_fails_leaves_its_reason_in_the_cells_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(names: list[str], options: Options) -> list[dict[str, Any]]:
        if names == ["clmr"]:
            raise OSError("disk full")
        return [{"failed": ["the server says 503"] if names == ["musika"] else []}]

    monkeypatch.setattr(run, "fetch", fetch)
    failures = run.fetch_missing(load_suite("paper"), Options())
    assert failures == {"musika": "the server says 503", "clmr": "disk full"}
    lacking = Cell(reason="weights 'musika' not found. To get them: m2l-bench fetch musika")
    other = Cell(reason="weights 'mimi' not found. To get them: m2l-bench fetch mimi")
    table = TableResult("table2", "", "paper", [Column("a", "A")], [Row("m", {"a": lacking, "b": other})])
    done = run.explained(table, failures)
    assert isinstance(done, TableResult)
    assert done.rows[0].cells["a"].reason == f"{lacking.reason}. fetching it failed: the server says 503"
    assert done.rows[0].cells["b"] == other
    points = [{"n_steps": 1, "value": None, "reason": "m2l-bench fetch musika --accept-license"}, {"reason": None}]
    figure = FigureResult("figure2", "", "paper", [], [1, 2], {"m": {"a": points}}, [])
    drawn = run.explained(figure, failures)
    assert isinstance(drawn, FigureResult)
    assert [point["reason"] for point in drawn.curves["m"]["a"]][1] is None
    assert "503" in drawn.curves["m"]["a"][0]["reason"]
    assert run.explained(table, {}) is table


def test_the_command_measures_what_is_here_and_says_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a network: every fetch fails with a reason, a small suite in place of the paper's is measured all the
    same, and the root of the data is seen by what runs."""
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("M2L_OFFLINE", "1")
    suite = parse_suite(
        {
            "name": "paper",
            "data": {"dataset": "synthetic", "options": {"size": 3, "seconds": 1.0}, "min_seconds": 0.1},
            "table2": {"systems": ["identity", "opus-16k", "musika"], "metrics": ["si_sdr"]},
        }
    )
    monkeypatch.setattr("benchmarks.paper.request.load_suite", lambda name: suite)
    monkeypatch.chdir(tmp_path)
    arguments = ["paper", "--data", "data", "--limit", "2", "--seconds", "0.5", "--executor", "serial", "--clips", "1"]
    assert main([*arguments, "--results", "results"]) == MISSING
    out, err = capsys.readouterr()
    assert "not fetched: musika: downloads are switched off" in err
    folder = tmp_path / "results" / "paper-rehearsal"
    assert [path.name for path in (tmp_path / "results").iterdir()] == [folder.name], "not in place of the whole run"
    record = json.loads((folder / "table2.json").read_text())
    rows = {row["name"]: row["cells"]["si_sdr"] for row in record["rows"]}
    assert rows["opus-16k"]["n"] == 2
    assert "fetching it failed: downloads are switched off" in rows["musika"]["reason"]
    assert "2 clips, the first 0.5 s of each" in record["title"]
    assert "rehearsal with --limit 2 --seconds 0.5" in record["title"]
    beside = json.loads((folder / "published.json").read_text())
    pairs = {(pair["row"], pair["column"]): pair for pair in beside["table2"]["pairs"]}
    assert pairs["Musika", "si_sdr"]["published"] == -25.81
    assert "M2L_OFFLINE" in pairs["Musika", "si_sdr"]["reason"]
    assert "published and measured" in out
    report = tmp_path / "report" / "paper-rehearsal"
    assert "m2l-bench paper --data data --limit 2 --seconds 0.5 --results results" in (
        "".join(path.read_text() for path in report.glob("*.html"))
    )
    # Again: nothing is measured anew, and the files are the same bytes.

    def written() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "cost.json"}

    before = written()
    assert main([*arguments, "--results", "results", "--json"]) == MISSING
    assert written() == before
    assert json.loads(capsys.readouterr().out)["name"] == "table2"


def test_the_root_of_the_data_is_set_for_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_DATA", "elsewhere")
    with command._data_root(tmp_path / "data"):
        assert os.environ["M2L_DATA"] == str((tmp_path / "data").resolve())
    assert os.environ["M2L_DATA"] == "elsewhere"
    with command._data_root(None):
        assert os.environ["M2L_DATA"] == "elsewhere"


# ---- published beside measured ---------------------------------------------------------------------------


def table2(**more: Any) -> TableResult:
    columns = [Column("si_sdr", "SI-SDR", True, 2), Column("fad:clap-630k-audioset-best@file", "FAD_clap", False, 4)]
    rows = [
        Row("music2latent", {"si_sdr": Cell(-3.5, 8, low=-4.25, high=-3.0), columns[1].key: Cell(0.04, 8)}),
        Row("mousai-v2@2", {"si_sdr": Cell(-20.0, 7, low=-21.0, high=-19.0), columns[1].key: Cell(reason="too few")}),
        Row("latmusic", {"si_sdr": Cell(reason="never released"), columns[1].key: Cell(reason="never released")}),
    ]
    provenance = {
        "clips": "8 clips",
        "coverage": "MusicCaps: 8 of 12 clips (4 gone)",
        "suite": {"data": {"dataset": "musiccaps"}},
    }
    return TableResult("table2", "Table 2", "paper", columns, rows, provenance=provenance | more)


def test_published_and_measured_stand_side_by_side_with_n_interval_and_coverage() -> None:
    pairs = {(pair.row, pair.column): pair for pair in pairs_of(table2())}
    ours = pairs["Music2Latent", "si_sdr"]
    assert (ours.published, ours.value, ours.low, ours.high, ours.n) == (-3.85, -3.5, -4.25, -3.0, 8)
    assert pairs["Moûsai_v2", "si_sdr"].system == "mousai-v2@2", "another number of steps is still that system"
    assert pairs["LatMusic", "fad_clap"].reason == "never released"
    assert pairs["Music2Latent", "visqol"].reason == "not part of the suite"
    assert pairs["Music2Latent", "fad_clap"].value == 0.04
    text = beside_markdown(table2())
    line = next(line for line in text.splitlines() if line.startswith("| Music2Latent"))
    assert [cell.strip() for cell in line.split("|")][2:4] == ["-3.85", "-3.50 [-4.25, -3.00] (n = 8)"]
    assert "Measured on: MusicCaps: 8 of 12 clips (4 gone); measured on 8 clips." in text
    assert "[1] not part of the suite" in text
    assert "never released" in text
    record = beside_record(table2())
    assert record["coverage"].startswith("MusicCaps: 8 of 12 clips")
    assert {"published", "value", "low", "high", "n", "reason"} <= record["pairs"][0].keys()


def test_rows_of_table_3_are_paired_by_their_titles() -> None:
    row = Row("table3-base", {"fad:vggish": Cell(2.0, 3, low=1.0, high=3.0)}, title="Base Model")
    table = TableResult("table3", "Table 3", "paper", [Column("fad:vggish", "FAD", False)], [row])
    pairs = {(pair.row, pair.column): pair for pair in pairs_of(table)}
    assert pairs["Base Model", "fad"].value == 2.0
    assert pairs["+ Freq-wise Attention", "fad"].reason == "not part of the suite"


def test_table_1_is_paired_under_the_tasks_own_names() -> None:
    columns = [Column("tinysol-pitch/f1_micro", "TinySOL pitch micro F1", True, 1)]
    rows = [Row("clmr", {columns[0].key: Cell(17.0, 582, low=15.0, high=19.0)})]
    provenance = {"tasks": {"tinysol-pitch": {"title": "TinySOL pitch"}}, "limit": 4, "seconds": 2.0}
    notes = ["Percent.", "TinySOL pitch: 4/4/4 train/validation/test, tested on 4 notes; CC BY 4.0."]
    table = TableResult("table1", "Table 1", "paper", columns, rows, notes=notes, provenance=provenance)
    pairs = {(pair.row, pair.column): pair for pair in pairs_of(table)}
    assert pairs["CLMR", "tinysol-pitch-class/micro_f1"].value == 17.0
    assert pairs["CLMR", "magnatagatune/auc_roc"].value is None
    text = beside_markdown(table)
    assert "Measured on: the first clips of each part (limit 4); the first 2 s of each clip; TinySOL pitch" in text


def test_run_options_refuse_endless_clips() -> None:
    with pytest.raises(ValueError, match="seconds must be at least 0, got inf"):
        RunOptions(seconds=float("inf"))
