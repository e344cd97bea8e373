"""Neural systems under test: one contract for every registered one, published layouts, seeds and windows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_helpers import NEURAL, adapter, clip, perturbed

from benchmarks.autoencoders import AUTOENCODERS, Autoencoder, create_autoencoder, list_autoencoders
from benchmarks.autoencoders.latmusic import PublishedOnlyError
from benchmarks.autoencoders.neural import NeuralAutoencoder, in_windows
from benchmarks.weights.find import WeightsNotFoundError, has_weight
from probes.representations import create_representation

OURS = [name for name in list_autoencoders() if AUTOENCODERS.target(name).startswith("benchmarks.")]


def runnable(name: str) -> Any:
    """Any registered system without its weights: with random ones where it has weights at all."""
    if name == "music2latent-random":
        return create_autoencoder(name, preset="tiny")
    if name in NEURAL:
        return adapter(name)(random_seed=0, tiny=True)
    try:
        return create_autoencoder(name)
    except (FileNotFoundError, ImportError) as error:
        pytest.skip(f"no weights, or no library: {error}")


# ---- the contract, for every registered system ---------------------------------------------------------


@pytest.mark.parametrize(("channels", "rate", "seconds"), [(1, 44100, 0.7), (2, 32000, 0.5)])
@pytest.mark.parametrize("name", OURS)
def test_every_registered_system_keeps_the_contract(name: str, channels: int, rate: int, seconds: float) -> None:
    system = runnable(name)
    assert isinstance(system, Autoencoder)
    assert system.spec.sample_rate is None or system.spec.sample_rate > 0
    audio = clip(channels, int(seconds * rate) + 13, rate)
    before = audio.copy()
    steps = {"n_steps": 2} if system.spec.n_steps else {}
    output = system.reconstruct(audio, rate, seed=3, **steps)
    assert output.shape == audio.shape
    assert output.dtype == np.float32
    assert np.isfinite(output).all()
    np.testing.assert_array_equal(audio, before)
    np.testing.assert_array_equal(output, system.reconstruct(audio, rate, seed=3, **steps))


def test_every_adapter_is_tested_here() -> None:
    classes = {name: AUTOENCODERS.load(name) for name in OURS}
    neural = {name for name, cls in classes.items() if isinstance(cls, type) and issubclass(cls, NeuralAutoencoder)}
    assert neural == set(NEURAL)


def test_constructing_and_listing_imports_no_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from benchmarks.autoencoders import create_autoencoder, list_autoencoders\n"
        f"for name in {['latmusic', *NEURAL]!r}:\n"
        "    assert name in list_autoencoders()\n"
        "    for options in ({}, {'random_seed': 0} if name != 'latmusic' else {}):\n"
        "        try:\n"
        "            create_autoencoder(name, **options)\n"
        "        except (FileNotFoundError, ImportError):\n"
        "            pass\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'h5py', 'codicodec', 'librosa'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- missing weights, missing libraries ----------------------------------------------------------------


@pytest.mark.parametrize("name", NEURAL)
def test_missing_weights_name_the_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setattr("benchmarks.weights.find._hub_folder", lambda source: None)
    with pytest.raises(WeightsNotFoundError, match=f"m2l-bench fetch {name}"):
        create_autoencoder(name)
    with pytest.raises(WeightsNotFoundError, match="given explicitly"):
        create_autoencoder(name, path=str(tmp_path / "nowhere"))
    with pytest.raises(WeightsNotFoundError, match=f"m2l-bench fetch {name}"):
        create_representation(name)


def test_latmusic_says_that_there_is_nothing_to_run() -> None:
    for create in (create_autoencoder, create_representation):
        with pytest.raises(PublishedOnlyError, match="never released"):
            create("latmusic")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = AUTOENCODERS.load("mimi")
    monkeypatch.setattr(cls, "library", ("no-such-library", "1.0", "'m2l[nothing]'"))
    with pytest.raises(ImportError, match=r"mimi needs no-such-library >= 1.0.*pip install 'm2l\[nothing\]'"):
        cls(random_seed=0)
    monkeypatch.setattr(cls, "library", ("numpy", "99.0", "numpy"))
    with pytest.raises(ImportError, match=r"numpy >= 99.0, found"):
        cls(random_seed=0)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="tiny=True is for random weights"):
        create_autoencoder("dac-44khz", tiny=True)
    with pytest.raises(ValueError, match="bandwidth is 3, 6, 12 or 24 kbit/s, not 7"):
        create_autoencoder("encodec-48khz", random_seed=0, bandwidth=7)
    with pytest.raises(ValueError, match=r"2 to 32 codebooks \(n_codebooks\), not 33"):
        create_autoencoder("mimi", random_seed=0, n_codebooks=33)
    with pytest.raises(ValueError, match=r"feature_point .* got 'dec'"):
        create_autoencoder("musika", random_seed=0, feature_point="dec")


# ---- behavior with tiny networks ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NEURAL)
def test_latents_features_and_parameters(name: str) -> None:
    system = adapter(name)(random_seed=0, tiny=True)
    perturbed(system.model)
    rate = system.sample_rate
    audio = clip(1, 2 * rate, rate)
    latents = system.encode(audio, rate)
    assert latents.channels == 1
    assert latents.seconds == pytest.approx(2)
    features = system.features(audio, rate)
    assert features.dtype == np.float32
    assert features.ndim == 2
    assert np.isfinite(features).all()
    assert not np.array_equal(features, system.features(0.5 * clip(1, 2 * rate, rate, seed=9), rate))
    if system.spec.bitrate is not None:
        assert latents.bitrate
    else:
        assert latents.bitrate is None


@pytest.mark.parametrize("name", [name for name in NEURAL if AUTOENCODERS.load(name).channels == "stereo"])
def test_stereo_systems_get_a_mono_clip_twice_and_refuse_more_than_two(name: str) -> None:
    system = adapter(name)(random_seed=0, tiny=True)
    rate = system.sample_rate
    mono = clip(1, rate // 2, rate)
    twice = np.repeat(mono, 2, axis=0)
    one = system.reconstruct(mono, rate, seed=2, **_few(system))
    two = system.reconstruct(twice, rate, seed=2, **_few(system))
    np.testing.assert_allclose(one[0], two.mean(axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="3 channels"):
        system.encode(clip(3, rate // 2, rate), rate)


@pytest.mark.parametrize("name", [name for name in NEURAL if AUTOENCODERS.load(name).channels == "per_channel"])
def test_other_systems_code_channels_one_by_one(name: str) -> None:
    system = adapter(name)(random_seed=0, tiny=True)
    rate = system.sample_rate
    stereo = clip(2, rate // 2, rate)
    both = system.reconstruct(stereo, rate, seed=2)
    np.testing.assert_array_equal(both[:1], system.reconstruct(stereo[:1], rate, seed=2))
    assert len(system.encode(clip(3, rate // 2, rate), rate).items) == 3


def _few(system: Any) -> dict[str, int]:
    return {"n_steps": 2} if system.spec.n_steps else {}


@pytest.mark.parametrize(
    ("name", "rate", "codebooks"),
    [
        ("dac-44khz-3q", 3 * 10 * 44100 / 512, 3),
        ("dac-44khz", 9 * 10 * 44100 / 512, 9),
        ("encodec-48khz-6k", 6000.0, 4),
        ("encodec-48khz", 24000.0, 16),
        ("mimi-8q", 8 * 11 * 12.5, 8),
        ("mimi", 32 * 11 * 12.5, 32),
    ],
)
def test_a_choice_of_codebooks_changes_rate_codes_and_key(name: str, rate: float, codebooks: int) -> None:
    """The published rate is in the spec, the measured one is that of the codes; two choices have two keys."""
    system = create_autoencoder(name, random_seed=0, tiny=True)
    assert system.spec.bitrate == pytest.approx(rate)
    own, seconds = system.spec.sample_rate, 1.98  # whole chunks of EnCodec
    latents = system.encode(clip(1, int(seconds * own), own), own)
    codes = latents.items[0]["codes"]
    assert codebooks in codes.shape
    bits = np.log2(system.settings["codebook_size"])
    expected = codebooks * bits * system.latent_rate + (32.0 if name.startswith("encodec") else 0)
    assert latents.bitrate == pytest.approx(expected, rel=0.05)
    fewer = next(one for one in ("dac-44khz-2q", "encodec-48khz-3k", "mimi-3q") if name.startswith(one[:4]))
    other = create_autoencoder(fewer, random_seed=0, tiny=True)
    assert other.spec.options != system.spec.options
    assert len(other.encode(clip(2, own, own), own).items[0]["codes"].ravel()) < codes.size


@pytest.mark.parametrize("name", ["codicodec", "mousai-v2", "mousai-v3", "musika", "snac-44khz"])
def test_decoding_noise_follows_the_seed(name: str) -> None:
    system = adapter(name)(random_seed=0, tiny=True)
    if name == "musika":  # its noise layers start at a strength of 0
        for key, parameter in system.model.named_parameters():
            if key.endswith("noise_weight"):
                parameter.fill_(0.1)
    audio = clip(1, 20000, system.sample_rate)
    latents = system.encode(audio, system.sample_rate)

    def decode(seed: int) -> np.ndarray:
        return system.decode(latents, length=20000, sample_rate=system.sample_rate, seed=seed, **_few(system))

    state = torch.random.get_rng_state()
    np.testing.assert_array_equal(decode(1), decode(1))
    assert not np.array_equal(decode(1), decode(2))
    assert torch.equal(state, torch.random.get_rng_state())  # nobody else's noise was used


@pytest.mark.parametrize(("name", "rate", "bits"), [("snac-44khz", 15 * 12 * 44100 / 3072, 4), ("xcodec2", 800.0, 16)])
def test_codes_of_one_rate_have_the_published_bits(name: str, rate: float, bits: int) -> None:
    """The published rate is in the spec; the tiny network's codes have `bits` each, and whole windows of them."""
    system = adapter(name)(random_seed=0, tiny=True)
    assert system.spec.bitrate == pytest.approx(rate)
    seconds = 20 * 12288 / 44100
    latents = system.encode(clip(1, round(seconds * system.sample_rate), system.sample_rate), system.sample_rate)
    assert latents.bitrate == pytest.approx(bits * system.latent_rate * system.latent_dim, rel=0.01)


@pytest.mark.parametrize("name", ["codicodec", "mousai-v3"])
def test_steps_change_the_output(name: str) -> None:
    system = adapter(name)(random_seed=0, tiny=True)
    audio = clip(2, 20000, system.sample_rate)
    one, two = (system.reconstruct(audio, system.sample_rate, seed=0, n_steps=n) for n in (1, 2))
    assert not np.array_equal(one, two)
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        system.reconstruct(audio, system.sample_rate, n_steps=0)


@given(
    samples=st.integers(1, 4000), rate=st.sampled_from([8000, 22050, 44100, 48000, 96000]), channels=st.integers(1, 2)
)
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("name", ["musika", "mousai-v3"])
def test_any_length_and_rate_come_back(name: str, samples: int, rate: int, channels: int) -> None:
    system = _tiny(name)
    audio = clip(channels, samples, rate)
    output = system.reconstruct(audio, rate, **_few(system))
    assert output.shape == audio.shape
    assert np.isfinite(output).all()


@cache
def _tiny(name: str) -> Any:
    return adapter(name)(random_seed=0, tiny=True)


def test_random_weights_follow_their_seed() -> None:
    one, two = (create_autoencoder("dac-44khz", random_seed=seed, tiny=True) for seed in (0, 1))
    assert one.spec.weights_digest != two.spec.weights_digest
    audio = clip(1, 9000, 44100)
    assert not np.array_equal(one.features(audio, 44100), two.features(audio, 44100))
    again = create_autoencoder("dac-44khz", random_seed=0, tiny=True)
    assert again.spec == one.spec
    np.testing.assert_array_equal(one.features(audio, 44100), again.features(audio, 44100))


def test_long_clips_run_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    system = create_autoencoder("dac-44khz", random_seed=0, tiny=True)
    audio = clip(2, 70000, 8000)
    whole = system.features(audio, 8000)
    monkeypatch.setattr(type(system), "window_seconds", 3.0)
    output = system.reconstruct(audio, 8000, seed=1)
    assert output.shape == audio.shape
    assert np.isfinite(output).all()
    windowed = system.features(audio, 8000)
    assert windowed.shape[0] == whole.shape[0]
    assert windowed.shape[1] == pytest.approx(whole.shape[1], abs=3)


@given(samples=st.integers(1, 400), window=st.integers(21, 120), overlap=st.integers(1, 10), channels=st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_windows_of_an_identity_are_the_identity(samples: int, window: int, overlap: int, channels: int) -> None:
    audio = clip(channels, samples, 8000)
    seeds = []

    def process(piece: np.ndarray, seed: int) -> np.ndarray:
        seeds.append(seed)
        assert piece.shape[1] <= window
        return piece

    np.testing.assert_allclose(in_windows(audio, window, overlap, process, 7), audio, atol=1e-6)
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == 7


@pytest.mark.parametrize("name", ["dac-44khz", "musika", "mousai-v3"])
def test_every_autoencoder_can_be_a_row_of_table_1(name: str) -> None:
    adapter(name)
    row: Any = create_representation(name, random_seed=0, tiny=True)
    rate = row.system.sample_rate
    audio = clip(2, rate // 2, rate)
    vectors = row.extract(audio, rate)["features"]
    mono = audio.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(vectors.T, row.system.features(mono, rate), atol=1e-6)
    assert row.spec.name == name
    assert len(row.spec.options["code"]) == 64


def test_musika_can_be_probed_at_its_first_encoder() -> None:
    cls = adapter("musika")
    wide = cls(random_seed=0, tiny=True, feature_point="enc")
    audio = clip(1, 44100, 44100)
    first, second = wide.features(audio, 44100), cls(random_seed=0, tiny=True).features(audio, 44100)
    assert first.shape[0] * 3 == second.shape[0] * 4  # 1,024 and 768 of the published one
    assert first.shape[1] == 16 * second.shape[1]


# ---- with the published weights, where they are --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NEURAL)
def test_published_weights_load(name: str) -> None:
    available, reason = has_weight(name)
    if not available:
        pytest.skip(reason)
    system = adapter(name)()
    audio = clip(1, 3 * system.sample_rate, system.sample_rate)
    output = system.reconstruct(audio, system.sample_rate, seed=0, **_few(system))
    assert np.isfinite(output).all()
