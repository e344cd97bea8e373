"""The checkpoints that ship: a complete card each, float16 weights, a size that fits into git, a model that works."""

from __future__ import annotations

import glob
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from m2l import Music2Latent, create_config
from m2l.config import list_configs
from m2l.io.checkpoint_files import SHIPPED, list_checkpoints
from m2l.training.card import readme_of

NAMES = list_checkpoints()
shipped = pytest.mark.parametrize("name", NAMES or [pytest.param("none", marks=pytest.mark.skip("none ship"))])
#: Test splits and held-out files must not have been trained on.
TRAINED_SPLITS = {"train"}


def card_of(name: str) -> dict[str, Any]:
    return json.loads((SHIPPED / name / "card.json").read_text(encoding="utf-8"))


def chords(rate: int = 44_100) -> tuple[np.ndarray, np.ndarray]:
    """A second of a chord of plucked tones, and the same struck half-way through."""
    time = np.arange(rate) / rate
    tones = [np.sin(2 * np.pi * f * k * time) / k for f in (110.0, 138.6, 164.8, 220.0) for k in range(1, 8)]
    chord = 0.1 * np.exp(-2 * time) * np.sum(tones, axis=0)
    late = np.concatenate([np.zeros(rate // 2), chord[rate // 2 :]])
    return np.asarray(chord, np.float32), np.asarray(late, np.float32)


def loudness(audio: np.ndarray) -> np.ndarray:
    """Log magnitude in 20 bands over time, without its mean, of norm 1."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, 2048)[::512] * np.hanning(2048)
    edges = np.unique(np.geomspace(3, 1024, 21).round().astype(int))
    bands = np.add.reduceat(np.abs(np.fft.rfft(frames)), edges[:-1], axis=1) / np.diff(edges)
    levels = np.log(bands + 1e-2)
    levels -= levels.mean()
    return levels / np.linalg.norm(levels)


@shipped
def test_the_card_says_how_it_came_about(name: str) -> None:
    card = card_of(name)
    assert card["name"] == name
    assert card["architecture"] in list_configs()
    assert card["dtype"] == "float16"
    assert card["license"].strip()
    assert card["training_datasets"]
    assert all(dataset.strip() for dataset in card["training_datasets"])
    licenses = card["dataset_licenses"]
    assert set(licenses) == set(card["training_datasets"])
    assert all(license.strip() for license in licenses.values())
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
    files = ["README.md", "card.json", "config.json", "model.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert (folder / "README.md").read_text(encoding="utf-8") == readme_of(card_of(name))


@shipped
def test_it_loads_and_does_its_work(name: str) -> None:
    """A chord comes back like a chord, and each of two sounds rather like itself than like the other.

    Untrained weights fail both: their output is noise that does not depend on the input.
    """
    model = Music2Latent.from_pretrained(name, device="cpu")
    card = card_of(name)
    preset = create_config(card["architecture"])
    assert model.config.replace(latent_scale=preset.latent_scale, name=preset.name) == preset
    assert model.config.latent_scale == card["latent_scale"]
    assert model.dtype == torch.float32
    sounds = chords()
    latents = model.encode(sounds[0], 44_100)
    assert latents.shape == (64, model.n_latents(44_100))
    assert np.all(np.abs(latents) <= 1.0001 / model.config.latent_scale)
    results = [model.reconstruct(audio, 44_100, seed=0) for audio in sounds]
    assert all(result.shape == (44_100,) and np.isfinite(result).all() for result in results)
    alike = [[float(np.sum(loudness(result) * loudness(audio))) for audio in sounds] for result in results]
    # The ablations are trained for minutes, and compared with each other: they need only follow their input.
    closer = alike[0][0] + alike[1][1] - alike[0][1] - alike[1][0]
    assert closer > (0.1 if name == "mini" else 0.005)
    assert alike[0][0] > (0.5 if name == "mini" else 0.1)


@pytest.mark.skipif(not NAMES, reason="none ship")
def test_together_they_fit_into_git() -> None:
    total = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    assert total <= 24_000_000


@pytest.mark.skipif("table3-mini-base" not in NAMES, reason="the ablations do not ship")
def test_the_ablations_were_trained_alike() -> None:
    """Table 3 compares architectures: nothing else may differ."""
    cards = [card_of(f"table3-mini-{row}") for row in ("base", "attention", "scaling")]
    for field in ("steps", "steps_planned", "batch_size", "crop_seconds", "seed", "corpora", "training_datasets"):
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
    files = {f"checkpoints/mini/{name}" for name in ("README.md", "card.json", "config.json", "model.safetensors")}
    for name in files:
        (tmp_path / name).touch()
    taken = {found for pattern in patterns for found in glob.glob(pattern, root_dir=tmp_path, recursive=True)}
    assert files <= taken
