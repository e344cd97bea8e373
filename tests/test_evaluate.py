"""`benchmarks.evaluate` and `probes.evaluate`: objects and names, data frames, Table 1 by `compare`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_helpers import write_clips
from test_folder_task import folder_of_tones, tones

import benchmarks
import m2l
import probes
from benchmarks.autoencoders import create_autoencoder
from benchmarks.autoencoders.own.adapted import AutoencoderError
from benchmarks.cli.main import main
from benchmarks.compare.evaluate import names_of
from benchmarks.errors import UsageError
from benchmarks.registry import UnknownNameError
from benchmarks.store.held import hold
from benchmarks.suite import Suite, parse_suite
from benchmarks.user_code import UserCodeError
from probes.evaluation import representation_of
from probes.representations import create_representation, row_name

ROOT = Path(__file__).resolve().parent.parent


def tiny(clips: Path) -> Suite:
    """Three clips of a second."""
    if not clips.exists():
        write_clips(clips, 3, 1.0, 44_100)
    data = {"dataset": "folder", "options": {"path": str(clips)}, "unit_clips": 3}
    return parse_suite({"name": "tiny", "data": data, "table2": {"systems": ["mp3-64k"], "metrics": ["si_sdr"]}})


class Codec:
    """Rounds samples; its latents are frames of 64 of them."""

    sample_rate, channels = 44_100, "mono"

    def __init__(self, steps: float = 64.0) -> None:
        self.steps = steps

    def encode(self, audio: np.ndarray) -> np.ndarray:
        whole = np.pad(audio[0], (0, -audio.shape[1] % 64))
        return np.round(whole.reshape(-1, 64).T * self.steps)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents.T.reshape(-1) / self.steps


class Halves:
    """Only reconstructs, as torch."""

    spec = {"sample_rate": None, "channels": "stereo"}  # noqa: RUF012

    def reconstruct(self, audio: np.ndarray) -> torch.Tensor:
        return 0.5 * torch.from_numpy(audio)


def evaluate(given: Any, tmp_path: Path, **options: Any) -> Any:
    usual = {"suite": tiny(tmp_path / "clips"), "metrics": ["si_sdr"], "against": [], "workers": 1, "quiet": True}
    options = usual | options
    return benchmarks.evaluate(given, store=tmp_path / "store", **options)


# --- benchmarks.evaluate ----------------------------------------------------------------------------------------


def test_objects_beside_baselines_as_data_frames(tmp_path: Path) -> None:
    codec, coarse = Codec(), Codec(8.0)
    found = evaluate({"fine": codec, "coarse": coarse, "half": Halves()}, tmp_path, against=None)
    table = found.table
    assert list(table.index) == ["mp3-64k", "fine", "coarse", "half"]
    assert table.loc["fine", "si_sdr"] > table.loc["coarse", "si_sdr"] + 10  # log2(8) bits more
    assert table.loc["half", "si_sdr"] == 100.0  # a factor is no distortion
    scores = found.scores
    assert len(scores) == 4 * 3
    assert scores[scores.system == "fine"].value.mean() == pytest.approx(table.loc["fine", "si_sdr"])
    assert set(found.comparisons.metric) == {"si_sdr"}
    assert len(found.comparisons) == 6
    cells = found.cells
    assert list(cells[cells.column == "si_sdr"].n) == [3, 3, 3, 3]
    shown = found._repr_html_()
    assert "<b>fine</b>" in shown
    assert "<td>mp3-64k</td>" in shown
    assert "<b>mp3-64k</b>" not in shown
    assert "mp3-64k" in repr(found)
    assert found.warnings == []
    # The objects stay what they were.
    assert not hasattr(codec, "spec")
    assert vars(codec) == {"steps": 64.0}


def test_names_and_one_object(tmp_path: Path) -> None:
    found = evaluate("identity", tmp_path)
    assert list(found.table.index) == ["identity"]
    assert list(evaluate([Codec(), Codec(4.0)], tmp_path).table.index) == ["Codec", "Codec-2"]
    assert evaluate(create_autoencoder("noise-20db"), tmp_path).table["si_sdr"].iloc[0] == pytest.approx(20, abs=0.5)


def test_a_second_call_measures_nothing(tmp_path: Path) -> None:
    assert evaluate(Codec(), tmp_path).run.computed > 0
    assert evaluate(Codec(), tmp_path).run.computed == 0
    changed = evaluate(Codec(32.0), tmp_path)
    assert changed.run.computed > 0
    assert changed.run.cached > 0  # the clips


def test_what_cannot_be_seen_is_measured_anew_and_said(tmp_path: Path) -> None:
    with open(__file__) as file:
        codec = Codec()
        codec.file = file  # type: ignore[attr-defined]
        first = evaluate(codec, tmp_path)
        again = evaluate(codec, tmp_path)
        assert again.run.computed > 0
        assert "Codec.file holds cannot be seen" in first.warnings[0]
        assert "cannot be seen" in repr(again)
        codec.spec = {"sample_rate": 44_100, "channels": "mono", "version": 3}  # type: ignore[attr-defined]
        evaluate(codec, tmp_path)
        assert evaluate(codec, tmp_path).run.computed == 0


def test_report_of_an_object_can_be_listened_to(tmp_path: Path) -> None:
    found = evaluate({"my codec": Codec()}, tmp_path, against=["mp3-64k"])
    first = found.report(tmp_path / "report", clips=1)
    assert "my codec" in first.read_text()
    assert list((tmp_path / "report" / "audio").iterdir())
    assert "my codec" in (tmp_path / "report" / "listen.html").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="not a report"):
        found.report(tmp_path / "mine")


def test_a_model_in_memory_is_the_checkpoint(tmp_path: Path) -> None:
    model = m2l.load("random:tiny:7")
    found = evaluate({"mine": model}, tmp_path, limit=1)
    model.save_pretrained(tmp_path / "saved")
    other = evaluate(f"saved=music2latent:{tmp_path / 'saved'}", tmp_path, limit=1)
    assert found.table["si_sdr"].iloc[0] == pytest.approx(other.table["si_sdr"].iloc[0], abs=1e-6)
    assert found.table["latent_dim"].iloc[0] == model.config.latent_dim


def test_the_published_interface_needs_no_spec() -> None:
    made = m2l.EncoderDecoder.around(m2l.load("random:tiny:7"))
    kept = hold(made)
    system = create_autoencoder(kept.name)
    assert system.spec.sample_rate == 44_100
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, 44_100)).astype(np.float32)
    assert system.reconstruct(audio, 44_100).shape == audio.shape


def test_mistakes_are_named(tmp_path: Path) -> None:
    class Nothing:
        sample_rate = 16_000

    class NoRate:
        def encode(self, audio: np.ndarray) -> np.ndarray:
            return audio

        decode = encode

    class Broken(Codec):
        def decode(self, latents: np.ndarray) -> np.ndarray:
            raise KeyError("latents")

    with pytest.raises(TypeError, match=r"Codec is a class; pass an instance, such as Codec\(\)"):
        evaluate(Codec, tmp_path)
    with pytest.raises(UsageError, match="nothing to evaluate"):
        evaluate([], tmp_path)
    with pytest.raises((AutoencoderError, UsageError), match="no method decode and no method encode"):
        evaluate(Nothing(), tmp_path)
    with pytest.raises((AutoencoderError, UsageError), match="sample_rate"):
        evaluate(NoRate(), tmp_path)
    assert evaluate(NoRate(), tmp_path, spec={"sample_rate": 44_100}).table["si_sdr"].iloc[0] == 100.0
    with pytest.raises(UserCodeError, match=r"test_evaluate.py:\d+ in decode"):
        evaluate(Broken(), tmp_path)
    with pytest.raises(UnknownNameError, match="identity"):
        evaluate("identty", tmp_path)
    with pytest.raises(UsageError, match="label 'a/b'"):
        evaluate({"a/b": "identity"}, tmp_path)


def test_an_object_is_forgotten_with_its_result() -> None:
    names, kept = names_of(Codec())
    number = names[0].rpartition(":")[2]
    create_autoencoder(names[0])
    del kept
    with pytest.raises(LookupError, match="held by the process"):
        create_autoencoder(f"object:{number}")


# --- probes.evaluate --------------------------------------------------------------------------------------------


class Bands:
    """Energies of ten bands, 50 frames a second."""

    def __init__(self, bands: int = 10) -> None:
        self.bands = bands

    def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        size = sample_rate // 50
        frames = audio.mean(axis=0)[: audio.shape[1] // size * size].reshape(-1, size)
        spectrum = np.abs(np.fft.rfft(frames))
        return np.stack([part.mean(axis=1) for part in np.array_split(spectrum, self.bands, axis=1)], axis=1)


def probe(given: Any, tmp_path: Path, **options: Any) -> Any:
    folder = tmp_path / "tones"
    if not folder.exists():
        folder.mkdir()
        folder_of_tones(folder, [{k: row[k] for k in ("file", "hz", "label", "split")} for row in tones()])
    options = {"tasks": f"folder:{folder}", "seeds": 2, "workers": 1, "quiet": True} | options
    return probes.evaluate(given, store=tmp_path / "store", **options)


def test_a_representation_beside_others(tmp_path: Path) -> None:
    found = probe({"ten bands": Bands()}, tmp_path, against="chance")
    table = found.table
    assert list(table.index) == ["ten bands", "chance"]
    main = f"folder:{tmp_path / 'tones'}/f1_micro"
    assert table.loc["ten bands", main] > table.loc["chance", main]
    scores = found.scores
    assert set(scores.seed) == {0, 1}
    mine = scores[(scores.system == "ten bands") & (scores.metric == "f1_micro")]
    assert mine.value.mean() == pytest.approx(table.loc["ten bands", main])
    predictions = found.predictions
    first = predictions[(predictions.system == "ten bands") & (predictions.seed == 0)]
    chosen = first.loc[first.groupby("clip").prediction.idxmax()]
    assert 100 * chosen.target.mean() == pytest.approx(mine.value.iloc[0])
    assert "<b>ten bands</b>" in found._repr_html_()
    assert found.comparisons.loc[0, "a"] == "ten bands"
    assert probe({"ten bands": Bands()}, tmp_path, against="chance").run.computed == 0
    assert probe({"ten bands": Bands(9)}, tmp_path, against="chance").run.computed > 0


def test_latents_of_an_autoencoder_are_probed(tmp_path: Path) -> None:
    class WithFeatures(Codec):
        def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
            return np.abs(self.encode(audio))

    found = probe([Codec(), WithFeatures()], tmp_path, against=[])
    assert list(found.table.index) == ["Codec", "WithFeatures", "WithFeatures@latents"]
    assert found.table.notna().all(axis=None)
    kept = hold(Codec())
    latents = create_representation(kept.name).extract(np.zeros((1, 44_100), np.float32), 44_100)
    assert latents["latents"].shape == (690, 64)


def test_a_model_in_memory_has_features_and_latents(tmp_path: Path) -> None:
    model = m2l.load("random:tiny:7")
    given = hold(model, "mine")
    found = create_representation(given.name).extract(np.zeros((1, 44_100), np.float32), 44_100)
    assert found["latents"].shape[1] == model.config.latent_dim
    assert row_name(given.name) == "mine"
    assert row_name(given.name.removeprefix("mine=") + "@latents") == "mine@latents"


def test_labels_of_representations() -> None:
    assert row_name("a b=npy:folder") == "a b"
    assert row_name("music2latent-mini@latents") == "music2latent-mini@latents"
    assert create_representation("x=mel").spec.outputs == create_representation("mel").spec.outputs


# --- Table 1 by `compare` ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "representation"),
    [
        ("music2latent-mini", "music2latent-mini"),
        ("music2latent:DIR", "music2latent:DIR"),
        ("mine=music2latent:DIR", "mine=music2latent:DIR"),
        ("codec.py:Codec", "codec:Codec=autoencoder:codec.py:Codec"),
        ("mine=codec.py:Codec", "mine=autoencoder:codec.py:Codec"),
        ("object:3", "object:3"),
    ],
)
def test_a_system_as_a_representation(system: str, representation: str) -> None:
    assert representation_of(system) == representation


CODEC = """
import numpy as np
class Codec:
    spec = {"sample_rate": 44100, "channels": "mono"}
    def encode(self, audio):
        return np.abs(np.fft.rfft(audio[0][: len(audio[0]) // 512 * 512].reshape(-1, 512))).T
    def decode(self, latents):
        return np.zeros(latents.shape[1] * 512 + 511)
"""
SUITE = """
title = "small"
[data]
dataset = "synthetic"
[table2]
systems = ["identity"]
metrics = ["si_sdr"]
[table1]
tasks = ["folder:tones"]
representations = ["chance"]
seeds = 1
"""


def test_compare_gives_table_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latents_codec.py").write_text(CODEC)
    Path("small.toml").write_text(SUITE)
    Path("tones").mkdir()
    folder_of_tones(Path("tones"), [{k: row[k] for k in ("file", "hz", "label", "split")} for row in tones()])
    words = ["compare", "mine=latents_codec.py:Codec", "--suite", "small.toml", "--only", "1", "--store", "store"]
    assert main([*words, "--workers", "1", "--quiet", "-o", "out"]) == 0
    printed = capsys.readouterr().out
    assert "**mine**" in printed
    assert "chance (best constant)" in printed
    assert (tmp_path / "out" / "compare.json").is_file()
    assert main([*words, "--metrics", "si_sdr"]) == 2
    assert "--only 1: the tasks decide" in capsys.readouterr().err
    assert main(["compare", "--external", "x=out", "--suite", "small.toml", "--only", "1"]) == 2
    assert "needs features or latents" in capsys.readouterr().err


# --- what a completion shows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", [benchmarks, probes])
def test_dir_shows_public_names_alone(package: Any) -> None:
    assert sorted(dir(package)) == sorted(package.__all__)
    for name in dir(package):
        assert callable(getattr(package, name))
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        package.evaluat  # noqa: B018


def test_importing_them_loads_no_torch() -> None:
    code = "import sys, benchmarks, probes; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
