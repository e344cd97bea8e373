"""What the tests of training share: small audio, small runs, and the comparison of two runs bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from m2l.audio import write_audio
from m2l.training import Trainer, TrainingSettings
from m2l.training.checkpoint import list_checkpoints

#: Entries of log.jsonl that depend on the clock.
CLOCK = ("crops_per_second", "seconds")


def noise_file(
    path: Path, seconds: float = 1.5, rate: int = 44_100, channels: int = 1, seed: int = 0, level: float = 0.3
) -> Path:
    """A file of coloured noise: every crop of it is different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    white = np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))
    coloured = np.cumsum(white, axis=1)
    coloured -= coloured.mean(1, keepdims=True)
    write_audio(path, (level * coloured / np.abs(coloured).max()).astype(np.float32), rate)
    return path


def music_and_speech(folder: Path) -> tuple[str, str]:
    """Two corpora of different rates and channel numbers."""
    noise_file(folder / "music" / "a.wav", channels=2, seed=1)
    noise_file(folder / "music" / "deep" / "b.flac", seed=2)
    noise_file(folder / "speech" / "c.wav", rate=48_000, seed=3)
    return str(folder / "music"), str(folder / "speech")


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


def log_lines(run: Path) -> list[dict[str, Any]]:
    """log.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def assert_same_run(run: Path, straight: Path) -> None:
    """The last checkpoints hold the same bytes (weights, average, optimiser, step), the logs the same numbers."""
    ours, theirs = list_checkpoints(run)[-1], list_checkpoints(straight)[-1]
    assert ours.name == theirs.name
    files = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == files
    assert {"model.safetensors", "training.safetensors", "training.json"} <= set(files)
    for name in files:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert log_lines(run) == log_lines(straight)
