"""The training contest: both sides take the same steps, and the report holds what it promises."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.cli.main import main as bench
from benchmarks.speed.train import (
    Options,
    OurStep,
    PlainStep,
    awaken,
    contest_settings,
    draw_profile,
    make_batches,
    run,
)
from m2l.model import Music2Latent
from m2l.training import TrainingSettings

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(preset="tiny", batch_size=2, precision="float32", steps=10, warmup_steps=1, crop_frames=16)


@pytest.mark.parametrize(
    "recipe", [{}, {"weighting": "output", "band_weight": 10.0, "direct_share": 0.5, "spectrum_weight": 2.0}]
)
def test_the_plain_step_is_ours_in_float32(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Written independently: same losses over steps, same weights and averages at the end."""
    settings = dataclasses.replace(SETTINGS, **recipe)
    batches = make_batches(settings)
    ours, plain = OurStep(settings, tmp_path, CPU, batches), PlainStep(settings, CPU, batches)
    losses = [(ours.step(), plain.step()) for _ in range(4)]
    for a, b in losses:
        assert a == pytest.approx(b, rel=1e-4)
    assert len({round(a, 6) for a, _ in losses}) == 4
    for mine, theirs in ((ours.state.model, plain.model), (ours.ema.model, plain.average)):
        for (name, a), b in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3, msg=name)


def test_losses_depend_on_the_network(tmp_path: Path) -> None:
    """At zero output every precision has the same loss: the contest would then compare nothing."""
    batches = make_batches(SETTINGS)
    awake = OurStep(SETTINGS, tmp_path, CPU, batches)
    asleep = OurStep(SETTINGS, tmp_path / "b", CPU, batches)
    asleep.state.model.load_state_dict(Music2Latent.from_config("tiny", SETTINGS.seed).state_dict())
    assert awake.step() != pytest.approx(asleep.step(), rel=1e-3)
    model = Music2Latent.from_config("tiny", 0)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    awaken(model)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert parameter.any(), name
            assert torch.equal(parameter, before[name]) == bool(before[name].any()), name


@pytest.mark.slow
def test_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--presets", "tiny", "--batch-size", "1", "--repeats", "1", "--warmup", "0", "--json"]
    assert bench(["speed", "train", *arguments, "--profile", str(tmp_path / "p.svg")]) == 0
    record = json.loads(capsys.readouterr().out)
    (row,) = record["rows"]
    assert row["case"] == "tiny, batch 1"
    assert row["ratio"] == pytest.approx(row["rival_seconds"] / row["ours_seconds"])
    assert row["loss_error"] < 0.05, "bfloat16 against float32"
    assert (tmp_path / "p-tiny.svg").read_text().count("</svg>") == 1


def test_any_step_of_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """Late steps have a smaller Delta t and another loss; there are none after the last."""
    losses = {}
    for step in (0, 700_000):
        arguments = ["--presets", "tiny", "--batch-size", "1", "--repeats", "1", "--warmup", "0", "--json"]
        assert bench(["speed", "train", *arguments, "--precision", "float32", "--at-step", str(step)]) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row["loss_error"] < 1e-4
        losses[step] = row["loss"]
    assert losses[0] != pytest.approx(losses[700_000], rel=1e-2)
    assert bench(["speed", "train", *arguments, "--at-step", "800000"]) == 2
    assert "--at-step 800000: tiny has 800000 steps, and 800001 are asked for" in capsys.readouterr().err


def test_precision_follows_the_device() -> None:
    assert contest_settings("paper", CPU, Options()).precision == "bfloat16"
    assert contest_settings("paper", torch.device("cuda"), Options()).precision == "float16"
    assert contest_settings("paper", CPU, Options()).batch_size == 16


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(FileNotFoundError, match="no CUDA device is available"):
        run(device="cuda")


def test_profile_draws_operators(tmp_path: Path) -> None:
    a = torch.randn(64, 64)
    path = draw_profile(lambda: float((a @ a).sum()), CPU, tmp_path / "x.png")
    assert path.read_bytes().startswith(b"\x89PNG")
