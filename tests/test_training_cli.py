"""`m2l train` as its users meet it: output, exit codes, signals, full disks, log, validation."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import tomllib
import types
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save
from training_helpers import SMALL, assert_same_run, log_lines, m2l, noise_file, tiny, train, without_checksums

from benchmarks.metrics.si_sdr import si_sdr
from m2l import Music2Latent
from m2l.io.blocks import read_audio
from m2l.io.sound import audio_info
from m2l.training import TrainingSettings, validation
from m2l.training.checkpoint import list_checkpoints
from m2l.training.data import DataError
from m2l.training.export import training_seconds

pytest_plugins = ["training_fixtures"]


def options(data: tuple[str, ...], run: Path, steps: int) -> list[object]:
    specs = [word for spec in data for word in ("--data", spec)]
    return ["train", *SMALL, *specs, "--run", run, "--steps", steps]


def process(arguments: list[object], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "m2l.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def wait_for(path: Path, running: subprocess.Popen[str], content: str = "") -> None:
    for _ in range(6000):
        if path.exists() and content in path.read_text(errors="replace"):
            return
        if running.poll() is not None:
            raise AssertionError(f"ended with {running.returncode}: {running.communicate()[1]}")
        time.sleep(0.1)
    raise AssertionError(f"{path} did not come")


# --- the command ----------------------------------------------------------------------------------------------


def test_the_real_command_stops_at_sigterm_and_goes_on(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM goes to all processes of the run, as schedulers send it: the readers must not die of it."""
    run, straight = tmp_path / "run", tmp_path / "straight"
    arguments = [*options(data, run, 400), "--workers", 1]
    running = process(arguments, start_new_session=True)
    wait_for(run / "log.jsonl", running, '"step": 2')
    os.killpg(running.pid, signal.SIGTERM)
    output, errors = running.communicate(timeout=600)
    assert running.returncode == 130, errors
    assert "interrupted; the same command resumes from here" in errors
    assert "Traceback" not in errors
    stopped = int(list_checkpoints(run)[-1].name[-8:])
    assert 2 <= stopped < 400
    assert output == f"{run}: step {stopped} of 400\n"
    assert len(log_lines(run)) == stopped
    # To the step after it, here and in a run of its own that nothing stopped.
    for folder in (run, straight):
        assert m2l(*options(data, folder, 400), "--until", stopped + 1, "--json") == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert results[0] == {"run": str(run), "step": stopped + 1, "steps": 400, "complete": False}
    assert_same_run(run, straight)


@pytest.mark.slow
def test_the_real_command_survives_sigkill_at_any_moment(data: tuple[str, str], tmp_path: Path) -> None:
    arguments = [*options(data, tmp_path / "run", 240), "--workers", 1, "--checkpoint-every", 2]
    random, kills = np.random.default_rng(0), 0
    while True:
        running = process(arguments)
        if kills < 4:
            wait_for(tmp_path / "run" / "log.jsonl", running)
            time.sleep(float(random.uniform(0, 3)))
            running.kill()
        running.communicate()
        if running.returncode == 0:
            break
        kills += 1
        assert kills < 30
    assert kills >= 2
    assert m2l(*options(data, tmp_path / "straight", 240), "--checkpoint-every", 2) == 0
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_dry_run_shows_everything_and_writes_nothing(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    music, speech = data
    assert m2l(*options((f"{music}=3", speech), run, 7), "--dry-run") == 0
    text = capsys.readouterr().out
    assert not run.exists()
    assert "  steps = 7\n" in text
    assert "  base_channels = 4\n" in text
    assert f"corpus: name {music}=3, weight 3.0, files 2," in text
    assert "sample_rates [48000]" in text
    assert m2l(*options(data, run, 7), "--dry-run", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["settings"]
        == TrainingSettings(
            preset="tiny", data=data, steps=7, batch_size=1, crop_frames=8, precision="float32", warmup_steps=2
        ).to_dict()
    )
    assert [corpus["files"] for corpus in facts["corpora"]] == [2, 1]
    assert facts["hours_to_go"] == pytest.approx(7 * facts["seconds_per_step"] / 3600, abs=0.01)
    assert facts["seconds_per_step"] > 0
    assert facts["peak_memory_gb"] > 0.01
    assert (facts["step"], facts["processes"], facts["device"]) == (0, 1, "cpu")
    trained = sum(p.numel() for p in Music2Latent.from_config("tiny").parameters())
    assert 0.9 * trained < facts["parameters"] < trained  # all but the idle projections
    assert not run.exists()


def test_recipes_are_the_defaults_of_a_preset(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from m2l.cli.main import app
    from m2l.cli.train import resolved_settings
    from m2l.training.settings import RECIPES

    def resolved(*words: str) -> TrainingSettings:
        _, bound, _ = app.parse_args(["train", "--data", "x", "--run", "y", *words])
        return resolved_settings(bound.arguments["given"])

    assert resolved("--preset", "paper") == TrainingSettings(data=("x",))
    assert resolved("--preset", "table3-base").steps == 200_000
    for name, recipe in RECIPES.items():
        assert resolved("--preset", name) == TrainingSettings(preset=name, data=("x",), **recipe)
    assert resolved("--steps", "5", "--learning-rate", "0.5").steps == 5
    assert resolved("--precision", "float32", "--compile").compile
    assert resolved("--preset", "mini").lsuv
    assert not resolved("--preset", "mini", "--no-lsuv").lsuv
    # The first stage keeps its share of the steps, and is not for weights that are trained already.
    shorter = resolved("--preset", "mini", "--steps", str(RECIPES["mini"]["steps"] // 10))
    assert shorter.autoencoder_steps == RECIPES["mini"]["autoencoder_steps"] // 10
    assert resolved("--preset", "mini", "--steps", "300", "--autoencoder-steps", "7").autoencoder_steps == 7
    assert resolved("--preset", "mini", "--init", "mini").autoencoder_steps == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--run", "r"], 2, "--data is needed"),
        (["--data", "nowhere", "--run", "r"], 3, "no training data at 'nowhere'"),
        (["--data", "DATA", "--run", "r", "--preset", "minni"], 2, "unknown preset 'minni'; did you mean 'mini'"),
        (["--data", "DATA", "--run", "r", "--steps", "0"], 2, "steps must be at least 1, not 0"),
        (["--data", "DATA", "--run", "r", "--seed", "-1"], 2, "seed must not be negative, is -1"),
        (["--data", "DATA", "--run", "r", "--keep", "0"], 2, "--keep: must be at least 1, not 0"),
        (["--data", "DATA", "--run", "r", "--init", "nothing"], 3, "no checkpoint at 'nothing'"),
        (
            ["--data", "DATA", "--run", "r", "--batch-size", "3", "--gradient-accumulation", "2"],
            2,
            "does not divide into 1",
        ),
        (["--data", "DATA", "--run", "r", "--validation", "nowhere"], 3, "no training data at 'nowhere'"),
        (["--data", "DATA", "--run", "FILE"], 2, "--run FILE is not a folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], code: int, message: str, data: tuple[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("a file, not a folder")
    words = [data[0] if word == "DATA" else word for word in words]
    assert m2l("train", *SMALL, "--quiet", *words) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("m2l: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_run_that_fails_exits_with_1_and_says_where(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert m2l(*options(data, run, 9), "--until", 1) == 0
    path = run / "step-00000001" / "training.safetensors"
    tensors = load(path.read_bytes())
    tensors["model.encoder.conv_out.bias"][0] = math.nan
    path.write_bytes(save(tensors))
    without_checksums(run / "step-00000001")
    capsys.readouterr()
    assert m2l(*options(data, run, 9)) == 1
    captured = capsys.readouterr()
    report = json.loads((run / "failure.json").read_text())
    assert "m2l: stopped at step 1: the loss is not finite (nan); the last checkpoint" in captured.err
    assert report["batch"][0] in captured.err
    assert [checkpoint.name for checkpoint in list_checkpoints(run)] == ["step-00000001"]
    assert m2l(*options(data, run, 8)) == 2
    assert "was started with other settings (steps 9 -> 8)" in capsys.readouterr().err


def test_a_full_disk_is_said_and_the_checkpoint_stays(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files may not grow over 100 kB: writing fails half-way, as it does where the disk is full."""
    run = tmp_path / "run"
    assert m2l(*options(data, run, 4), "--until", 1) == 0
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        code = m2l(*options(data, run, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert code == 1
    errors = capsys.readouterr().err
    assert "cannot write" in errors
    assert "step-00000004" in errors
    assert f"the last checkpoint in {run} is whole" in errors
    assert "Traceback" not in errors
    left = {path.name for path in run.iterdir()} - {"tensorboard", ".lock"}
    assert left == {"log.jsonl", "step-00000001", "training.json"}
    assert m2l(*options(data, run, 4)) == 0  # there is room again
    assert list_checkpoints(run)[-1].name == "step-00000004"


# --- log, TensorBoard, validation -------------------------------------------------------------------------------


def test_tensorboard_where_it_is_installed(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # not there: no board, no complaint
    train(tiny(data, steps=4), tmp_path, until=2)
    assert not (tmp_path / "tensorboard").exists()
    boards: list[Any] = []

    class Board:
        def __init__(self, folder: str, purge_step: int) -> None:
            self.folder, self.purge_step, self.closed = folder, purge_step, False
            self.scalars: list[tuple[str, float, int]] = []
            boards.append(self)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars.append((name, value, step))

        def close(self) -> None:
            self.closed = True

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = Board  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    train(tiny(data, steps=4), tmp_path)
    (board,) = boards
    assert (board.folder, board.purge_step, board.closed) == (str(tmp_path / "tensorboard"), 2, True)
    losses = [(step, value) for name, value, step in board.scalars if name == "loss"]
    assert losses == [(line["step"], line["loss"]) for line in log_lines(tmp_path)[2:]]


def test_the_log_forgets_what_comes_again_and_its_clock_goes_on(data: tuple[str, str], tmp_path: Path) -> None:
    train(tiny(data), tmp_path, until=2)
    path = tmp_path / "log.jsonl"
    first = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(path.read_text() + '{"step": 3, "loss": 1.0, "seconds": 900}\n{"step": 4, "lo')
    train(tiny(data), tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[:2] == first
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["crops_per_second"] > 0 and line["delta_t"] > 0 for line in lines)
    clock = [line["seconds"] for line in lines]
    assert clock == sorted(clock)
    assert clock[-1] < 800
    assert training_seconds(tmp_path, 6) == pytest.approx(clock[-1])
    assert training_seconds(tmp_path, 2) == pytest.approx(clock[1])


def test_validation_writes_audio_and_the_benchmarks_si_sdr(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        EntryPoint("clips", "test_training_cli:clips_and_rate", validation.GROUP),
        EntryPoint("gone", "no_such_module:f", validation.GROUP),
    ]
    monkeypatch.setattr(validation, "entry_points", lambda group: points if group == validation.GROUP else [])
    held_out = tmp_path / "held"
    noise_file(held_out / "long.wav", seconds=11.0, channels=2, rate=48_000, seed=9)
    noise_file(held_out / "short.wav", seconds=0.5, rate=48_000, seed=8)
    validate = validation.Validation(str(held_out), tmp_path / "run" / "validation")
    trainer = train(tiny(data), tmp_path / "run", until=2, validate_every=2, validate=validate, checkpoint_every=2)
    folder = tmp_path / "run" / "validation"
    expected = []
    for name, seconds in (("00-long.wav", 10.0), ("01-short.wav", 0.5)):
        sound = audio_info(folder / "step-00000002" / name)
        assert (sound.sample_rate, sound.channels, sound.subtype) == (48_000, 1, "PCM_16")
        assert sound.duration == pytest.approx(seconds)
        original, reconstructed = (read_audio(folder / kind / name)[0][0] for kind in ("original", "step-00000002"))
        source = read_audio(held_out / name[3:])[0].mean(0)
        middle = source[(len(source) - len(original)) // 2 :][: len(original)]
        np.testing.assert_allclose(original, middle, atol=2 / 32_768)
        index = int(name[:2])
        again = trainer.ema.model.reconstruct(middle, 48_000, seed=index)
        np.testing.assert_allclose(reconstructed, again, atol=2 / 32_768)
        expected.append(si_sdr(again, middle))
    (entry,) = [line for line in log_lines(tmp_path / "run") if "validation_si_sdr" in line]
    assert entry["step"] == 2
    assert entry["validation_si_sdr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert (entry["validation_clips"], entry["validation_rate"]) == (2, 48_000)
    assert "gone (no_such_module:f) is left out: No module named 'no_such_module'" in capsys.readouterr().err
    points.clear()
    validation.Validation(str(held_out), folder)
    assert "SI-SDR alone, since no installed package has entry points in 'm2l.validation'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no usable audio"):
        validation.Validation(str(tmp_path / "empty"), folder)


def clips_and_rate(originals: list[np.ndarray], results: list[np.ndarray], rate: int) -> dict[str, float]:
    """What an entry point of `validation.GROUP` is given."""
    assert all(a.shape == b.shape for a, b in zip(originals, results, strict=True))
    return {"clips": len(originals), "rate": rate}


def test_the_project_declares_its_frechet_distances() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    for name, target in project["entry-points"][validation.GROUP].items():
        assert EntryPoint(name, target, validation.GROUP).load().__name__ == name


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_the_logs_si_sdr_is_the_benchmarks(offset: float) -> None:
    random = np.random.default_rng(0)
    target = random.standard_normal(4000).astype(np.float32)
    preds = (0.5 * target + 0.2 * random.standard_normal(4000) + offset).astype(np.float32)
    assert validation.si_sdr(preds, target) == pytest.approx(si_sdr(preds, target), abs=1e-4)
