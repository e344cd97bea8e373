"""`doctor --deep NAME`: files, networks and outputs beside what is known of them, and wrong files named."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from neural_helpers import NEURAL, adapter, clip
from world.formats import write_snapshot
from world.published_weights import write_weights

from benchmarks.autoencoders.neural import NeuralAutoencoder
from benchmarks.cli.main import main
from benchmarks.errors import FAILED, MISSING, OK, USAGE
from benchmarks.evaluation.systems import accepts_device
from benchmarks.registry import UnknownNameError, parameters_of
from benchmarks.status import deep
from benchmarks.status.expectations import Expectation, expectations
from benchmarks.status.subjects import Subject, subject
from benchmarks.status.tensors import Tensor, summary, tensors_of
from benchmarks.tables.reference import published_rows
from benchmarks.weights.find import has_weight
from probes.representations import REPRESENTATIONS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that needs no rendering, and no ViSQOL, which compiles first."""
    monkeypatch.setattr(deep, "built_in_clip", lambda channels, seconds: clip(channels, round(44100 * seconds), 44100))
    monkeypatch.setattr(deep, "_METRICS", {"SI-SDR, dB": "si_sdr"})


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in found["rows"]}


def tiny_dac(monkeypatch: pytest.MonkeyPatch) -> type[NeuralAutoencoder]:
    cls = adapter("dac-44khz")
    small = cls.config(True)
    monkeypatch.setattr(cls, "config", classmethod(lambda _, tiny=False: small))
    return cls


def test_a_file_that_is_not_the_published_one_differs_where_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    cls = tiny_dac(monkeypatch)
    torch.manual_seed(1)
    model = cls.build(cls.config())
    write_snapshot(model, tmp_path / "w", cls.config())
    file = tmp_path / "w" / "model.safetensors"
    arguments = ["doctor", "--deep", "dac-44khz", "--weights", str(tmp_path / "w"), "--seconds", "1"]
    assert main([*arguments, "--json"]) == FAILED
    found = json.loads(capsys.readouterr().out)
    by = rows(found)
    assert by["model.safetensors: sha256"]["found"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert by["model.safetensors: sha256"]["agrees"] is False
    assert (by["file entries"]["found"], by["file entries"]["agrees"]) == (223, True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (by["parameters"]["found"], by["parameters"]["agrees"]) == (count, False)
    assert by["latents codes: shape"]["found"] == "1x9x87"
    assert by["bits per second"]["found"] == pytest.approx(9 * 4 * 87)  # of the tiny network's 16 entries
    assert by["output: not finite"]["agrees"] is True
    system = cls(path=str(tmp_path / "w"))
    audio = clip(1, 44100, 44100)
    output = system.reconstruct(audio, 44100)
    level = 10 * np.log10(np.square(output).mean() / np.square(audio).mean())
    assert by["output: level against the clip, dB"]["found"] == pytest.approx(level, abs=0.1)
    assert by["SI-SDR, dB"]["expected"] == "-2.52 to 21.48"
    assert len(found["tensors"]) == 223
    assert "model.safetensors: encoder.conv1.bias 4 float32" in found["tensors"]
    # As text, for an issue.
    assert main(arguments) == FAILED
    text = capsys.readouterr().out
    assert text.startswith("### doctor --deep dac-44khz (autoencoder)\n")
    assert (
        f"| parameters | {count:,} | 76,620,777 | the class of transformers that wrote the file | **differs** |" in text
    )
    assert "… and 211 more (--json lists all)" in text


def test_a_file_that_does_not_load_is_listed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    cls = tiny_dac(monkeypatch)

    def change(state: dict[str, torch.Tensor]) -> None:
        state["something.else"] = state.pop("encoder.conv1.bias")

    write_snapshot(cls.build(cls.config()), tmp_path / "w", cls.config(), change)
    assert main(["doctor", "--deep", "dac-44khz", "--weights", str(tmp_path / "w"), "--json"]) == FAILED
    found = json.loads(capsys.readouterr().out)
    assert "missing 1: encoder.conv1.bias; unknown 1: something.else" in found["error"]
    assert "model.safetensors: something.else 4 float32" in found["tensors"]
    assert "parameters" not in rows(found)


def test_random_weights_are_compared_with_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    tiny_dac(monkeypatch)
    assert main(["doctor", "--deep", "dac-44khz", "--untrained", "--seconds", "1"]) == OK
    text = capsys.readouterr().out
    assert "(autoencoder, untrained)" in text
    assert "**differs**" not in text


def test_musicnn_is_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    if not has_weight("musicnn-msd")[0]:
        pytest.skip(has_weight("musicnn-msd")[1])
    assert main(["doctor", "--deep", "musicnn-msd", "--json"]) == OK
    by = rows(json.loads(capsys.readouterr().out))
    assert by["file entries"]["found"] == 150
    assert by["embeddings: mean"]["agrees"]
    assert by["embeddings: deviation"]["agrees"]
    assert by["the former less the latter"]["found"] > 0.3


def test_a_representation_is_examined_by_its_own_loader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    write_weights(tmp_path, ["clmr"])
    path = tmp_path / "clmr" / "clmr_checkpoint_10000.zip"
    main(["doctor", "--deep", "clmr", "--weights", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    by = rows(found)
    assert by["parameters"]["agrees"]
    assert by["embeddings: shape"]["found"] == "2x512"
    assert "encoder.sequential.0.0.weight 128x1x3 float32" in found["tensors"]
    assert found["error"] is None
    path.write_bytes(b"PK" + path.read_bytes()[2:1000])
    assert main(["doctor", "--deep", "clmr", "--weights", str(path)]) == FAILED
    assert "do not load" in capsys.readouterr().out


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for arguments, said, status in (
        (["--deep", "vgish"], "did you mean 'vggish'", USAGE),
        (["--deep", "visqol-svr"], "m2l-bench speed visqol", USAGE),
        (["--deep", "opus-16k", "--untrained"], "--untrained: opus-16k takes none", USAGE),
        (["--deep", "dac-44khz", "--untrained", "--weights", "x"], "not both", USAGE),
        (["--deep", "dac-44khz", "--seconds", "0.5"], "--seconds is 0.5, expected 1 to 8", USAGE),
        (["--weights", "x"], "go with --deep", USAGE),
        (["--deep", "vggish"], "m2l-bench fetch vggish", MISSING),
    ):
        assert main(["doctor", *arguments]) == status, arguments
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "found", "kind", "weights"),
    [
        ("lyra-v2", "lyra-9.2k", "autoencoder", "lyra-v2"),
        ("lyra-6k", "lyra-6k", "autoencoder", "lyra-v2"),
        ("dac-44khz-3q", "dac-44khz-3q", "autoencoder", "dac-44khz"),
        ("music2latent-mini", "music2latent-mini", "autoencoder", None),
        ("handcrafted", "handcrafted", "representation", None),
        ("clap-630k-best", "clap-630k-best@10s-1s", "embedder", "clap-630k-best"),
        ("musicnn-msd@3s", "musicnn-msd@3s", "embedder", "musicnn-msd"),
        ("mert-v1-95m", "mert-v1-95m", "representation", "mert-v1-95m"),
    ],
)
def test_names_of_systems_embedders_representations_and_weights(
    name: str, found: str, kind: str, weights: str | None
) -> None:
    what = subject(name, REPRESENTATIONS)
    assert (what.name, what.kind, what.weights) == (found, kind, weights)
    if weights is not None:  # takes a file of one's own
        assert subject(name, REPRESENTATIONS, path="x").path == "x"


@pytest.mark.parametrize("name", [*NEURAL, "dac-44khz-3q", "music2latent", "music2latent-random"])
def test_every_network_can_be_told_where_to_run_and_given_a_file(name: str) -> None:
    """Adapters pass arguments on to their base: Musika, Moûsai, EnCodec and Mimi ran on the CPU whatever was asked."""
    assert accepts_device(name)
    assert name == "music2latent-random" or subject(name, REPRESENTATIONS, path="x").path == "x"


def test_parameters_of_bases_count_where_they_are_passed_on() -> None:
    class Base:
        def __init__(self, device: str) -> None: ...

    class Passing(Base):
        def __init__(self, *args: Any, other: int = 0, **kwargs: Any) -> None: ...

    class Closed(Base):
        def __init__(self, other: int) -> None: ...

    assert {"device", "other"} <= parameters_of(Passing)
    assert "device" in parameters_of(partial(Passing, other=1))
    assert "device" not in parameters_of(Closed)
    assert "device" in parameters_of(lambda device: None)


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'musika'"):
        subject("muzika", REPRESENTATIONS)


def test_expectations_come_from_the_published_tables() -> None:
    published = {row.name: row.values for row in published_rows("table2", ("paper",))}
    for name, row in (("musika", "Musika"), ("music2latent", "Music2Latent"), ("mousai-v3", "Moûsai_v3")):
        known = expectations(name)["SI-SDR, dB"]
        assert (known.low + known.high) / 2 == pytest.approx(published[row]["si_sdr"], abs=0.01)
        assert known.source.startswith(f"{published[row]['si_sdr']:g} in Music2Latent (Pasini")
    assert "embeddings: mean" not in expectations("musicnn-msd@3s", usual_clip=False)
    assert str(Expectation(5, 5, "")) == "5"


def test_the_built_in_clip_is_the_same_everywhere() -> None:
    audio = deep.built_in_clip(2, 3.0)
    assert audio.shape == (2, 132300)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.0, abs=0.3)
    assert np.abs(audio).max() > 0.1


def test_files_of_every_form_are_listed_alike(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {"a.weight": torch.ones(2, 3), "b": torch.tensor(1)}
    save_file(state, tmp_path / "x.safetensors")
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "x.pt")
    torch.save(state, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    listed = [tensors_of(tmp_path / name) for name in ("x.safetensors", "x.pt", "x.bin")]
    assert all(sorted(map(str, found or [])) == ["a.weight 2x3 float32", "b scalar int64"] for found in listed)
    assert summary(listed[0] or [])["listing_sha256"] == summary(listed[1] or [])["listing_sha256"]
    assert summary([Tensor("a", (1,), "float32")])["dtypes"] == {"float32": 1}
    assert tensors_of(tmp_path / "x.tflite") is None


def test_what_is_no_number_and_expected_as_one_differs(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """A clip of silence has no SI-SDR: the reason stands in its place."""

    class Silent:
        spec = adapter("dac-44khz")(random_seed=0, tiny=True).spec

        def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
            return np.zeros((1, 4, 5), np.float32)

        def decode(self, latents: np.ndarray, *, length: int, **_: Any) -> np.ndarray:
            return np.full((1, length), np.nan if self.broken else 0.0, np.float32)

        broken = False

    for broken in (False, True):
        Silent.broken = broken
        what = Subject("music2latent", "autoencoder", Silent, None, None, False, "cpu")
        found = deep.examine(what, 1.0)
        by = rows(found)
        assert by["SI-SDR, dB"]["agrees"] is False
        assert isinstance(by["SI-SDR, dB"]["found"], str)
        assert by["output: not finite"]["agrees"] is not broken
        assert not deep.agrees(found)
        deep.describe(found)
