"""Several processes: two ranks of half a batch are one rank of the whole, to the noise of summation order."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import forked_ranks, log_lines, tiny, train

from m2l.training import SettingsError, Trainer, TrainingSettings
from m2l.training.checkpoint import list_checkpoints
from m2l.training.distributed import World, world

pytest_plugins = ["training_fixtures"]

alone = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA does not survive the fork")


def train_in_processes(settings: TrainingSettings, run: Path, size: int, **options: Any) -> list[int]:
    """What `torchrun` does, without starting Python anew: returns the exit codes."""

    def work() -> int:
        with world("cpu") as here:
            assert (here.size, here.is_main) == (size, here.rank == 0)
            trainer = Trainer(settings, run, device="cpu", world=here)
            trainer.train(checkpoint_every=2, log_every=1, quiet=True, **options)
        return 0

    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in forked_ranks(work, size)]


def assert_same_to_noise(run: Path, other: Path, start: str) -> None:
    """Losses, gradients and the distances that weights, average and moments have moved."""
    for ours, theirs in zip(log_lines(run), log_lines(other), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
    initial = load_file(Path(start) / "model.safetensors")
    for file, prefix in (("model.safetensors", ""), ("training.safetensors", "model.")):
        ours, theirs = (load_file(list_checkpoints(folder)[-1] / file) for folder in (run, other))
        moves = {name: theirs[prefix + name] - weight for name, weight in initial.items()}
        largest = max(float(move.abs().max()) for move in moves.values())
        assert largest > 0
        for name in initial:
            difference = float((ours[prefix + name] - theirs[prefix + name]).abs().max())
            assert difference <= 1e-3 * largest, f"{name}: {difference} of {largest}"


@pytest.mark.forks
@alone
@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_ranks_are_one(accumulate: int, data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    whole = tiny(data, steps=3, batch_size=4, init=moved)
    train(whole, tmp_path / "one")
    parts = tiny(data, steps=3, batch_size=4, init=moved, gradient_accumulation=accumulate)
    assert train_in_processes(parts, tmp_path / "two", 2) == [0, 0]
    assert_same_to_noise(tmp_path / "two", tmp_path / "one", moved)
    written = {path.name for path in (tmp_path / "two").iterdir()} - {"tensorboard", ".lock"}
    assert written == {"log.jsonl", "step-00000002", "step-00000003", "training.json"}


@pytest.mark.forks
@alone
@pytest.mark.slow
def test_two_ranks_are_one_through_both_stages(data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    """Encoder and decoder alone, then all of the model: DDP waits for no gradient of a part that has none."""
    settings = tiny(data, steps=4, autoencoder_steps=2, batch_size=4, init=moved)
    train(settings, tmp_path / "one")
    assert train_in_processes(settings, tmp_path / "two", 2) == [0, 0]
    assert_same_to_noise(tmp_path / "two", tmp_path / "one", moved)


@pytest.mark.forks
@alone
def test_a_request_to_stop_reaches_all_ranks_and_the_run_goes_on_alone(
    data: tuple[str, str], moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 alone is told to stop after step 2: both do, with a checkpoint that one process can resume."""
    settings = tiny(data, steps=4, batch_size=4, init=moved)
    step = Trainer._step

    def stop_later(self: Trainer, batches: Any) -> dict[str, float]:
        metadata = step(self, batches)
        if self.world.rank == 1 and self.state.step == 2:
            self.stop_requested = True
        return metadata

    monkeypatch.setattr(Trainer, "_step", stop_later)
    assert train_in_processes(settings, tmp_path / "two", 2) == [0, 0]
    assert list_checkpoints(tmp_path / "two")[-1].name == "step-00000002"
    monkeypatch.undo()
    train(settings, tmp_path / "two")
    train(settings, tmp_path / "one")
    assert_same_to_noise(tmp_path / "two", tmp_path / "one", moved)


@pytest.mark.forks
@alone
def test_a_nan_on_one_rank_stops_all_and_each_names_its_batch(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings, loss = tiny(data, steps=4), Trainer.loss

    def poisoned(self: Trainer, *arguments: Any) -> torch.Tensor:
        value = loss(self, *arguments)
        return value * float("nan") if self.world.rank == 1 and self.state.step == 2 else value

    monkeypatch.setattr(Trainer, "loss", poisoned)
    assert train_in_processes(settings, tmp_path, 2) == [1, 1]
    reports = [json.loads((tmp_path / name).read_text()) for name in ("failure.json", "failure-1.json")]
    assert [report["rank"] for report in reports] == [0, 1]
    assert all(report["step"] == 2 and len(report["batch"]) == 1 for report in reports)
    assert reports[0]["batch"] != reports[1]["batch"]
    assert list_checkpoints(tmp_path)[-1].name == "step-00000002"
    errors = capfd.readouterr().err
    assert len(re.findall("TrainingStopped: step 2: the loss is not finite", errors)) == 2


@pytest.mark.forks
@alone
def test_the_group_outlives_what_a_trainer_leaves_behind() -> None:
    """A DDP that were its last owner would destroy it with the GIL held, and wait for a thread that wants the GIL."""

    def work() -> int:
        with world("cpu"):
            group = weakref.ref(torch.distributed.group.WORLD)
        gc.collect()
        return int(torch.distributed.is_initialized() or group() is None)

    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in forked_ranks(work)] == [0, 0]


def test_a_batch_that_does_not_divide_is_refused_at_once(data: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="batch_size 2 does not divide into 4 processes x 1 accumulated"):
        Trainer(tiny(data), tmp_path, device="cpu", world=World(rank=0, size=4))


def test_alone_without_torchrun() -> None:
    with world() as here:
        assert (here.rank, here.size, here.is_main) == (0, 1, True)
        assert here.device("cpu") == torch.device("cpu")
        assert here.mean(2.5) == here.max(2.5) == 2.5
        assert here.any(True)
        assert not here.any(False)


def test_torchrun_lets_the_options_pass() -> None:
    """Behind `--`; without it torchrun's parser takes `--run` for an abbreviation of its own options."""
    from torch.distributed.run import parse_args

    from m2l.cli.main import app

    words = ["train", "--preset", "tiny", "--data", "x", "--run", "runs/x", "--steps", "5", "--json"]
    taken = parse_args(["--standalone", "--nproc-per-node=2", "-m", "--", "m2l.cli", *words])
    assert (taken.training_script, taken.training_script_args) == ("m2l.cli", words)
    assert app.parse_args(words)[1].arguments["run"] == "runs/x"


@pytest.mark.slow
def test_torchrun_of_the_real_command_with_the_papers_batch(data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    """2 ranks of batch 8 against 1 of batch 16, as a user starts them."""
    words = ["train", "--preset", "tiny", "--batch-size", "16", "--steps", "3", "--precision", "float32",
             "--warmup-steps", "2", "--device", "cpu", "--init", moved, "--log-every", "1", "--json",
             "--data", data[0], "--data", data[1]]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, start in (("one", [sys.executable, "-m"]), ("two", [*torchrun, "-m", "--"])):
        done = subprocess.run(
            [*start, "m2l.cli", *words, "--run", str(tmp_path / name)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["step"] for line in done.stdout.splitlines()] == [3]  # from one rank only
    assert_same_to_noise(tmp_path / "two", tmp_path / "one", moved)
