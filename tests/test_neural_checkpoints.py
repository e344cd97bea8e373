"""Published weight files of the neural systems: written here in the upstream formats, loaded strictly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from neural_helpers import adapter, clip, perturbed
from world.formats import (
    State,
    nothing,
    write_codicodec,
    write_ear_vae,
    write_mousai,
    write_musika,
    write_same,
    write_snac,
    write_snapshot,
)  # fmt: skip

from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.networks.mousai import published_names
from benchmarks.weights.loading import load_strict
from m2l.io.torch_files import CheckpointError


def trained(cls: Any, seed: int = 3) -> Any:
    """A tiny network whose every parameter is random, so that a tensor left out or swapped shows."""
    return perturbed(cls.build(cls.config(True)).eval(), seed)


WRITERS: dict[str, Callable[..., Path]] = {
    "dac-44khz": write_snapshot,
    "encodec-48khz": write_snapshot,
    "mimi": write_snapshot,
    "stable-audio-vae": write_snapshot,
    "kvae-audio": write_snapshot,
    "mousai-v2": write_mousai,
    "mousai-v3": write_mousai,
    "ace-step-vae": partial(write_snapshot, dtype=torch.bfloat16),
    "ear-vae": write_ear_vae,
    "snac-44khz": write_snac,
    "xcodec2": write_snapshot,
    "same-s": write_same,
    "same-l": write_same,
    "codicodec": write_codicodec,
}


def some_matrix(state: State) -> str:
    """A name whose tensor is not one of several of a kind."""
    return next(key for key, value in state.items() if value.ndim > 1 and "qkv" not in key and value.numel())


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_a_file_in_the_published_format_loads_exactly(name: str, tmp_path: Path) -> None:
    cls = adapter(name)
    model, config = trained(cls), cls.config(True)
    if name == "ace-step-vae":  # published as bfloat16
        model = model.bfloat16().float()
    loaded = cls.load(WRITERS[name](model, tmp_path / "weights", config, nothing), config)
    expected = model.state_dict()
    found = loaded.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_what_differs_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cls = adapter(name)
    model, config, write = trained(cls), cls.config(True), WRITERS[name]
    names: dict[str, str] = {}

    def without(state: State) -> None:
        names["missing"] = some_matrix(state)
        del state[names["missing"]]

    def renamed(state: State) -> None:
        names["unknown"] = "something.that.is.not.there"
        state["something.that.is.not.there"] = state[some_matrix(state)].clone()

    def reshaped(state: State) -> None:
        names["shape"] = some_matrix(state)
        state[names["shape"]] = torch.zeros(3, *state[names["shape"]].shape[1:])

    def retyped(state: State) -> None:
        names["type"] = some_matrix(state)
        for key, value in state.items():
            if value.is_floating_point():
                state[key] = value.half()

    last = re.compile(r"[^.]+\.[^.]+$")
    for change, said in ((without, "missing"), (renamed, "unknown"), (reshaped, "shape"), (retyped, "type")):
        path = write(model, tmp_path / said, config, change)
        with pytest.raises(CheckpointError, match=said if said != "type" else "types differ|float16|rotary") as caught:
            cls.load(path, config)
        if said in ("missing", "unknown", "shape") and "same" not in name:
            assert names[said] in str(caught.value)
        elif said in ("missing", "unknown", "shape"):  # named as diffusers names it
            assert last.search(names[said])[0].split(".")[-1] in str(caught.value)  # type: ignore[index]
    if name.startswith("mousai"):  # the whole difference is printed, one line per name
        printed = capsys.readouterr().err
        assert "lacks it" in printed
        assert "something.that.is.not.there" in printed


def test_a_pickled_object_is_refused_unread(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"model.net.blocks.0.weight": Evil()}, tmp_path / "pytorch_model.bin")
    cls = adapter("mousai-v3")
    with pytest.raises(CheckpointError, match="holds more than weights"):
        cls.load(tmp_path / "pytorch_model.bin", cls.config(True))
    assert not (tmp_path / "executed").exists()


def test_a_config_of_another_model_is_refused(tmp_path: Path) -> None:
    cls = adapter("encodec-48khz")
    config = cls.config(True)
    path = write_snapshot(trained(cls), tmp_path / "weights", config | {"normalize": False}, nothing)
    with pytest.raises(CheckpointError, match="normalize is False, expected True"):
        cls.load(path, config)
    cut = path / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    (path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read as safetensors"):
        cls.load(path, config)


def test_a_snapshot_is_a_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = adapter("dac-44khz")
    model, config = trained(cls), cls.config(True)
    path = write_snapshot(model, tmp_path / "weights", config, nothing)
    monkeypatch.setattr(cls, "config", classmethod(lambda _, tiny=False: config))
    system = create_autoencoder("dac-44khz", path=str(path))
    assert system.spec.license == "MIT"
    assert system.spec.source.startswith("hub:descript/dac_44khz@")
    audio = clip(1, 5120, 44100)
    with torch.inference_mode():
        codes = model.encode(torch.from_numpy(audio)[None]).audio_codes
        expected = model.decode(audio_codes=codes).audio_values
    np.testing.assert_array_equal(system.encode(audio, 44100).items[0]["codes"], codes)
    output = system.reconstruct(audio, 44100)
    np.testing.assert_allclose(output[:, : expected.shape[1]], expected, atol=1e-6)
    before = system.spec.weights_digest
    write_snapshot(trained(cls, seed=4), path, config, nothing)
    assert create_autoencoder("dac-44khz", path=str(path)).spec.weights_digest != before


def test_two_names_of_one_tensor_have_to_agree(tmp_path: Path) -> None:
    cls = adapter("mousai-v3")

    def apart(state: State) -> None:
        key = next(key for key in state if key.startswith("model.sampler.net."))
        state[key] = state[key] + 1

    path = write_mousai(trained(cls), tmp_path / "weights", {}, apart)
    with pytest.raises(CheckpointError, match=r"model\.net\.\S+ and model\.sampler\.net\.\S+ are one tensor"):
        cls.load(path, cls.config(True))


@pytest.mark.parametrize(
    ("name", "entries", "digest"),
    [
        # As archinet's own packages build them, by the configurations that lie beside the weights.
        ("mousai-v3", 937, "307a5af953a435ec"),
        ("mousai-v2", 1070, "5a5cd21907dd9f68"),
    ],
)
def test_mousais_published_names(name: str, entries: int, digest: str) -> None:
    cls = adapter(name)
    with torch.device("meta"):
        model: Any = cls.build(cls.config())
    own = model.state_dict()
    shapes = {theirs: tuple(own[key].shape) for key, names in published_names(model).items() for theirs in names}
    assert len(shapes) == entries
    lines = [f"{key} {shape}" for key, shape in sorted(shapes.items())]
    found = hashlib.sha256("\n".join(f"{line}" for line in lines).encode()).hexdigest()
    assert found[:16] == digest


# ---- Musika's Keras files ------------------------------------------------------------------------------


def test_musikas_h5_files_load_exactly(tmp_path: Path) -> None:
    cls = adapter("musika")
    model = trained(cls)
    loaded = cls.load(write_musika(model, tmp_path / "weights"), cls.config(True))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": "conv2d_6"}, r"dec\.h5 .*5 layers of class conv2d, expected 6"),
        ({"drop": "add_noise_5"}, r"8 layers of class add_noise, expected 9"),
        ({"named": "head"}, r"unknown layer head"),
        ({"change": lambda x: x.astype(np.float16)}, r"conv2d_5: float16, expected float32"),
        ({"change": lambda x: x[..., :-1] if x.ndim > 1 else x}, r"conv2d_5: shape .*, expected"),
    ],
)
def test_what_differs_in_musikas_files_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    cls = adapter("musika")
    path = write_musika(trained(cls), tmp_path / "weights", **changes)
    with pytest.raises(CheckpointError, match=message):
        cls.load(path, cls.config(True))


def test_a_file_that_is_no_h5_is_refused(tmp_path: Path) -> None:
    cls = adapter("musika")
    path = write_musika(trained(cls), tmp_path / "weights")
    (path / "enc2.h5").write_bytes(b"not h5")
    with pytest.raises(CheckpointError, match=r"enc2\.h5 cannot be read as h5"):
        cls.load(path, cls.config(True))


def test_weights_are_taken_over_without_a_copy() -> None:
    """Two copies of SAME-L, one of them the mapped file, were 8 GB in each worker."""
    model, state = torch.nn.Linear(3, 2), {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    load_strict(model, state, "a file")
    assert model.weight.data_ptr() == state["weight"].data_ptr()
    assert model.weight.requires_grad
