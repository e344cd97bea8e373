"""Metrics of other packages and networks: what they are given, at which rate, and how short audio may be.

The packages and networks are stand-ins here; `test_heard_metrics` and `test_pair_metrics` run the real ones.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.metrics import cdpam, f0_accuracy, latent_mse, note_f1
from benchmarks.metrics.pesq import pesq_wide_band
from benchmarks.metrics.stoi import stoi

STEREO = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 10_000)).astype(np.float32)


def too_short(function: Any, rate: int, shortest: int) -> None:
    """The shortest audio is measured, and one sample less is not."""
    value, reason = function(STEREO[:, : shortest - 1], STEREO[:, : shortest - 1], rate)
    assert math.isnan(value)
    assert reason == f"{shortest - 1} samples, at least {shortest} needed"
    assert not math.isnan(function(STEREO[:, :shortest], STEREO[:, :shortest], rate)[0])


def test_pesq_is_given_16_khz_wide_band(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class PesqError(Exception):
        pass

    def pesq(rate: int, reference: np.ndarray, degraded: np.ndarray, mode: str) -> float:
        calls.append((rate, reference, degraded, mode))
        if degraded.max() < 0.1:
            raise PesqError(b"no utterance", "more")
        return 3.25

    monkeypatch.setitem(sys.modules, "pesq", SimpleNamespace(PesqError=PesqError, pesq=pesq))
    assert pesq_wide_band(0.5 * STEREO, STEREO, 16_000) == (3.25, None)
    rate, reference, degraded, mode = calls[0]
    assert (rate, mode, reference.shape) == (16_000, "wb", (10_000,))
    assert reference == pytest.approx(STEREO.mean(axis=0), abs=1e-6)
    assert degraded == pytest.approx(0.5 * reference, abs=1e-6)
    assert pesq_wide_band(0.01 * STEREO, STEREO, 16_000)[1] == "PESQ: no utterance"
    pesq_wide_band(STEREO, STEREO, 8_000)
    assert len(calls[-1][1]) == 20_000
    too_short(pesq_wide_band, 8_000, 2_000)


def test_stoi_is_given_10_khz(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, "pystoi", SimpleNamespace(stoi=lambda *given: calls.append(given) or 0.75))
    assert stoi(0.5 * STEREO, STEREO, 10_000) == (0.75, None)
    reference, output, rate = calls[0]
    assert rate == 10_000
    assert reference == pytest.approx(STEREO.mean(axis=0), abs=1e-6)
    assert output == pytest.approx(0.5 * reference, abs=1e-6)
    too_short(stoi, 10_000, 3_968)  # 30 frames of 256 samples, half of which overlap


def test_notes_are_matched_by_pitch_and_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three notes two begin and sound like one of the original, which has four: F1 is 2 * 2 / (3 + 4)."""
    heard = {
        "original": ([60, 62, 64, 65], [[0, 1], [1, 2], [2, 3], [3, 4]]), "none": ([], np.zeros((0, 2))),
        "output": ([60, 62, 70], [[0.04, 0.2], [1.06, 2], [2, 3]]),
        "near": ([60, 62, 70], [[0.04, 0.2], [1, 9], [2, 3]]),
    }  # fmt: skip
    seen: list[int] = []
    names: list[str] = []

    def transcribe(path: object, audio: np.ndarray) -> Any:
        seen.append(len(audio))
        midi, intervals = heard[names.pop(0)]
        return SimpleNamespace(midi=np.array(midi, dtype=float), intervals=np.array(intervals, dtype=float))

    monkeypatch.setattr(note_f1, "load_target", lambda name: transcribe)
    monkeypatch.setattr(note_f1, "find_weight", lambda name: Path("x"))

    def measured(output: str, original: str, rate: int = 22_050) -> Any:
        names[:] = [output, original]
        return note_f1.note_f1(STEREO, STEREO, rate)

    assert measured("near", "original") == (pytest.approx(4 / 7), None)
    assert measured("output", "original")[0] == pytest.approx(2 / 7)
    assert measured("none", "original") == (0.0, None)
    value, reason = measured("near", "none")
    assert math.isnan(value)
    assert reason == "no notes found in target"
    assert seen[-1] == 10_000
    measured("near", "original", 11_025)
    assert seen[-1] == 20_000
    names[:] = ["near", "original"]
    too_short(note_f1.note_f1, 8_000, 2_000)


def test_latents_are_compared_by_their_squares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    model = SimpleNamespace(
        gen=SimpleNamespace(config=SimpleNamespace(sample_rate=8_000)),
        encode=lambda audio: torch.tensor(np.asarray(audio)[:, :4] * 2),
    )
    monkeypatch.setattr(latent_mse, "_model", lambda path, modified: model)
    monkeypatch.setattr(latent_mse, "checkpoint_path", lambda name: weights)
    fold = STEREO.mean(axis=0)[:4].astype(np.float64)
    assert latent_mse.latent_mse(0.5 * STEREO, STEREO, 8_000)[0] == pytest.approx(np.square(fold).mean(), rel=1e-5)
    too_short(latent_mse.latent_mse, 8_000, 1_200)
    metric = latent_mse.LATENT_MSE
    assert [metric.of(name).name for name in ("mini", "a/b.safetensors")] == ["latent_mse:mini", "latent_mse:b"]
    assert [metric.of(name).weight for name in ("mini", "music2latent")] == [None, "music2latent"]


def test_pitch_is_tracked_at_16_khz(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def track(path: object, audio: np.ndarray) -> Any:
        seen.append(len(audio))
        return SimpleNamespace(hertz=np.full(9, 200.0), confidence=np.ones(9))

    monkeypatch.setattr(f0_accuracy, "load_target", lambda name: track)
    monkeypatch.setattr(f0_accuracy, "find_weight", lambda name: Path("x"))
    assert f0_accuracy.f0_accuracy(STEREO, STEREO, 8_000) == (1.0, None)
    assert seen == [20_000, 20_000]
    too_short(f0_accuracy.f0_accuracy, 8_000, 500)


def test_cdpam_is_given_22_khz(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(cdpam, "load_target", lambda name: lambda *given: calls.append(given) or 0.25)
    monkeypatch.setattr(cdpam, "find_weight", lambda name: Path("x"))
    assert cdpam.cdpam_distance(0.5 * STEREO, STEREO, 22_050) == (0.25, None)
    _, original, output = calls[0]
    assert original == pytest.approx(STEREO.mean(axis=0), abs=1e-6)
    assert output == pytest.approx(0.5 * original, abs=1e-6)
    cdpam.cdpam_distance(STEREO, STEREO, 1_000)  # a sample for each sample of a second
    assert len(calls[-1][1]) == 220_500
    too_short(cdpam.cdpam_distance, 8_000, 800)


def test_a_checkpoint_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The published weights are a file; a checkpoint may be a folder, which is loaded as one."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "published.safetensors"
    monkeypatch.setattr(latent_mse, "find_weight", lambda name: file)
    monkeypatch.setattr(latent_mse, "find_checkpoint", lambda name: tmp_path / name)
    inside = tmp_path / "folder" / "model.safetensors"
    assert latent_mse.checkpoint_path("music2latent") == file
    assert latent_mse.checkpoint_path("folder") == inside
    assert latent_mse.checkpoint_path("a.safetensors") == tmp_path / "a.safetensors"
    monkeypatch.setattr(latent_mse, "load_target", lambda name: lambda path, device: (path, device))
    latent_mse._model.cache_clear()
    assert latent_mse._model(inside, 0) == (tmp_path / "folder", "cpu")
    assert latent_mse._model(file, 0) == (file, "cpu")
    latent_mse._model.cache_clear()
