"""`Music2Latent` and `EncoderDecoder` as their users meet them: shapes, kinds, lengths, checkpoints, errors."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import m2l.io.checkpoints
from m2l import CheckpointError, EncoderDecoder, Music2Latent, WeightsNotFoundError, create_config
from m2l.audio import AudioError
from m2l.config import ConfigError, from_json
from m2l.io.published import key_map
from m2l.representation import representation_to_waveform, waveform_to_representation
from m2l.streaming.noise import latent_noise

TINY = create_config("tiny")


@pytest.fixture(scope="module")
def model() -> Music2Latent:
    return Music2Latent.from_config("tiny", seed=3)


def published_file(path: Path, model: Music2Latent, **changes: torch.Tensor) -> Path:
    """The model in the published format; `changes` replace or add entries."""
    state = {theirs: model.state_dict()[ours] for theirs, ours in key_map(model.config).items()}
    torch.save({"gen_state_dict": {**state, **changes}, "it": np.float64(1.0)}, path)
    return path


# --- config --------------------------------------------------------------------------------------------------


def test_presets_carry_the_rows_of_table_3() -> None:
    base = create_config("table3-base")
    assert base.channel_mults == (1, 2, 4, 4, 5)
    assert not any(base.attention)
    assert not base.frequency_scaling
    assert create_config("table3-scaling").replace(name="paper") == create_config("paper")
    paper = create_config("paper")
    assert (paper.downsampling_ratio, paper.compression_ratio, paper.feature_dim) == (4096, 64.0, 8192)


def test_config_round_trip_overlay_and_errors(tmp_path: Path) -> None:
    config = create_config("mini")
    assert from_json(config.to_json()) == config
    overlay = tmp_path / "wide.toml"
    overlay.write_text('name = "wide"\nbase_channels = 24\n')
    assert create_config("mini", overlay).base_channels == 24
    with pytest.raises(ConfigError, match="did you mean 'base_channels'"):
        config.replace(base_channel=3)
    with pytest.raises(ConfigError, match="unknown preset 'papr'; did you mean 'paper'"):
        create_config("papr")
    with pytest.raises(ConfigError, match="downsampling has 4 entries; 3 levels need 2"):
        config.replace(channel_mults=[1, 2, 4], unet_blocks=[1] * 3, autoencoder_blocks=[1] * 3, attention=[0] * 3)


# --- representation and noise --------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 40), st.integers(0, 1000))
def test_representation_inverts_inside(frames: int, seed: int) -> None:
    """Away from the ends, all that is lost is the Nyquist bin."""
    time = np.arange(512 * frames + 1536) / 44_100
    rng = np.random.default_rng(seed)
    audio = sum(rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * f * time) for f in rng.uniform(50, 15_000, 4))
    x = torch.from_numpy(np.asarray(audio, np.float32))[None]
    back = representation_to_waveform(waveform_to_representation(x, TINY), TINY)
    assert back.shape == x.shape
    assert float((back - x)[:, 1536:-1536].abs().max()) < 1e-4


def test_representation_of_silence_is_zero() -> None:
    assert not bool(waveform_to_representation(torch.zeros(1, 4096), TINY).any())
    assert not bool(representation_to_waveform(torch.zeros(1, 2, 1024, 8), TINY).any())


def test_noise_depends_on_position_alone() -> None:
    whole = latent_noise(TINY, seed=5, n_items=3, n_latents=6)
    part = latent_noise(TINY, seed=5, n_items=1, n_latents=2, first_item=2, first_latent=3)
    assert torch.equal(part[0], whole[2, :, :, 24:40])
    assert float(whole.std()) == pytest.approx(1.0, abs=0.01)
    assert not torch.equal(whole, latent_noise(TINY, seed=6, n_items=3, n_latents=6))


# --- audio in, audio out -------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    leading=st.sampled_from([(), (1,), (2,), (2, 2)]),
    seconds=st.floats(0.001, 0.2),
    rate=st.sampled_from([8_000, 22_050, 44_100, 48_000, 96_000]),
    as_torch=st.booleans(),
)
def test_reconstruct_returns_what_it_was_given(
    model: Music2Latent, leading: tuple[int, ...], seconds: float, rate: int, as_torch: bool
) -> None:
    samples = max(1, round(seconds * rate))
    audio: np.ndarray | torch.Tensor = np.random.default_rng(0).uniform(-0.5, 0.5, (*leading, samples))
    audio = np.asarray(audio, np.float32)
    if as_torch:
        audio = torch.from_numpy(audio)
    back = model.reconstruct(audio, rate)
    assert isinstance(back, type(audio))
    assert tuple(back.shape) == (*leading, samples)
    assert bool(np.isfinite(np.asarray(back)).all())
    latents = model.encode(audio, rate)
    expected = model.n_latents(round(samples * 44_100 / rate))
    assert latents.shape[:-1] == (*leading, 64)
    assert abs(latents.shape[-1] - expected) <= 1


def test_items_do_not_see_each_other(model: Music2Latent) -> None:
    audio = np.random.default_rng(1).uniform(-0.5, 0.5, (3, 9000)).astype(np.float32)
    together = model.encode(audio)
    for channel, latents in zip(audio, together, strict=True):
        np.testing.assert_allclose(model.encode(channel), latents, atol=1e-4)
    features = model.features(audio)
    assert features.shape == (3, TINY.feature_dim, together.shape[-1])


def test_decoding_repeats_with_a_seed_and_varies_without(model: Music2Latent) -> None:
    latents = np.random.default_rng(1).standard_normal((1, 64, 3)).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    once = model.decode(latents, n_steps=2, seed=1)
    assert np.array_equal(once, model.decode(latents, n_steps=2, seed=1))
    assert not np.array_equal(once, model.decode(latents, n_steps=2, seed=2))
    drawn = model.decode(latents, generator=generator)
    assert not np.array_equal(drawn, model.decode(latents, generator=generator))
    start = latent_noise(TINY, seed=1, n_items=1, n_latents=3)
    assert np.array_equal(model.decode(latents, noise=start), model.decode(latents, seed=1))


def test_random_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = Music2Latent.from_config("tiny", seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first.digest() == Music2Latent.from_config("tiny", seed=1).digest()
    assert first.digest() != Music2Latent.from_config("tiny", seed=2).digest()


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((1, 63, 4), np.float32), r"\(…, 64, L\)"),
        (np.zeros((64,), np.float32), r"\(…, 64, L\)"),
        (np.zeros((1, 64, 0), np.float32), r"\(…, 64, L\)"),
        (np.full((1, 64, 2), np.nan, np.float32), "finite"),
        (np.zeros((1, 64, 2), np.int64), "floating point"),
    ],
)
def test_bad_latents_are_named(model: Music2Latent, latents: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.decode(latents)


def test_bad_noise_device_and_dtype_are_named(model: Music2Latent, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"noise must have shape \(1, 2, 1024, 16\)"):
        model.decode(np.zeros((1, 64, 2), np.float32), noise=torch.zeros(1, 2, 1024, 8))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="device 'nowhere'"):
        Music2Latent.from_pretrained(tmp_path, device="nowhere")
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16, not 'int8'"):
        Music2Latent.from_pretrained(tmp_path, dtype="int8")


# --- checkpoints ---------------------------------------------------------------------------------------------


def test_save_and_load(model: Music2Latent, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["config.json", "model.safetensors"]
    for source in (tmp_path / "mine", tmp_path / "mine" / "model.safetensors"):
        loaded = Music2Latent.from_pretrained(source, device="cpu")
        assert loaded.config == model.config
        assert loaded.digest() == model.digest()
    written = (tmp_path / "mine" / "model.safetensors").read_bytes()
    for _ in range(4):  # the same weights are the same bytes
        model.save_pretrained(tmp_path / "again")
        assert (tmp_path / "again" / "model.safetensors").read_bytes() == written
    (tmp_path / "mine" / "config.json").unlink()  # the header holds it too
    assert Music2Latent.from_pretrained(tmp_path / "mine", device="cpu").digest() == model.digest()
    half = Music2Latent.from_pretrained(tmp_path / "mine", device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert half.reconstruct(np.zeros(5000, np.float32)).dtype == np.float32


def test_published_format_is_strict(model: Music2Latent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The published format carries no config; let it stand for the tiny one.
    monkeypatch.setattr(m2l.io.checkpoints, "create_config", lambda name: TINY)
    good = published_file(tmp_path / "good.pt", model)
    assert Music2Latent.from_pretrained(good, device="cpu").digest() == model.digest()
    state = torch.load(good, weights_only=False)["gen_state_dict"]
    cases = {
        "missing 'conv_inp.weight'": {key: value for key, value in state.items() if key != "conv_inp.weight"},
        "unexpected 'conv_inp.wait'": {**state, "conv_inp.wait": torch.zeros(1)},
        r"'conv_out.bias' has shape \(3,\), the config needs \(2,\)": {**state, "conv_out.bias": torch.zeros(3)},
        "'conv_out.bias' holds NaN": {**state, "conv_out.bias": torch.full((2,), float("nan"))},
        "'conv_out.bias' holds torch.int64": {**state, "conv_out.bias": torch.zeros(2, dtype=torch.int64)},
    }
    for message, weights in cases.items():
        torch.save({"gen_state_dict": weights}, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match=message):
            Music2Latent.from_pretrained(tmp_path / "bad.pt")


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, write in {
        "zip.pt": lambda path: torch.save({"gen_state_dict": _Malicious()}, path),
        "raw.pt": lambda path: path.write_bytes(pickle.dumps({"gen_state_dict": _Malicious()})),
    }.items():
        write(tmp_path / name)
        with pytest.raises(CheckpointError, match=name):
            Music2Latent.from_pretrained(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(1000), pickle.dumps([1, 2])])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_checkpoints_are_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Music2Latent.from_pretrained(path)


def test_truncated_checkpoint_is_named(model: Music2Latent, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"gen_state_dict": model.state_dict()}, buffer)
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue()[:-2000])
    with pytest.raises(CheckpointError, match=r"cut\.pt"):
        Music2Latent.from_pretrained(tmp_path / "cut.pt")


def test_missing_weights_say_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match="m2l-bench fetch music2latent --accept-license"):
        EncoderDecoder()
    with pytest.raises(WeightsNotFoundError, match="--revision abc"):
        Music2Latent.from_pretrained("SonyCSLParis/music2latent", revision="abc")
    with pytest.raises(WeightsNotFoundError, match="no checkpoint at 'nothing-here'"):
        Music2Latent.from_pretrained("nothing-here")


# --- the published interface ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, model: Music2Latent) -> EncoderDecoder:
    folder = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(folder)
    return EncoderDecoder(folder, device="cpu")


@pytest.mark.parametrize("samples", [5632, 5633, 9727, 9728, 44_100])
def test_encoder_decoder_crops_as_the_published_class(published: EncoderDecoder, samples: int) -> None:
    latents = published.encode(np.zeros((2, samples), np.float32))
    length = ((samples - 1536) // 512) // 8
    assert tuple(latents.shape) == (2, 64, length)
    assert tuple(published.decode(latents).shape) == (2, 4096 * length + 1536)
    assert published.encode(np.zeros(samples, np.float32), extract_features=True).shape[0] == 1


def test_encoder_decoder_cuts_long_audio_into_pieces(published: EncoderDecoder) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1536 + 4096 * 5)).astype(np.float32)
    cut = published.encode(audio, max_waveform_length=2 * 4096, max_batch_size=3)
    assert tuple(cut.shape) == (2, 64, 5)
    # The first piece is the encoding of its own two latents' worth of audio.
    first = published.encode(audio[:, : 1536 + 2 * 4096])
    np.testing.assert_allclose(cut[..., :2], first, atol=1e-4)
    start = torch.randn(2, 2, 1024, 40, generator=torch.Generator().manual_seed(0))
    decoded = published.decode(cut, noise=start, max_waveform_length=2 * 4096, max_batch_size=2)
    assert tuple(decoded.shape) == (2, 4096 * 5 + 1536)
    alone = published.decode(cut[..., :2], noise=start[..., :16])
    np.testing.assert_allclose(decoded[:, :8192], alone[:, :8192], atol=1e-4)


def test_encoder_decoder_reads_files_and_refuses_what_it_cannot_use(published: EncoderDecoder, tmp_path: Path) -> None:
    import soundfile

    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2))
    soundfile.write(tmp_path / "a.wav", audio, 44_100, subtype="FLOAT")
    from_file = published.encode(str(tmp_path / "a.wav"))
    np.testing.assert_allclose(from_file, published.encode(audio.T.astype(np.float32)), atol=1e-4)
    with pytest.raises(AudioError, match=r"5631 samples is shorter than one latent \(5632 samples\)"):
        published.encode(np.zeros(5631, np.float32))
    with pytest.raises(AudioError, match="float waveform"):
        published.encode(np.zeros(9000, np.int16))
    with pytest.raises(ValueError, match=r"latent must be \(channels, 64, L\)"):
        published.decode(np.zeros((1, 8, 3), np.float32))
    with pytest.raises(ValueError, match="max_waveform_length is shorter than one latent"):
        published.encode(np.zeros(9000, np.float32), max_waveform_length=100)


@pytest.mark.slow
def test_encoder_decoder_equals_the_published_wheel(tmp_path: Path) -> None:
    """Same random weights, same audio, pieces of 4 latents: the wheel's own inference code beside ours."""
    inference = pytest.importorskip("music2latent.inference")
    wheel = inference.EncoderDecoder.__new__(inference.EncoderDecoder)
    wheel.device, wheel.gen = torch.device("cpu"), inference.UNet().eval()
    torch.save({"gen_state_dict": wheel.gen.state_dict()}, tmp_path / "music2latent.pt")
    ours = EncoderDecoder(tmp_path / "music2latent.pt", device="cpu")
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1536 + 4096 * 9 + 777)).astype(np.float32)
    pieces = {"max_waveform_length": 4 * 4096, "max_batch_size": 2}
    expected = wheel.encode(audio.copy(), **pieces)
    found = ours.encode(audio, **pieces)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    features = wheel.encode(audio.copy(), extract_features=True)
    assert float((ours.encode(audio, extract_features=True) - features).norm() / features.norm()) < 1e-4
    torch.manual_seed(0)
    decoded = wheel.decode(expected[..., :4], denoising_steps=2)  # a channel after the other
    torch.manual_seed(0)
    found = ours.decode(expected[..., :4], denoising_steps=2)
    assert float((found - decoded).norm() / decoded.norm()) < 1e-4
