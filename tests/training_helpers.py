"""What the tests of training share: small audio, small runs, and the comparison of two runs bit for bit."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from m2l import Music2Latent
from m2l.cli.main import main
from m2l.io.blocks import write_audio
from m2l.training import Trainer, TrainingSettings
from m2l.training.checkpoint import list_checkpoints

#: Options of a run of short crops, which takes hundredths of a second a step.
SMALL = ["--preset", "tiny", "--batch-size", "1", "--crop-frames", "8", "--precision", "float32", "--warmup-steps", "2",
         "--device", "cpu", "--log-every", "1", "--quiet"]  # fmt: skip
#: Entries of log.jsonl that depend on the clock.
CLOCK = ("crops_per_second", "seconds")


def noise_file(
    path: Path, seconds: float = 1.5, rate: int = 44_100, channels: int = 1, seed: int = 0, level: float = 0.3
) -> Path:
    """A file of colored noise: every crop of it is different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    white = np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))
    colored = np.cumsum(white, axis=1)
    colored -= colored.mean(1, keepdims=True)
    write_audio(path, (level * colored / np.abs(colored).max()).astype(np.float32), rate)
    return path


def music_and_speech(folder: Path) -> tuple[str, str]:
    """Two corpora of different rates and channel numbers."""
    noise_file(folder / "music" / "a.wav", channels=2, seed=1)
    noise_file(folder / "music" / "deep" / "b.flac", seed=2)
    noise_file(folder / "speech" / "c.wav", rate=48_000, seed=3)
    return str(folder / "music"), str(folder / "speech")


def moved_model() -> Music2Latent:
    """A model whose last layers are not zero any more, so that every weight has a gradient."""
    model = Music2Latent.from_config("tiny")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def moved_checkpoint(folder: Path) -> str:
    """`moved_model` as a checkpoint."""
    moved_model().save_pretrained(folder)
    return str(folder)


def tiny(data: Any, **changes: Any) -> TrainingSettings:
    """A run of seconds: 8 frames a crop, float32."""
    values: dict[str, Any] = {
        "preset": "tiny", "data": data, "steps": 6, "batch_size": 2, "crop_frames": 8,
        "precision": "float32", "warmup_steps": 2, "learning_rate": 1e-3,
    }  # fmt: skip
    return TrainingSettings(**{**values, **changes})


def train(settings: TrainingSettings, run: Path, *, workers: int = 0, **options: Any) -> Trainer:
    """Train as the command does; returns the trainer."""
    trainer = Trainer(settings, run, device="cpu", workers=workers)
    trainer.train(**{"checkpoint_every": 2, "log_every": 1, "quiet": True, **options})
    return trainer


def m2l(*arguments: object) -> int:
    """Run the command; returns its exit code."""
    return main([str(argument) for argument in arguments])


def log_lines(run: Path) -> list[dict[str, Any]]:
    """log.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def assert_same_run(run: Path, straight: Path) -> None:
    """The last checkpoints are the same bit for bit (weights, average, optimizer, step), the logs to all digits."""
    assert log_lines(run) == log_lines(straight)
    ours, theirs = list_checkpoints(run)[-1], list_checkpoints(straight)[-1]
    assert ours.name == theirs.name
    files = sorted(path.name for path in theirs.iterdir())
    assert files == ["config.json", "model.safetensors", "training.json", "training.safetensors"]
    assert sorted(path.name for path in ours.iterdir()) == files
    for name in ("training.safetensors", "model.safetensors"):
        (here, facts), (there, expected) = read_safetensors(ours / name), read_safetensors(theirs / name)
        # Not the files' bytes: safetensors writes the entries of its header's metadata in random order.
        assert facts == expected, name
        assert [key for key in there if not torch.equal(here[key], there[key])] == [], name
        assert here.keys() == there.keys()
    for name in ("config.json", "training.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file's tensors, and the metadata of its header."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def without_checksums(checkpoint: Path) -> None:
    """Make a checkpoint one of an earlier version."""
    path = checkpoint / "training.json"
    plain = json.loads(path.read_text())
    kept = {name: plain[name] for name in ("step", "scaler", "recent_losses")}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def forked(work: Callable[[], int], seconds: float = 240.0) -> int:
    """Process id of a forked child that does `work` and exits with the code it returns (1 if it raises).

    A child that hangs says where on stderr, and exits with 1 as well.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)
        code = work()
    except BaseException:
        faulthandler.cancel_dump_traceback_later()
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def forked_ranks(work: Callable[[], int], size: int = 2) -> dict[int, int]:
    """Processes as `torchrun` starts them, without starting Python anew: process id -> rank."""
    port = free_port()
    importlib.import_module("torch._dynamo")  # DDP does: once here instead of in every fork

    def as_rank(rank: int) -> int:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size),
                          MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))  # fmt: skip
        return work()

    return {forked(lambda rank=rank: as_rank(rank)): rank for rank in range(size)}


def free_port() -> int:
    """A free port below those that the system gives to other sockets, so that none takes it before it is used."""
    first = 20_000 + os.getpid() % 5_000
    for port in range(first, first + 5_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def children(of: int | None = None) -> list[int]:
    """Readers that run: forked children, which have their parent's command line. Other tests' workers have not."""
    parent = of or os.getpid()
    words = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(word) for word in words if _command(int(word)) == _command(parent)]


def _command(pid: int) -> bytes | None:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    since = time.monotonic()
    while not condition():
        assert time.monotonic() - since < seconds, "it did not come"
        time.sleep(0.02)


def wait_for_end(processes: list[int]) -> None:
    wait_until(lambda: all(is_zombie(pid) for pid in processes))


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


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
