"""What users bring to the model: arrays of every kind, other precisions, noise, gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from m2l import EncoderDecoder, Music2Latent, consistency, inference, representation
from m2l.audio import AudioError, to_representation_encoder, to_waveform
from m2l.io.latents import LatentsInfo, read_latents, write_latents
from m2l.kernels import steps
from m2l.representation import representation_to_waveform, waveform_to_representation
from m2l.streaming.noise import latent_noise, noise_source


@pytest.fixture(scope="module")
def model() -> Music2Latent:
    """Untrained, and moved off its initialization, where blocks do nothing."""
    made = Music2Latent.from_config("tiny", seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


@pytest.fixture(scope="module")
def published(model: Music2Latent) -> EncoderDecoder:
    return EncoderDecoder.around(model)


@pytest.fixture(params=["whole", "windows"])
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same signal as one that fits into a window, and as one that does not."""
    if request.param == "windows":
        monkeypatch.setattr(Music2Latent, "WINDOW_LATENTS", 66)
    return str(request.param)


class Bypass(Music2Latent):
    """Passes numbers on without a network: for what happens to them before and after it."""

    def encode_representation(self, representation: Tensor) -> Tensor:
        return representation[:, 0, :64, ::8]

    def decode_representation(self, latents: Tensor, noise: Tensor, *, n_steps: int = 1, renoise: Any = None) -> Tensor:
        return noise * latents.mean(1)[:, None, None].repeat_interleave(8, -1)


@pytest.fixture(scope="module")
def bypass() -> Bypass:
    return Bypass(Music2Latent.from_config("tiny").config)


def signal(samples: int = 40_000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def long_latents(n: int = 100) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 64, n)).astype(np.float32)


# --- noise ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["generator", "noise"])
def test_long_latents_are_decoded_from_noise_for_a_window(
    model: Music2Latent, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    latents = long_latents()
    start = torch.randn(1, 2, 1024, 800, generator=torch.Generator().manual_seed(2))
    seen: dict[int, list[Tensor]] = {}

    def spy(self: Music2Latent, part: Tensor, noise: Tensor, **options: Any) -> Tensor:
        seen[size].append(noise)
        return torch.zeros_like(noise)

    monkeypatch.setattr(Music2Latent, "decode_representation", spy)
    for size in (324, 80, 70):
        monkeypatch.setattr(Music2Latent, "WINDOW_LATENTS", size)
        seen[size] = []
        generator = torch.Generator().manual_seed(5)
        options: dict[str, Any] = {"generator": generator} if source == "generator" else {"noise": start}
        model.decode(latents, **options)
    (whole,) = seen[324]
    for size in (80, 70):
        first, *_, last = seen[size]
        assert first.shape[-1] == last.shape[-1] == 8 * size
        assert torch.equal(first, whole[..., : 8 * size])
        assert torch.equal(last, whole[..., -8 * size :])
    if source == "noise":
        assert torch.equal(whole, start)


def test_a_generator_gives_one_seed_for_all_steps(model: Music2Latent) -> None:
    noise = noise_source(model.config, generator=torch.Generator().manual_seed(5))
    drawn = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(5)))
    expected = latent_noise(model.config, seed=drawn, n_items=1, n_latents=2, first_item=1, first_latent=7, step=3)
    assert torch.equal(noise(1, 7, 2, 3), expected)
    generator = torch.Generator().manual_seed(5)
    latents = long_latents(3)
    found = model.decode(latents, generator=generator, n_steps=2)
    assert np.array_equal(found, model.decode(latents, seed=drawn, n_steps=2))
    assert not np.array_equal(found, model.decode(latents, generator=generator, n_steps=2))


def test_shared_noise_keeps_dual_mono_mono(model: Music2Latent) -> None:
    latents = np.repeat(long_latents(3).reshape(1, 1, 64, -1), 2, axis=1)  # (clips, channels, 64, L)
    clips = np.concatenate([latents, 0.5 * latents])
    apart = model.decode(clips, n_steps=2, seed=4)
    assert not np.array_equal(apart[:, 0], apart[:, 1])
    shared = model.decode(clips, n_steps=2, seed=4, shared_noise=True)
    assert np.array_equal(shared[:, 0], shared[:, 1])
    assert not np.array_equal(shared[0], shared[1])
    assert np.array_equal(shared[0, 0], apart[0, 0])  # the noise of the first channel
    alone = model.decode(clips[0, 0], n_steps=2, seed=4, shared_noise=True)
    assert np.array_equal(alone, apart[0, 0])


# --- precision and arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", [False, True])
def test_a_double_model_computes_what_the_float_model_does(
    model: Music2Latent, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 0 if tiles else 1 << 60)
    double = Music2Latent(model.config)
    double.load_state_dict(model.state_dict())
    double = double.double().eval()
    audio, latents = signal(9000), long_latents(3)
    for call in (lambda m: m.encode(audio), lambda m: m.features(audio), lambda m: m.decode(latents, n_steps=2)):
        expected, found = call(model), call(double)
        assert found.dtype == np.float32
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("tiles", [False, True])
def test_the_default_dtype_changes_nothing(
    model: Music2Latent, tiles: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 0 if tiles else 1 << 60)
    model.save_pretrained(tmp_path)
    published = EncoderDecoder.around(model)

    def results() -> list[Any]:
        representation.window.cache_clear()
        representation.synthesis_window.cache_clear()
        loaded = Music2Latent.from_pretrained(tmp_path, device="cpu")
        torch.manual_seed(0)
        return [
            Music2Latent.from_config("tiny", seed=5).digest(),
            loaded.digest(),
            loaded.encode(signal(9000)),
            loaded.decode(long_latents(2), n_steps=2),
            published.encode(signal(9000)).numpy(),
            published.decode(long_latents(2), denoising_steps=2).numpy(),
        ]

    expected = results()
    torch.set_default_dtype(torch.float64)
    try:
        found = results()
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(found, expected, strict=True):
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
        assert np.array_equal(ours, theirs)


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def _negative_view(x: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(-x)
    return torch.complex(torch.zeros_like(tensor), tensor).conj().imag


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "column-major": np.asfortranarray,
    "big-endian": lambda x: x.astype(">f4"),
    "big-endian double": lambda x: x.astype(">f8"),
    "double": lambda x: x.astype(np.float64),
    "long double": lambda x: x.astype(np.longdouble),
    "read-only": _read_only,
    "list": lambda x: x.tolist(),
    "tensor": torch.from_numpy,
    "double tensor": lambda x: torch.from_numpy(x).double(),
    "conjugate view": _negative_view,
    "sparse tensor": lambda x: torch.from_numpy(x).to_sparse(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_is_the_same_numbers(bypass: Bypass, kind: str, length: str) -> None:
    model, published = bypass, EncoderDecoder.around(bypass)
    wrap, n = KINDS[kind], 70 if length == "windows" else 3
    audio, latents = signal(4096 * n), long_latents(n)
    start = np.random.default_rng(2).standard_normal((1, 2, 1024, 8 * n)).astype(np.float32)
    if kind == "list":  # a million of them take their time
        audio, latents, start = audio[:, :6000], latents[..., :1], start[..., :8]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.asarray(model.encode(wrap(audio))), model.encode(audio))
        found = model.decode(wrap(latents), noise=wrap(start))
        assert np.array_equal(np.asarray(found), model.decode(latents, noise=start))
        if length == "whole":
            assert torch.equal(published.encode(wrap(audio)), published.encode(audio))
            found = published.decode(wrap(latents), noise=wrap(start))
            assert torch.equal(found, published.decode(latents, noise=start))


@pytest.mark.parametrize("dtype", [">i2", "<i2", ">i4", "u1"])
def test_integer_audio_of_either_byte_order(bypass: Bypass, dtype: str) -> None:
    audio = np.random.default_rng(0).integers(0, 100, (1, 9000))
    expected = bypass.encode(audio.astype(np.dtype(dtype).newbyteorder("=")))
    found = bypass.encode(audio[:, ::-1].astype(dtype)[:, ::-1])
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.complex64),
        lambda x: x.astype(object),
        lambda x: x.astype(str),
        lambda x: torch.from_numpy(x).to(torch.complex64),
        lambda x: torch.from_numpy(x).int(),
        lambda x: x * np.nan,
        lambda x: x.astype(np.float64) * 1e300,
        lambda x: [[1.0], [1.0, 2.0]],
        lambda x: None,
    ],
)
def test_what_holds_no_finite_numbers_is_refused_at_every_length(
    bypass: Bypass, spoil: Callable[[np.ndarray], Any], length: str
) -> None:
    latents, published = spoil(long_latents(100 if length == "windows" else 3)), EncoderDecoder.around(bypass)
    with pytest.raises(ValueError, match="latents must be"):
        bypass.decode(latents)
    with pytest.raises(ValueError, match="noise must be"):
        bypass.decode(long_latents(3), noise="none" if latents is None else latents)
    with pytest.raises(ValueError, match="latent must be"):
        published.decode(latents)
    with pytest.raises(AudioError, match="audio"):
        published.encode(latents)


def test_the_same_latents_are_the_same_bytes(tmp_path: Path) -> None:
    latents = long_latents(9)
    info = LatentsInfo(
        channels=1, latent_dim=64, n_latents=9, sample_rate=44_100, samples=32_768, model_sample_rate=44_100,
        downsampling_ratio=4096, model="tiny", checkpoint="", digest="", source="a \u00fc.wav",
    )  # fmt: skip
    for index in range(6):
        write_latents(tmp_path / f"{index}.safetensors", latents[..., ::-1], info)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    found, again = read_latents(tmp_path / "0.safetensors")
    assert np.array_equal(found, latents[..., ::-1])
    assert again == info


# --- modes, gradients -------------------------------------------------------------------------------------------


def test_what_inference_mode_leaves_behind_can_be_trained_through(model: Music2Latent, tmp_path: Path) -> None:
    representation.window.cache_clear()
    representation.synthesis_window.cache_clear()
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        model.reconstruct(signal(9000))
        made = [Music2Latent.from_config("tiny"), Music2Latent.from_pretrained(tmp_path, device="cpu")]
    of_audio = []
    for _ in range(2):
        audio = torch.from_numpy(signal(9000)).requires_grad_()
        back = representation_to_waveform(waveform_to_representation(audio, model.config), model.config)
        of_audio.append(torch.autograd.grad(back.square().sum(), audio)[0])
        representation.window.cache_clear()  # the second time, all windows are made outside of inference mode
        representation.synthesis_window.cache_clear()
    assert torch.equal(*of_audio)
    parts = waveform_to_representation(audio.detach()[:, :9728], model.config)[..., :8]
    gradients = []
    for one in (*made, Music2Latent.from_config("tiny"), Music2Latent.from_pretrained(tmp_path, device="cpu")):
        one.encoder(parts).sum().backward()
        gradients.append(one.encoder.conv_in.weight.grad)
    assert all(torch.equal(found, ordinary) for found, ordinary in zip(gradients[:2], gradients[2:], strict=True))


def test_methods_say_that_a_gradient_ends(model: Music2Latent, published: EncoderDecoder) -> None:
    audio = torch.from_numpy(signal(9000)).requires_grad_()
    latents = torch.from_numpy(long_latents(3)).requires_grad_()
    parts = torch.zeros(1, 2, 1024, 8, requires_grad=True)
    calls: list[Callable[[], Any]] = [
        lambda: model.encode(audio),
        lambda: model.features(audio),
        lambda: model.reconstruct(audio),
        lambda: model.decode(latents),
        lambda: model.decode(latents=latents, seed=1),
        lambda: model.encode_representation(parts),
        lambda: published.encode(audio),
        lambda: published.decode(latents),
        lambda: inference.encode_audio_inference(audio, published, None, None),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="gradient.* ends here") as caught:
            assert not call().requires_grad
        assert len(caught) == 1
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error")
            call()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(audio.detach())


def test_the_documented_way_has_gradients(model: Music2Latent) -> None:
    config = model.config
    audio = torch.from_numpy(signal(4096 * 2 + 1536))
    audio[:, 2000:6000] = 0.0  # bins that are exactly zero have a slope, too
    audio.requires_grad_()
    latents = model.encoder(waveform_to_representation(audio, config)) / config.latent_scale
    whole = EncoderDecoder.around(model).encode(audio.detach())
    torch.testing.assert_close(latents.detach(), whole, rtol=1e-4, atol=1e-4)
    noise = torch.randn(1, 2, 1024, 16, generator=torch.Generator().manual_seed(0))
    maps = model.decoder(latents * config.latent_scale)
    back = representation_to_waveform(consistency.sample(model.unet, maps, noise, config), config)
    expected = EncoderDecoder.around(model).decode(latents.detach(), noise=noise)
    torch.testing.assert_close(back.detach(), expected, rtol=1e-4, atol=1e-4)
    back.square().sum().backward()
    assert audio.grad is not None
    assert bool(audio.grad.isfinite().all())
    assert float(audio.grad.abs().sum()) > 0


def test_silence_has_finite_slopes() -> None:
    silent = torch.zeros(1, 8192, requires_grad=True)
    to_waveform(to_representation_encoder(silent)).sum().backward()
    assert silent.grad is not None
    assert bool(silent.grad.isfinite().all())
