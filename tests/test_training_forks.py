"""Training in forked processes: kills at any moment, and several ranks, whose half batches are one rank's whole.

The tests marked `forks` of all modules stand here, so that one new interpreter runs them.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import (
    SMALL,
    assert_same_run,
    assert_same_to_noise,
    children,
    forked,
    forked_ranks,
    m2l,
    noise_file,
    tiny,
    train,
    wait_for_end,
    wait_until,
)

from m2l.io.atomic import exclusive
from m2l.training import Trainer, TrainingSettings
from m2l.training.checkpoint import list_checkpoints
from m2l.training.distributed import world

pytest_plugins = ["training_fixtures"]
pytestmark = [pytest.mark.forks, pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA does not survive the fork")]

# --- kills ------------------------------------------------------------------------------------------------------------


ANYWHERE = [int(moment) for moment in np.random.default_rng(1).integers(1, 14, 60)]


@pytest.mark.parametrize(
    "moments",
    [pytest.param([1, 3, 7, 2, 5, 8], id="in-each-checkpoint"), pytest.param(ANYWHERE, marks=pytest.mark.slow)],
)
def test_killed_anywhere_is_straight_bit_for_bit(
    moments: list[int], straight: Path, data: tuple[str, str], tmp_path: Path
) -> None:
    """SIGKILL before one of the renames, which are what makes a file or checkpoint real; over and over."""
    kills = 0
    for moment in [*moments, 1_000]:
        child = forked(partial(_train_until_killed, tiny(data), tmp_path, moment))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    assert os.WEXITSTATUS(status) == 0
    assert kills >= 6
    assert_same_run(tmp_path, straight)
    assert not list(tmp_path.glob(".step-*"))  # nothing half-written stays


def _train_until_killed(settings: TrainingSettings, run: Path, renames: int) -> int:
    rename, left = os.replace, [renames]

    def counted(*arguments: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*arguments)  # type: ignore[arg-type]

    os.replace = counted  # type: ignore[assignment]
    train(settings, run)
    return 0


def test_readers_end_with_their_trainer(data: tuple[str, str], tmp_path: Path) -> None:
    trainer = forked(lambda: bool(train(tiny(data, steps=10_000), tmp_path, workers=2)))
    wait_until(lambda: (tmp_path / "log.jsonl").exists() and '"step": 2' in (tmp_path / "log.jsonl").read_text())
    inner = children(trainer)
    assert len(inner) == 2
    os.kill(trainer, signal.SIGKILL)
    os.waitpid(trainer, 0)
    wait_for_end(inner)
    with exclusive(tmp_path):  # nor do they hold the lock of the run
        pass


# --- ranks ------------------------------------------------------------------------------------------------------------


def train_in_processes(settings: TrainingSettings, run: Path, size: int, **options: Any) -> list[int]:
    """What `torchrun` does, without starting Python anew: returns the exit codes."""

    def work() -> int:
        with world("cpu") as here:
            assert (here.size, here.is_main) == (size, here.rank == 0)
            trainer = Trainer(settings, run, device="cpu", world=here)
            trainer.train(checkpoint_every=2, log_every=1, quiet=True, **options)
        return 0

    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in forked_ranks(work, size)]


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_ranks_are_one(accumulate: int, data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    whole = tiny(data, steps=3, batch_size=4, init=moved)
    train(whole, tmp_path / "one")
    parts = tiny(data, steps=3, batch_size=4, init=moved, gradient_accumulation=accumulate)
    assert train_in_processes(parts, tmp_path / "two", 2) == [0, 0]
    assert_same_to_noise(tmp_path / "two", tmp_path / "one", moved)
    written = {path.name for path in (tmp_path / "two").iterdir()} - {"tensorboard", ".lock"}
    assert written == {"log.jsonl", "step-00000002", "step-00000003", "training.json"}


@pytest.mark.slow
def test_two_ranks_are_one_through_both_stages(data: tuple[str, str], moved: str, tmp_path: Path) -> None:
    """Encoder and decoder alone, then all of the model: DDP waits for no gradient of a part that has none."""
    settings = tiny(data, steps=4, autoencoder_steps=2, batch_size=4, init=moved)
    train(settings, tmp_path / "one")
    assert train_in_processes(settings, tmp_path / "two", 2) == [0, 0]
    assert_same_to_noise(tmp_path / "two", tmp_path / "one", moved)


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


def test_the_group_outlives_what_a_trainer_leaves_behind() -> None:
    """A DDP that were its last owner would destroy it with the GIL held, and wait for a thread that wants the GIL."""

    def work() -> int:
        with world("cpu"):
            group = weakref.ref(torch.distributed.group.WORLD)
        gc.collect()
        return int(torch.distributed.is_initialized() or group() is None)

    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in forked_ranks(work)] == [0, 0]


# --- the command in several processes ---------------------------------------------------------------------------------


def ranks(arguments: list[object], size: int = 2) -> Iterator[int]:
    """What `torchrun` does for each process, and then to the others when one ends with a fault."""
    running = forked_ranks(lambda: m2l(*arguments), size)
    while running:
        child, status = os.wait()
        if child in running:
            del running[child]
            code = os.waitstatus_to_exitcode(status)
            yield code
            for other in running if code else ():
                os.kill(other, signal.SIGTERM)


def gone(path: str, *_: object) -> None:
    raise FileNotFoundError(f"{path} was there a moment ago")


MISTAKES = [
    (["--preset", "nope"], 2, "unknown preset 'nope'"),
    (["--run", "LOCKED"], 2, "is being written to by another process"),
    (["--run", "DAMAGED"], 3, "training.json, the settings of the run"),
    (["--data", "GONE"], 3, "could not be read"),
]


def test_of_several_processes_one_says_what_is_wrong(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LOCKED").mkdir()
    (tmp_path / "DAMAGED").mkdir()
    (tmp_path / "DAMAGED" / "training.json").write_text("{")
    noise_file(tmp_path / "GONE" / "a.flac")
    for words, code, message in MISTAKES:
        if "GONE" in words:
            monkeypatch.setattr("m2l.training.data.read_audio", gone)
        else:
            words = ["--data", data[0], *words]
        with exclusive(tmp_path / "LOCKED"):
            codes = list(ranks(["train", *SMALL, "--batch-size", 2, "--run", "r", *words]))
        assert codes[0] == code, words
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("m2l: ")]
        assert len(lines) == 1, lines
        assert message in lines[0]


def test_a_killed_process_of_several_is_one_line_of_another(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    step = Trainer._step

    def die(self: Trainer, parts: Any) -> dict[str, float]:
        if self.world.rank == 1 and self.state.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, parts)

    monkeypatch.setattr(Trainer, "_step", die)
    words = ["--data", data[0], "--batch-size", 2, "--checkpoint-every", 1, "--run", tmp_path / "r"]
    assert list(ranks(["train", *SMALL, *words])) == [-signal.SIGKILL, 1]
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("m2l: ")] == [line for line in lines if "has died" in line]
    assert "Traceback" not in "".join(lines)
    assert list_checkpoints(tmp_path / "r")[-1].name == "step-00000002"
