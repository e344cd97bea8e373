"""A tiny suite on real files, for the tests of the harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from benchmarks.embedders import EmbedderStatus
from benchmarks.harness import units
from benchmarks.suite import Suite, parse_suite

RATE = 16000


def write_clips(folder: Path, count: int = 6, seconds: float = 1.2, rate: int = RATE) -> None:
    """WAV files of noisy tones, each different."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        time = np.arange(round(seconds * rate)) / rate
        tone = np.sin(2 * np.pi * rng.uniform(100, 1000) * time) + 0.1 * rng.standard_normal(len(time))
        sf.write(folder / f"clip{index}.wav", 0.3 * tone / np.abs(tone).max(), rate, subtype="FLOAT")


def tiny_suite(folder: Path, **changes: Any) -> Suite:
    """Three fast systems and SI-SDR on the clips of a folder, two clips a unit."""
    record: dict[str, Any] = {
        "name": "tiny",
        "data": {"dataset": "folder", "options": {"path": str(folder)}, "unit_clips": 2},
        "table2": {"systems": ["identity", "noise-20db", "opus-16k"], "metrics": ["si_sdr"]},
        "statistics": {"resamples": 200},
    }
    for key, value in changes.items():
        record[key] = {**record.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_suite(record)


TOML = """
name = "tiny"
[data]
dataset = "folder"
options = {{ path = "{path}" }}
unit_clips = 2
[table2]
systems = ["identity", "noise-20db", "opus-16k"]
metrics = ["si_sdr"]
[statistics]
resamples = 200
"""


def tiny_toml(folder: Path, clips: Path) -> Path:
    """The same suite as a file."""
    path = folder / "tiny.toml"
    path.write_text(TOML.format(path=clips))
    return path


def run_tests(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of pytest on a file, in this process, which has imported what the file needs."""
    without = [word for plugin in ("cacheprovider", "timeout", "xdist") for word in ("-p", f"no:{plugin}")]
    code = pytest.main(["-q", *without, str(file)])
    return int(code), capsys.readouterr().out


class Loudness:
    """An embedder of two numbers a window; refuses clips under a second, as one of a whole batch."""

    sample_rate = 8000

    def embed(self, audio: np.ndarray) -> np.ndarray:
        if len(audio) < self.sample_rate:
            raise ValueError("under a second")
        windows = audio[: len(audio) // 800 * 800].reshape(-1, 800)
        return np.stack([windows.std(axis=1), np.abs(np.diff(windows)).mean(axis=1)], axis=1)

    def embed_batch(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        return [self.embed(clip) for clip in clips]


def use_loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of corpora with `Loudness` in place of any embedder, in this process."""
    monkeypatch.setattr("benchmarks.evaluation.stages.create_embedder", lambda name, **_: Loudness())
    monkeypatch.setattr("benchmarks.metrics.base.embedder_status", lambda name: EmbedderStatus(True, ""))
    monkeypatch.setattr("benchmarks.evaluation.plan.embedder_identity", lambda name: {"name": name, "test": "loudness"})
    monkeypatch.setattr(units, "_resident", (None, None))
