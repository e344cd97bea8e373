"""`m2l export`: weights, card and page of a finished run, or of one of its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_helpers import m2l, tiny, train

from m2l import Music2Latent
from m2l.representation import waveform_to_representation
from m2l.training import export
from m2l.training.checkpoint import list_checkpoints

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: tuple[str, str]) -> Path:
    """A complete small run, with a validation in its log."""
    run = tmp_path_factory.mktemp("finished")
    trainer = train(tiny(data), run, validate_every=3, validate=lambda model, step: {"validation_x": step / 2})
    assert trainer.state.step == 6
    return run


def test_export_ships_the_average_with_a_card(
    finished: Path, data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "small"
    words = ["--license", "Apache-2.0", "--dataset", "noise=CC0-1.0", "--note", "a test", "--crops", 16]
    assert m2l("export", finished, "-o", output, *words) == 0
    card = json.loads((output / "card.json").read_text())
    assert json.loads(capsys.readouterr().out) == card
    assert (card["name"], card["architecture"], card["dtype"]) == ("small", "tiny", "float16")
    assert (card["steps"], card["steps_planned"], card["seed"], card["batch_size"]) == (6, 6, 42, 2)
    assert card["license"] == "Apache-2.0"
    assert (card["training_datasets"], card["dataset_licenses"]) == (["noise"], {"noise": "CC0-1.0"})
    assert card["notes"] == ["a test"]
    assert card["metrics"] == {"step": 6, "validation_x": 3.0}
    assert card["hours"] >= 0
    assert card["hardware"]["threads"] >= 1
    assert [corpus["files"] for corpus in card["corpora"]] == [2, 1]
    assert str(Path(data[0]).parent.parent) not in (output / "card.json").read_text()  # no path of this machine
    page = (output / "README.md").read_text()
    assert page.startswith('---\nlicense: "apache-2.0"\n')
    assert "\n# small\n" in page
    assert "- noise (CC0-1.0)" in page
    assert page.endswith("\na test\n")

    weights = load_file(output / "model.safetensors")
    average = load_file(list_checkpoints(finished)[-1] / "model.safetensors")
    assert card["parameters"] == sum(tensor.numel() for tensor in weights.values())
    for name, tensor in weights.items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, average[name].half()), name


def test_exported_latents_have_unit_variance(
    finished: Path, data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m2l.training.data import Crops, open_corpus

    output = tmp_path / "scaled"
    monkeypatch.setattr(export, "training_seconds", lambda run, step: 1234.0 * step)
    card = export.export(finished, output, crops=24)
    assert (card["crop_seconds"], card["hours"]) == (0.1277, 2.057)  # 5632 samples at 44.1 kHz; 7404 s
    name, folder = Path(data[0]).name, Path(data[0]).parent.name
    assert card["settings"]["data"][0] == card["training_datasets"][0] == f"{folder}/{name}"
    model = Music2Latent.from_pretrained(output, device="cpu")
    assert model.config.latent_scale == card["latent_scale"] != 0.06
    settings = tiny(data)
    crops = Crops([open_corpus(spec, 5632) for spec in data], settings, model.config)
    latents = [
        model.encode_representation(waveform_to_representation(crops[item]["waveform"][None], model.config))
        for item in range(24)
    ]
    assert float(torch.cat(latents).std()) == pytest.approx(1.0, abs=0.01)  # of other weights: the rounded ones
    assert model.reconstruct(np.zeros((1, 9000), np.float32), 44_100).shape == (1, 9000)


def test_export_of_an_earlier_checkpoint_and_of_none(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert m2l("export", finished / "step-00000004", "-o", tmp_path / "out", "--crops", 2, "--dtype", "float32") == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["steps"], card["dtype"], card["metrics"]) == (4, "float32", {"step": 3, "validation_x": 1.5})
    (tmp_path / "figures.json").write_text('{"si_sdr": 4.5}')
    words = ["export", finished, "-o", tmp_path / "out", "--crops", 2]
    assert m2l(*words, "--metrics", tmp_path / "figures.json") == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"si_sdr": 4.5}
    assert m2l(*words, "--metrics", tmp_path / "none.json") == 3
    assert "none.json" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert m2l("export", tmp_path / "empty", "-o", tmp_path / "out") == 3
    assert "holds no complete checkpoint" in capsys.readouterr().err
    (tmp_path / "FILE").write_text("")
    assert m2l("export", finished, "-o", tmp_path / "FILE" / "x", "--crops", 2) == 3
    assert "FILE" in capsys.readouterr().err


def test_the_latent_scale_by_hand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Latents 1, 3, 5 and 7 of the first two crops lie 20 / 3 about their mean, squared: 2.582 to 4 digits."""
    monkeypatch.setattr(export, "waveform_to_representation", lambda waveform, config: waveform - config)
    data: Any = [
        {"waveform": torch.tensor([float(n), n + 2.0]), "unreadable": [("a.wav", "bad")] * (n // 4)} for n in (1, 5, 90)
    ]
    model: Any = SimpleNamespace(encoder=torch.neg, config=7.0)
    assert export.latent_deviation(model, data, 2) == 2.582
    assert "1 draws could not be read" in capsys.readouterr().err
    assert export.latent_deviation(model, data[:1], 1) == 1.414
    assert capsys.readouterr().err == ""


def test_a_cards_time_and_metrics_are_those_of_its_step(tmp_path: Path) -> None:
    lines = [
        '{"step": 2, "seconds": 30.5}', '{"step": 2, "validation_x": 1.0}', '{"step": 3, "seconds": "?"}',
        '{"step": 4, "seconds": 20.0}', '{"step": 5, "validation_x": 2.0}', '{"step": 6, "seconds": 90}',
    ]  # fmt: skip
    assert (export.training_seconds(tmp_path, 9), export.last_validation(tmp_path, 9)) == (0.0, {})
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 1')
    assert [export.training_seconds(tmp_path, step) for step in (1, 2, 5, 6)] == [0.0, 30.5, 30.5, 90]
    assert export.last_validation(tmp_path, 4) == {"step": 2, "validation_x": 1.0}
    assert export.last_validation(tmp_path, 5) == {"step": 5, "validation_x": 2.0}
    assert export.last_validation(tmp_path, 1) == {}
