"""The checkpoints that ship: a complete card each, float16 weights, a size that fits into git, a model that works."""

from __future__ import annotations

import glob
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from m2l import Music2Latent, create_config
from m2l.config import list_configs
from m2l.loading import SHIPPED, list_checkpoints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = list_checkpoints()
shipped = pytest.mark.parametrize(
    "name", NAMES or [pytest.param("none", marks=pytest.mark.skip("none ship"))]
)
#: Test splits and held-out files must not have been trained on.
TRAINED_SPLITS = {"train"}


def card_of(name: str) -> dict[str, Any]:
    return json.loads((SHIPPED / name / "card.json").read_text(encoding="utf-8"))


def chord(seconds: float = 1.0, rate: int = 44_100) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time) / (i + 1) for i, f in enumerate((220.0, 277.2, 329.6, 659.3)))
    return np.asarray(0.2 * tones * np.exp(-time), np.float32)


@shipped
def test_the_card_says_how_it_came_about(name: str) -> None:
    card = card_of(name)
    assert card["name"] == name
    assert card["architecture"] in list_configs()
    assert card["dtype"] == "float16"
    assert card["licence"].strip()
    assert card["training_datasets"]
    assert all(dataset.strip() for dataset in card["training_datasets"])
    licences = card["dataset_licences"]
    assert set(licences) == set(card["training_datasets"])
    assert all(licence.strip() for licence in licences.values())
    assert 0 < card["steps"] <= card["steps_planned"]
    assert card["batch_size"] >= 1
    assert isinstance(card["seed"], int)
    assert card["hours"] > 0
    assert card["hardware"]["machine"]
    assert card["metrics"]
    assert all(math.isfinite(value) for value in numbers(card["metrics"]))
    assert sum(corpus["hours"] for corpus in card["corpora"]) > 0
    assert card["settings"]["split"] in TRAINED_SPLITS
    assert not any(Path(spec.partition("=")[0]).is_absolute() for spec in card["settings"]["data"])


def numbers(value: Any) -> list[float]:
    """All numbers in nested dicts and lists; a card's metrics may be grouped."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


@shipped
def test_its_weights_are_float16_finite_and_trained(name: str) -> None:
    folder = SHIPPED / name
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert sum(tensor.numel() for tensor in weights.values()) == card_of(name)["parameters"]
    # Zero at the start, so that f = c_skip x: a model that was trained has moved it.
    assert bool(weights["unet.conv_out.weight"].any())
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]


@shipped
def test_it_loads_and_does_its_work(name: str) -> None:
    """Better than silence is little to ask, and still what no untrained model does."""
    model = Music2Latent.from_pretrained(name, device="cpu")
    card = card_of(name)
    preset = create_config(card["architecture"])
    assert model.config.replace(latent_scale=preset.latent_scale, name=preset.name) == preset
    assert model.config.latent_scale == card["latent_scale"]
    assert model.dtype == torch.float32
    audio = chord()
    latents = model.encode(audio, 44_100)
    assert latents.shape == (64, model.n_latents(len(audio)))
    assert np.all(np.abs(latents) <= 1 / model.config.latent_scale)
    result = model.reconstruct(audio, 44_100, seed=0)
    assert result.shape == audio.shape
    assert np.all(np.isfinite(result))
    spectra = [np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) for signal in (audio, result)]
    untrained = Music2Latent.from_config(model.config).reconstruct(audio, 44_100, seed=0)
    spectra.append(np.abs(np.fft.rfft(untrained * np.hanning(len(untrained)))))
    trained_distance, random_distance = (
        np.linalg.norm(np.log1p(spectrum) - np.log1p(spectra[0])) for spectrum in spectra[1:]
    )
    assert trained_distance < random_distance
    assert np.array_equal(result, model.reconstruct(audio, 44_100, seed=0))


@pytest.mark.skipif(not NAMES, reason="none ship")
def test_together_they_fit_into_git() -> None:
    total = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    assert total <= 24_000_000


@pytest.mark.skipif("table3-mini-base" not in NAMES, reason="the ablations do not ship")
def test_the_ablations_were_trained_alike() -> None:
    """Table 3 compares architectures: nothing else may differ."""
    cards = [card_of(f"table3-mini-{row}") for row in ("base", "attention", "scaling")]
    for field in (
        "steps",
        "steps_planned",
        "batch_size",
        "crop_seconds",
        "seed",
        "corpora",
        "training_datasets",
    ):
        assert cards[0][field] == cards[1][field] == cards[2][field], field
    without_preset = [{**card["settings"], "preset": None} for card in cards]
    assert without_preset[0] == without_preset[1] == without_preset[2]
    assert [card["architecture"] for card in cards] == [card["name"] for card in cards]
    sizes = [card["parameters"] for card in cards]
    assert max(sizes) / min(sizes) < 1.2


def test_package_data_takes_them_along(tmp_path: Path) -> None:
    """pyproject.toml's patterns, read as setuptools reads them, take all files of a checkpoint."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    patterns = tomllib.loads(text)["tool"]["setuptools"]["package-data"]["m2l"]
    (tmp_path / "checkpoints" / "mini").mkdir(parents=True)
    files = {f"checkpoints/mini/{name}" for name in ("card.json", "config.json", "model.safetensors")}
    for name in files:
        (tmp_path / name).touch()
    taken = {found for pattern in patterns for found in glob.glob(pattern, root_dir=tmp_path, recursive=True)}
    assert files <= taken
