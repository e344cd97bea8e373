"""Table 3 from scratch: rows trained alike, resumable, exported and measured; and the curve of a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.cli.main import main as bench
from benchmarks.compare import ablation
from benchmarks.compare.ablation import Ablation, row_settings, runs_folder, title_of, with_rows
from benchmarks.compare.curve import RunError, points_of
from benchmarks.errors import MISSING, OK, USAGE
from benchmarks.suite import SuiteError, load_suite, parse_suite
from benchmarks.tables.reference import published_rows
from m2l.io.atomic import exclusive
from m2l.training import SettingsError, Trainer
from m2l.training.checkpoint import list_checkpoints, step_of

SUITE = """
[data]
dataset = "synthetic"
options = { size = 2, seconds = 1.0 }
unit_clips = 2

[table2]
systems = ["identity"]
metrics = ["si_sdr"]

[table3]
metrics = ["si_sdr"]

[table3.rows]
"Base Model" = "music2latent:none"
"""
#: As small as the architecture allows, all else as in a real ablation.
SMALL = {"batch_size": 1, "crop_frames": 8, "steps": 2, "warmup_steps": 1, "precision": "float32"}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)
    soundfile.write(folder / "a.flac", noise, 44100)
    return folder


def small_rows(data: Path, presets: tuple[str, ...] = ("tiny",), **changes: object) -> Ablation:
    rows = row_settings(presets, [str(data)], {**SMALL, **changes})
    return Ablation(rows, data.parent / "ablation", device="cpu")


# ---- rows ------------------------------------------------------------------------------------------------


def test_titles_are_the_papers() -> None:
    published = [row.name for row in published_rows("table3")]
    assert [title_of(preset) for preset in ablation.MINI] == published
    assert [title_of(preset) for preset in ablation.FULL] == published
    assert title_of("tiny") == "tiny"


def test_rows_differ_in_the_preset_alone() -> None:
    rows = row_settings(ablation.MINI, ["x"], {"steps": 7})
    assert [settings.preset for settings in rows.values()] == list(ablation.MINI)
    assert len({json.dumps({**settings.to_dict(), "preset": ""}) for settings in rows.values()}) == 1
    assert all(settings.steps == 7 and settings.data == ("x",) for settings in rows.values())


def test_full_rows_are_the_papers_recipe() -> None:
    rows = row_settings(ablation.FULL, ["x"], {}, cuda=True)
    for settings in rows.values():
        assert (settings.steps, settings.batch_size, settings.precision) == (200_000, 16, "float16")
    assert row_settings(ablation.FULL, ["x"], {})["table3-base"].precision == "bfloat16", "no float16 on a CPU"
    with pytest.raises(SettingsError, match="like with like"):
        row_settings(["table3-base", "table3-mini-base"], ["x"], {})


def test_other_settings_are_other_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    folders = {runs_folder(row_settings(ablation.MINI, [data], {"steps": steps})) for data in "ab" for steps in (5, 6)}
    assert len(folders) == 4
    one_row = row_settings(ablation.MINI[:1], ["a"], {"steps": 5})
    assert runs_folder(one_row) in folders, "a row trained on its own is the row of the whole ablation"


# ---- training --------------------------------------------------------------------------------------------


def test_a_row_is_rehearsed_stopped_resumed_and_exported_once(clips: Path) -> None:
    rows = small_rows(clips, steps=8)
    (cost,) = rows.costs()
    assert cost.steps_left == 8
    assert cost.seconds_per_step > 0
    assert cost.hours == pytest.approx(8 * cost.seconds_per_step / 3600)
    assert not list_checkpoints(rows.run_of("tiny")), "a rehearsal trains nothing"

    @contextmanager
    def stopped(trainer: Trainer) -> Iterator[None]:
        step = trainer._step

        def then_stop(batches: Any) -> dict[str, float]:
            metadata = step(batches)
            trainer.stop_requested = trainer.state.step == 3
            return metadata

        trainer._step = then_stop  # type: ignore[method-assign]
        yield

    assert not rows.train("tiny", while_training=stopped, quiet=True)
    assert step_of(list_checkpoints(rows.run_of("tiny"))[-1]) == 3
    assert rows.train("tiny", quiet=True)
    kept = {step_of(path) for path in list_checkpoints(rows.run_of("tiny"))}
    assert {2, 4, 6, 8} <= kept, "quarters are kept"
    (cost,) = rows.costs()
    assert (cost.steps_left, cost.hours) == (0, 0)
    assert "trained" in str(cost)

    folder = rows.export("tiny")
    card = json.loads((folder / "card.json").read_text())
    assert (card["steps"], card["name"]) == (8, "tiny")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert rows.train("tiny", quiet=True), "nothing left to do"
    assert rows.export("tiny") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    (folder / "card.json").write_text("{")  # damaged: made again
    assert rows.export("tiny") == folder
    assert json.loads((folder / "card.json").read_text()) == card


def test_a_row_that_another_process_trains_is_refused_and_so_is_a_damaged_curve(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("m2l.training.Trainer.rehearse", lambda *_: {"seconds_per_step": 1.0, "peak_bytes": 1e9})
    (clips / "song.m4a").write_text("x")
    run = clips.parent / "runs" / "runs" / "tiny"
    run.mkdir(parents=True)
    settings = [f"--setting={name}={value}" for name, value in SMALL.items() if name != "steps"]
    command = ["ablation", "--data", str(clips), "--steps", "2", "--presets", "tiny", "--device", "cpu", "--quiet"]
    with exclusive(run):
        assert bench([*command, *settings, "--runs", str(clips.parent / "runs")]) == USAGE
    words = capsys.readouterr().err
    assert "is being written to by another process" in words.splitlines()[-1]
    assert "1 not a readable format (.m4a)" in words
    assert not list_checkpoints(run)
    small_rows(clips).trainer("tiny").train(until=1, quiet=True)
    run = small_rows(clips).run_of("tiny")
    weights = run / "step-00000001" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert bench(["curve", str(run)]) == MISSING
    assert "model.safetensors is damaged: its checksum differs" in capsys.readouterr().err


# ---- table -----------------------------------------------------------------------------------------------


def test_checkpoints_become_the_rows(tmp_path: Path) -> None:
    suite = load_suite("synthetic")
    found = with_rows(suite, {preset: tmp_path / preset for preset in ablation.MINI}).table3
    assert found is not None
    assert suite.table3 is not None
    assert list(found.rows) == list(suite.table3.rows)
    assert (found.metrics, found.clips) == (suite.table3.metrics, suite.table3.clips)
    assert found.rows["Base Model"] == f"table3-mini-base=music2latent:{tmp_path}/table3-mini-base"
    without = parse_suite({"name": "x", "data": {"dataset": "synthetic"}})
    with pytest.raises(SuiteError, match="no \\[table3\\]"):
        with_rows(without, {})


def test_command_from_nothing_to_the_table(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of two steps, measured; a second call trains nothing; then the curve of its run."""
    monkeypatch.setenv("M2L_CACHE", str(tmp_path / "cache"))
    suite = tmp_path / "own.toml"
    suite.write_text(SUITE)
    settings = [f"--setting={name}={value}" for name, value in SMALL.items() if name != "steps"]
    command = ["ablation", "--suite", str(suite), "--data", str(clips), "--steps", "2", *settings]
    command += ["--presets", "tiny", "--runs", str(tmp_path / "runs"), "--executor", "serial", "--device", "cpu"]
    assert bench([*command, "--dry-run", "--json"]) == OK
    (cost,) = json.loads(capsys.readouterr().out)
    assert cost["steps_left"] == 2
    assert bench([*command, "--json", "--quiet"]) == OK
    shown = capsys.readouterr()
    assert "2 steps x" in shown.err, "the cost is stated before it starts"
    (row,) = json.loads(shown.out)["rows"]
    assert row["name"] == "tiny"
    value = row["cells"]["si_sdr"]["value"]
    assert isinstance(value, float)
    assert np.isfinite(value)
    with open(tmp_path / "runs/results/own/table3.csv", newline="") as file:
        assert any(line["row"] == "tiny" for line in csv.DictReader(file))
    assert bench([*command, "--json", "--quiet"]) == OK
    again = capsys.readouterr()
    assert "trained" in again.err
    assert json.loads(again.out)["rows"][0]["cells"]["si_sdr"]["value"] == value

    curve = ["curve", str(tmp_path / "runs/runs/tiny"), "--suite", str(suite), "--executor", "serial"]
    assert bench([*curve, "--against", "", "--json", "--quiet"]) == OK
    record = json.loads(capsys.readouterr().out)
    points = {point["step"]: point for point in record["curve"] if point["metric"] == "si_sdr"}
    assert set(points) == {0, 1, 2}
    assert points[2]["last_minus_this"] is None
    for step in (0, 1):
        expected = points[2]["value"] - points[step]["value"]
        assert points[step]["last_minus_this"] == pytest.approx(expected, abs=1e-9)
        low, high = (float(points[step][f"last_minus_this_{end}"]) for end in ("low", "high"))
        assert low <= expected <= high


# ---- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "nowhere"], MISSING, "nowhere"),
        (["--steps", "0"], 2, "steps must be at least 1, not 0"),
        (["--setting", "batchsize=2"], 2, "batch_size"),
        (["--setting", "seed"], 2, "NAME=VALUE"),
        (["--setting", "preset='mini'"], 2, "preset"),
        (["--presets", "table3-mini-bass"], 2, "table3-mini-base"),
        (["--presets", "tiny,tiny"], 2, "twice"),
        (["--suite", "nosuch"], 2, "nosuch"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert bench(["ablation", *arguments]) == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.flac")), "nothing is rendered for a command that cannot run"


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="is not a run of m2l train"):
        points_of(tmp_path)
    (tmp_path / "training.json").write_text(json.dumps({"preset": "tiny", "seed": 1, "init": None}))
    with pytest.raises(RunError, match="no complete checkpoint"):
        points_of(tmp_path)
    assert bench(["curve", str(tmp_path)]) == MISSING
    assert "no complete checkpoint" in capsys.readouterr().err


def test_a_fine_tuned_run_has_no_step_0(tmp_path: Path) -> None:
    (tmp_path / "step-00000005").mkdir()
    for init, steps in ((None, [0, 5]), ("mini", [5])):
        (tmp_path / "training.json").write_text(json.dumps({"preset": "tiny", "seed": 1, "init": init}))
        assert list(points_of(tmp_path).names) == steps
