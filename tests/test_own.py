"""A stranger's class: found by name, completed to the protocol, keyed by its code and weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from harness_helpers import tiny_suite, write_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import registry
from benchmarks.autoencoders import AUTOENCODERS, Autoencoder, AutoencoderSpec, create_autoencoder
from benchmarks.autoencoders.check import ContractError, check_autoencoder
from benchmarks.autoencoders.names import label_of, system_code
from benchmarks.autoencoders.own.adapted import Adapted, AutoencoderError, complete
from benchmarks.evaluation.plan import Planner
from benchmarks.harness.run import RunOptions
from benchmarks.registry import UnknownNameError
from benchmarks.store.own_code import own_digest, split_label
from benchmarks.suite import SuiteError
from m2l.audio import resample


class Frames:
    """Pads to whole frames, as most models do, and gives back all of them."""

    def __init__(self, sample_rate: int | None = 16_000, channels: str = "mono") -> None:
        self.spec = {"sample_rate": sample_rate, "channels": channels}
        self.seen: list[tuple[tuple[int, ...], int]] = []

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        self.seen.append((audio.shape, sample_rate))
        pad = -audio.shape[1] % 512
        return np.pad(audio, [(0, 0), (0, pad)]).reshape(audio.shape[0], -1, 512)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents.reshape(latents.shape[0], -1)


def tone(channels: int, samples: int, rate: int) -> np.ndarray:
    time = np.arange(samples) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * 440 * (k + 1) * time) for k in range(channels)]).astype("f4")


@given(
    channels=st.sampled_from([1, 2]),
    policy=st.sampled_from(["mono", "stereo", "per_channel"]),
    rate=st.sampled_from([16_000, 22_050, 44_100, 48_000]),
    own=st.sampled_from([16_000, 44_100, None]),
    samples=st.integers(1500, 9000),
)
@settings(max_examples=40, deadline=None)
def test_shape_rate_and_channels_are_handled(
    channels: int, policy: str, rate: int, own: int | None, samples: int
) -> None:
    inner = Frames(own, policy)
    system = complete(inner, "frames")
    assert isinstance(system, Autoencoder)
    audio = tone(channels, samples, rate)
    output = system.reconstruct(audio, rate)
    assert output.shape == audio.shape
    assert output.dtype == np.float32
    runs = {"mono": [1], "stereo": [2], "per_channel": [1] * channels}[policy]
    assert [shape[0] for shape, _ in inner.seen] == runs
    assert {seen for _, seen in inner.seen} == {own or rate}
    np.testing.assert_array_equal(output, system.decode(system.encode(audio, rate), length=samples, sample_rate=rate))
    if own in (None, rate):
        kept = policy != "mono" or channels == 1
        expected = audio if kept else np.repeat(audio.mean(axis=0, keepdims=True), 2, axis=0)
        np.testing.assert_allclose(output, expected, atol=1e-6)


def test_resampling_is_what_the_suite_uses() -> None:
    audio = tone(1, 48_000, 48_000)
    found = complete(Frames(16_000), "frames").reconstruct(audio, 48_000)
    there = resample(audio, 48_000, 16_000, exact=False)
    expected = resample(there, 16_000, 48_000, exact=False)[:, :48_000]
    np.testing.assert_allclose(found[:, :47_000], expected[:, :47_000], atol=2e-3)


class Takes:
    """Declares what it wants to be given."""

    spec: ClassVar = {"sample_rate": 16_000, "channels": "mono", "n_steps": 3}

    def encode(self, audio: np.ndarray) -> np.ndarray:
        return audio

    def decode(self, latents: np.ndarray, length: int, seed: int, n_steps: int) -> np.ndarray:
        self.given = (length, seed, n_steps)
        return latents[:, :length]


def test_methods_are_given_what_they_declare() -> None:
    inner = Takes()
    system = complete(inner, "takes")
    system.reconstruct(tone(1, 4_800, 48_000), 48_000, seed=7)
    assert inner.given == (1_600, 7, 3)
    system.reconstruct(tone(1, 4_800, 48_000), 48_000, seed=7, n_steps=5)
    assert inner.given == (1_600, 7, 5)


class Noisy:
    """Draws from the global generators and has steps of its own."""

    spec: ClassVar = {"sample_rate": None, "channels": "per_channel"}

    def encode(self, audio: np.ndarray) -> np.ndarray:
        audio += 0.5  # works in place
        return audio

    def decode(self, latents: np.ndarray, n_steps: int = 4) -> Any:
        import torch

        assert n_steps == 4
        weight = torch.zeros(1, requires_grad=True)
        noise = torch.randn(latents.shape) + torch.from_numpy(np.random.standard_normal(latents.shape))  # noqa: NPY002
        return 0.01 * noise + weight


def test_global_generators_are_seeded_and_given_back() -> None:
    import torch

    system = complete(Noisy(), "noisy")
    audio = tone(2, 2_000, 16_000)
    before = audio.copy()
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first = system.reconstruct(audio, 16_000, seed=3)
    state = np.random.random(), torch.rand(1).item()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert state == (np.random.random(), torch.rand(1).item())  # noqa: NPY002
    np.testing.assert_array_equal(audio, before)
    np.testing.assert_array_equal(first, system.reconstruct(audio, 16_000, seed=3))
    assert not np.array_equal(first, system.reconstruct(audio, 16_000, seed=4))
    assert not np.array_equal(first[0], first[1])  # each channel has noise of its own


class Bytes:
    spec: ClassVar = {"sample_rate": 8_000, "channels": "mono", "bitrate": 64_000.0}

    def encode(self, audio: np.ndarray) -> bytes:
        return np.round(audio * 127).astype(np.int8).tobytes()

    def decode(self, latents: bytes) -> np.ndarray:
        return np.frombuffer(latents, np.int8)


def test_the_rate_of_byte_streams_is_measured_and_pcm_integers_are_scaled() -> None:
    system = complete(Bytes(), "bytes")
    audio = tone(1, 8_000, 8_000)
    encoded = system.encode(audio, 8_000)
    assert encoded.bitrate == pytest.approx(64_000)
    output = system.decode(encoded, length=8_000, sample_rate=8_000)
    np.testing.assert_allclose(output, audio, atol=0.01)


class WithFeatures(Frames):
    def features(self, audio: np.ndarray) -> np.ndarray:
        return self.encode(audio, 16_000)[0].T


def test_features_make_a_row_of_table_1() -> None:
    system = complete(WithFeatures(), "with")
    assert system.features(tone(2, 16_000, 16_000), 16_000).shape == (512, 32)  # type: ignore[attr-defined]
    assert not hasattr(complete(Frames(), "without"), "features")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((1, 100), np.float32), r"returned 0\.01 s for 1\.00 s"),
        (np.full((1, 16_000), np.nan, np.float32), "nan"),
        (np.zeros((2, 1, 16_000), np.float32), "batch of 2"),
        (np.full((1, 16_000), 1e4, np.float32), "10000"),
    ],
)
def test_impossible_output_is_a_reason(returned: np.ndarray, message: str) -> None:
    inner = Frames()
    inner.decode = lambda latents: returned  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=message):
        complete(inner, "frames").reconstruct(tone(1, 16_000, 16_000), 16_000)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "spec is None"),
        ({"channels": "mono"}, "no 'sample_rate'"),
        ({"sample_rate": 44_100.0}, "44100.0"),
        ({"sample_rate": 44_100, "channel": "mono"}, "did you mean 'channels'"),
        ({"sample_rate": 44_100, "channels": "dual"}, "'dual'"),
    ],
)
def test_a_wrong_spec_is_named(spec: Any, message: str) -> None:
    inner = Frames()
    inner.spec = spec
    with pytest.raises(AutoencoderError, match=message):
        complete(inner, "mine")


def test_missing_methods_are_named() -> None:
    with pytest.raises(AutoencoderError, match="no method decode"):
        complete(type("X", (), {"spec": {"sample_rate": 1}, "encode": lambda self, a: a})(), "mine")


def test_systems_that_have_reconstruct_are_left_alone() -> None:
    system = create_autoencoder("benchmarks.autoencoders.controls:Identity")
    assert type(system).__name__ == "Identity"
    assert isinstance(create_autoencoder("identity").spec, AutoencoderSpec)


# -- names

CODE = """
import numpy as np
{imports}

class Mine:
    spec = {{"sample_rate": 16000, "channels": "mono"}}

    def __init__(self, gain=0.5):
        self.gain = gain

    def encode(self, audio):
        return audio

    def decode(self, latents):
        return {body}
"""


def write(path: Path, body: str = "latents * self.gain", imports: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CODE.format(body=body, imports=imports))
    return path


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules and paths that a test adds are forgotten."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mine_"):
            del sys.modules[name]


def test_a_class_is_found_by_file_by_module_here_and_by_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None
) -> None:
    file = write(tmp_path / "deep" / "mine_a.py")
    audio = tone(1, 1_600, 16_000)
    system = create_autoencoder(f"{file}:Mine", gain=0.25)
    np.testing.assert_allclose(system.reconstruct(audio, 16_000), 0.25 * audio, atol=1e-6)
    write(tmp_path / "mine_b.py")
    monkeypatch.chdir(tmp_path)  # a console script does not have the current folder on its path
    assert create_autoencoder("my row=mine_b:Mine").spec.name == "my row"
    with pytest.raises(ImportError, match="mine_nowhere"):
        create_autoencoder("mine_nowhere:Mine")
    with pytest.raises(ImportError, match="no attribute 'Other'"):
        create_autoencoder("mine_b:Other")
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        create_autoencoder("gone.py:Mine")
    write(tmp_path / "other" / "numpy.py")
    with pytest.raises(ImportError, match="rename the file"):
        create_autoencoder(f"{tmp_path / 'other' / 'numpy.py'}:Mine")


def test_an_installed_package_adds_a_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None) -> None:
    write(tmp_path / "mine_installed.py")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[m2l.autoencoders]\nmine = mine_installed:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(AUTOENCODERS, "_from_entry_points", None)
    monkeypatch.setattr(registry, "_installed", registry._installed.__wrapped__)
    assert "mine" in AUTOENCODERS.names()
    system = create_autoencoder("mine")
    assert isinstance(system, Adapted)
    assert system.spec.name == "mine"
    with pytest.raises(UnknownNameError, match="'mine'"):
        create_autoencoder("mien")
    AUTOENCODERS._from_entry_points = None


@pytest.mark.parametrize(
    ("name", "label", "target", "shown"),
    [
        ("identity", None, "identity", "identity"),
        ("mine=identity", "mine", "identity", "mine"),
        ("my model v2=a.b:C", "my model v2", "a.b:C", "my model v2"),
        ("external:/x/y/run=3", None, "external:/x/y/run=3", "external:run=3"),
        ("a=external:/x/y", "a", "external:/x/y", "a"),
        ("music2latent:/x=y/z", None, "music2latent:/x=y/z", "music2latent:/x=y/z"),
        ("./dir/mine.py:Mine", None, "./dir/mine.py:Mine", "mine:Mine"),
        (
            "external-command:/opt/bin/codec --in={input}",
            None,
            "external-command:/opt/bin/codec --in={input}",
            "external-command:codec",
        ),
    ],
)
def test_labels(name: str, label: str | None, target: str, shown: str) -> None:
    assert split_label(name) == (label, target)
    assert label_of(name) == shown


def test_the_digest_of_own_code_follows_its_own_imports(tmp_path: Path, clean: None) -> None:
    file = write(tmp_path / "mine_c.py", imports="import mine_helper\nimport soundfile")
    helper = tmp_path / "mine_helper.py"
    helper.write_text("X = 1\n")
    name = f"{file}:Mine"
    create_autoencoder(name)
    first = system_code(name)
    assert first == system_code(f"label={name}")
    helper.write_text("X = 1  # a comment\n")
    assert system_code(name) == first
    helper.write_text("X = 2\n")
    changed = system_code(name)
    assert changed != first
    write(file, body="latents * 0.9", imports="import mine_helper\nimport soundfile")
    assert system_code(name) != changed


def test_the_digest_of_a_package_covers_its_relative_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None
) -> None:
    package = tmp_path / "mine_pkg"
    write(package / "codec.py", imports="from . import nets\nfrom .parts.head import H")
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("A = 1\n")
    (package / "parts").mkdir()
    (package / "parts" / "__init__.py").write_text("")
    (package / "parts" / "head.py").write_text("H = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    digests = [own_digest("mine_pkg.codec")]
    for changed in (package / "nets.py", package / "parts" / "head.py"):
        changed.write_text("A = 3\nH = 3\n")
        digests.append(own_digest("mine_pkg.codec"))
    assert len(set(digests)) == 3


def test_new_weights_and_options_are_new_units(tmp_path: Path, clean: None) -> None:
    file = write(tmp_path / "mine_d.py")
    text = file.read_text().replace('"channels": "mono"', '"channels": "mono", "weights": "mine.bin"')
    file.write_text(text)
    write_clips(tmp_path / "clips", 2)
    suite = tiny_suite(tmp_path / "clips")
    name = f"{file}:Mine"

    def key() -> str:
        row = Planner(suite, RunOptions()).system(name)
        assert row.reason is None, row.reason
        return row.units[0].key

    missing = Planner(suite, RunOptions()).system(name)
    assert missing.reason is not None
    assert "mine.bin" in missing.reason
    (tmp_path / "mine.bin").write_bytes(b"one")
    first = key()
    assert key() == first
    (tmp_path / "mine.bin").write_bytes(b"two")
    assert key() != first


def test_a_class_that_is_no_autoencoder_stops_a_plan(tmp_path: Path, clean: None) -> None:
    write_clips(tmp_path / "clips", 2)
    planner = Planner(tiny_suite(tmp_path / "clips"), RunOptions())
    with pytest.raises(SuiteError, match="no method encode and no method decode"):
        planner.system("x=pathlib:PurePosixPath")
    with pytest.raises(SuiteError, match="gian"):
        planner.system(f"{write(tmp_path / 'mine_e.py')}:Mine", gian=1)


# -- the contract as a function


def test_the_check_passes_good_systems_and_names_the_faults_of_others() -> None:
    assert check_autoencoder("opus-96k")["delay"] == 0
    assert check_autoencoder("mel-griffinlim", seconds=0.6)["si_sdr"] < 0

    class Late(Frames):
        def decode(self, latents: np.ndarray) -> np.ndarray:
            return np.pad(super().decode(latents), [(0, 0), (800, 0)])

    with pytest.raises(ContractError, match="800 samples late"):
        check_autoencoder(complete(Late(), "late"))

    class Random(Frames):
        def decode(self, latents: np.ndarray) -> np.ndarray:
            noise = np.random.default_rng().standard_normal(latents.shape)
            return super().decode(latents + 0.01 * noise)

    with pytest.raises(ContractError, match="two runs with one seed differ"):
        check_autoencoder(complete(Random(), "random"))
