"""Every registered system keeps the contract; codecs are aligned and spend what they say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.autoencoders import Autoencoder, AutoencoderSpec, create_autoencoder, list_autoencoders
from benchmarks.autoencoders.codecs import LibsndfileCodec
from benchmarks.autoencoders.controls import NoiseAtSnr
from benchmarks.autoencoders.griffinlim import MelGriffinLim
from benchmarks.registry import UnknownNameError

CODECS = ["mp3-64k", "mp3-128k", "vorbis-64k", "vorbis-96k", "opus-16k", "opus-96k"]
LIGHT = ["identity", "noise-20db", *CODECS, "mel-griffinlim"]


def music(channels: int, seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Decaying harmonic notes with a noisy attack, different per channel."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    out = np.zeros((channels, samples))
    for _ in range(max(4, int(8 * seconds))):
        start = int(rng.integers(0, samples))
        length = min(samples - start, rate // 2)
        time = np.arange(length) / rate
        pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 8))
        note = (tone + 0.3 * rng.standard_normal(length)) * np.exp(-6 * time)
        out[:, start : start + length] += 0.08 * rng.uniform(0.3, 1.0, (channels, 1)) * note
    return out.astype(np.float32)


def si_sdr(preds: np.ndarray, target: np.ndarray) -> float:
    preds, target = preds.astype(np.float64).ravel(), target.astype(np.float64).ravel()
    scaled = target * (preds @ target) / (target @ target)
    return float(10 * np.log10((scaled @ scaled) / ((preds - scaled) @ (preds - scaled))))


def test_all_names_are_listed() -> None:
    assert {*LIGHT, "music2latent", "music2latent-mini", "music2latent-random"} <= set(list_autoencoders())


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize(("channels", "rate", "seconds"), [(1, 44100, 0.5), (2, 48000, 0.5), (1, 22050, 0.5)])
def test_shape_and_rate_come_back(name: str, channels: int, rate: int, seconds: float) -> None:
    system = create_autoencoder(name)
    assert isinstance(system, Autoencoder)
    assert isinstance(system.spec, AutoencoderSpec)
    audio = music(channels, seconds, rate)[:, :-7]
    before = audio.copy()
    output = system.reconstruct(audio, rate, seed=3)
    assert output.shape == audio.shape
    assert output.dtype == np.float32
    assert np.isfinite(output).all()
    np.testing.assert_array_equal(audio, before)
    again = create_autoencoder(name).reconstruct(audio, rate, seed=3)
    np.testing.assert_array_equal(output, again)


@pytest.mark.parametrize("name", ["mp3-64k", "vorbis-64k", "opus-16k", "opus-96k"])
@pytest.mark.parametrize("rate", [44100, 48000, 32000])
def test_codec_delay_is_compensated_to_the_sample(name: str, rate: int) -> None:
    audio = music(1, 2.0, rate, seed=1)
    output = create_autoencoder(name).reconstruct(audio, rate)
    n = audio.shape[1]
    spectrum = np.fft.rfft(output[0], 2 * n) * np.conj(np.fft.rfft(audio[0], 2 * n))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    assert (lag if lag < n else lag - 2 * n) == 0


@pytest.mark.parametrize(
    ("name", "channels", "nominal", "tolerance"),
    [
        ("mp3-64k", 1, 64e3, 0.03),
        ("mp3-128k", 2, 128e3, 0.03),
        ("opus-16k", 1, 16e3, 0.35),
        ("opus-96k", 1, 96e3, 0.15),
        ("opus-96k", 2, 96e3, 0.15),
    ],
)
def test_codecs_spend_about_their_rate(name: str, channels: int, nominal: float, tolerance: float) -> None:
    encoded = create_autoencoder(name).encode(music(channels, 6.0, 48000), 48000)
    assert encoded.bitrate == pytest.approx(nominal, rel=tolerance)


def test_vorbis_quality_is_searched_for_the_rate() -> None:
    noisy = music(2, 2.0, 44100) + 0.05 * np.random.default_rng(0).standard_normal((2, 2 * 44100)).astype("f4")
    for bitrate in (128000, 192000):
        encoded = LibsndfileCodec("vorbis", bitrate).encode(noisy, 44100)
        assert encoded.bitrate == pytest.approx(bitrate, rel=0.06)


def test_a_minute_of_stereo_vorbis_does_not_crash() -> None:
    audio = np.zeros((2, 60 * 44100), np.float32)
    audio[:, ::50] = 0.1
    codec = LibsndfileCodec("vorbis", 32000)  # below its lowest quality: encoded once
    found = codec.reconstruct(audio, 44100)
    assert found.shape == audio.shape
    # What comes last is still there: a pulse every 50 samples is 0.1 / 50 in the mean.
    assert float(found[:, -44100:].mean()) == pytest.approx(0.1 / 50, rel=0.2)


def test_codecs_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ValueError, match="8 channels"):
        create_autoencoder("opus-96k").encode(np.zeros((8, 4800), np.float32), 48000)
    with pytest.raises(ValueError, match="no constant rate of 70"):
        LibsndfileCodec("mp3", 70000)
    with pytest.raises(ValueError, match="'flac'"):
        LibsndfileCodec("flac", 64000)


@given(snr=st.floats(-5, 60), seed=st.integers(0, 2**62), level=st.floats(1e-3, 1.0))
@settings(max_examples=25, deadline=None)
def test_noise_has_exactly_the_snr_asked_for(snr: float, seed: int, level: float) -> None:
    audio = level * music(1, 0.5, 16000).astype(np.float64)
    output = NoiseAtSnr(snr).reconstruct(audio, 16000, seed=seed).astype(np.float64)
    noise = output - audio
    measured = 10 * np.log10(np.square(audio).sum() / np.square(noise).sum())
    assert measured == pytest.approx(snr, abs=0.02)


def test_noise_at_20_db_is_an_si_sdr_of_20() -> None:
    audio = music(1, 5.0, 44100)
    for seed in range(5):
        output = create_autoencoder("noise-20db").reconstruct(audio, 44100, seed=seed)
        assert si_sdr(output, audio) == pytest.approx(20, abs=0.1)


def test_griffin_lim_has_music2latents_rate_and_keeps_magnitudes() -> None:
    system = MelGriffinLim()
    audio = music(1, 3.0, 44100)
    latents = system.encode(audio, 44100)
    assert latents.shape == (1, 64, -(-audio.shape[1] // 4096))
    assert system.spec.latent_rate * system.spec.latent_dim == pytest.approx(689.06, abs=0.01)
    output = system.decode(latents, length=audio.shape[1], sample_rate=44100, seed=0)
    assert np.abs(system.encode(output, 44100) - latents).mean() < np.abs(latents - latents.mean()).mean() / 2
    assert si_sdr(output, audio) < 0  # the phase is gone


def test_more_griffin_lim_iterations_are_more_consistent() -> None:
    audio = music(1, 2.0, 44100)

    def error(iterations: int) -> float:
        system = MelGriffinLim(iterations=iterations)
        latents = system.encode(audio, 44100)
        output = system.decode(latents, length=audio.shape[1], sample_rate=44100, seed=0)
        return float(np.abs(system.encode(output, 44100) - latents).mean())

    assert error(32) < error(0)


def test_own_systems_by_module_and_class() -> None:
    system = create_autoencoder("benchmarks.autoencoders.controls:Identity")
    assert system.spec.name == "identity"


def test_unknown_system_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'opus-97k'\?"):
        create_autoencoder("opus-97")
    with pytest.raises(UnknownNameError, match="identity"):
        create_autoencoder("identify")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("opus-24k", {"codec": "opus", "bitrate": 24000}),
        ("mp3-96k", {"codec": "mp3", "bitrate": 96000}),
        ("vorbis-48k", {"codec": "vorbis", "bitrate": 48000}),
        ("noise-30db", {"snr_db": 30.0}),
        ("noise--3.5db", {"snr_db": -3.5}),
    ],
)
def test_any_sensible_number_is_a_system(name: str, options: dict[str, object]) -> None:
    system = create_autoencoder(name)
    assert system.spec.name == name
    assert options.items() <= system.spec.options.items()
    audio = music(1, 0.5, 44100)
    assert system.reconstruct(audio, 44100).shape == audio.shape


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("opus-5k", "opus can be asked for 6 to 512 kbit/s, not 5"),
        ("opus-0k", "6 to 512"),
        ("vorbis-501k", "vorbis can be asked for 32 to 500 kbit/s, not 501"),
        ("mp3-33k", "MP3 has no constant rate of 33 kbit/s; it has 32, 40,"),
        ("noise-121db", "noise can be from -60 to 120 dB below the clip, not 121"),
        ("lyra-5k", "Lyra codes 3200, 6000, 9200 bits per second, not 5000"),
        ("dac-44khz-10q", "dac-44khz has 1 to 9 codebooks"),
        ("dac-44khz-2.5q", "dac-44khz has 1 to 9 codebooks"),
        ("encodec-48khz-7k", "EnCodec's bandwidth is 3, 6, 12 or 24 kbit/s, not 7"),
        ("mimi-1q", "mimi has 2 to 32 codebooks"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_with_the_limits(name: str, limits: str) -> None:
    with pytest.raises(ValueError, match=re.escape(limits)):
        create_autoencoder(name)


@pytest.mark.parametrize("codec", ["opus", "mp3", "vorbis"])
def test_a_higher_rate_spends_more_and_sounds_nearer(codec: str) -> None:
    audio = music(1, 3.0, 44100)
    audio = audio + 0.03 * np.random.default_rng(1).standard_normal(audio.shape).astype(np.float32)
    encoded, quality = [], []
    for rate in (56, 80, 128):
        system = create_autoencoder(f"{codec}-{rate}k")
        latents = system.encode(audio, 44100)
        encoded.append(latents.bitrate / 1000)
        quality.append(si_sdr(system.decode(latents, length=audio.shape[1], sample_rate=44100, seed=0), audio))
    assert encoded == pytest.approx([56, 80, 128], rel=0.08)
    assert quality == sorted(quality)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros((1, 0), np.float32), 44100, "is empty"),
        (np.zeros((1, 2, 3), np.float32), 44100, "shape"),
        (np.full((1, 100), np.nan, np.float32), 44100, "non-finite"),
        (np.zeros((1, 100), np.float32), 0, "sample_rate"),
    ],
)
@pytest.mark.parametrize("name", ["identity", "noise-20db", "opus-96k", "mel-griffinlim"])
def test_bad_audio_is_refused_by_name(name: str, audio: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_autoencoder(name).reconstruct(audio, rate)


# -- Music2Latent


def test_random_music2latent_keeps_the_contract() -> None:
    system = create_autoencoder("music2latent-random", preset="tiny")
    assert system.spec.n_parameters is None  # not loaded yet
    audio = music(2, 0.3, 48000)
    one = system.reconstruct(audio, 48000, seed=1)
    assert one.shape == audio.shape
    assert system.spec.n_parameters
    np.testing.assert_array_equal(one, system.reconstruct(audio, 48000, seed=1))
    assert not np.array_equal(one, system.reconstruct(audio, 48000, seed=2))
    assert not np.array_equal(one, system.reconstruct(audio, 48000, seed=1, n_steps=2))
    frames = system.features(audio, 48000).shape[1]
    assert system.encode(audio, 48000).shape == (2, 64, frames)


def test_random_music2latent_identity_follows_preset_and_seed() -> None:
    digests = {
        create_autoencoder("music2latent-random", preset=preset, seed=seed).spec.weights_digest
        for preset in ("tiny", "mini")
        for seed in (0, 1)
    }
    assert len(digests) == 4


def test_a_checkpoint_of_your_own(tmp_path: Path) -> None:
    from m2l.model import Music2Latent

    model = Music2Latent.from_config("tiny", seed=5)
    model.save_pretrained(tmp_path / "mine")
    system = create_autoencoder(f"music2latent:{tmp_path / 'mine'}")
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert system.spec.n_parameters == expected  # from the header, nothing loaded
    audio = music(1, 0.3, 44100)
    np.testing.assert_array_equal(system.reconstruct(audio, 44100, seed=4), model.reconstruct(audio, 44100, seed=4))
    before = system.spec.weights_digest
    Music2Latent.from_config("tiny", seed=6).save_pretrained(tmp_path / "mine")
    assert create_autoencoder(f"music2latent:{tmp_path / 'mine'}").spec.weights_digest != before


def test_missing_weights_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2L_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with pytest.raises(FileNotFoundError, match="m2l-bench fetch music2latent"):
        create_autoencoder("music2latent")
    with pytest.raises(FileNotFoundError, match="no checkpoint at 'nope'"):
        create_autoencoder("music2latent:nope")
