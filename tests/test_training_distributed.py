"""Several processes as torchrun starts them; test_training_forks.py holds what they compute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_helpers import assert_same_to_noise, tiny

from m2l.training import SettingsError, Trainer
from m2l.training.distributed import World, world

pytest_plugins = ["training_fixtures"]


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
