"""What dependents of the published package import, call and seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_helpers import moved_model

from m2l import EncoderDecoder, Music2Latent, consistency, inference
from m2l.audio import to_representation_encoder, to_waveform
from m2l.representation import representation_to_waveform, waveform_to_representation


@pytest.fixture(scope="module")
def model() -> Music2Latent:
    return moved_model()


@pytest.fixture(scope="module")
def published(model: Music2Latent) -> EncoderDecoder:
    return EncoderDecoder.around(model)


def signal(samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, samples)).astype(np.float32)


def test_the_network_is_called_as_the_published_one(model: Music2Latent) -> None:
    gen, config = EncoderDecoder.around(model).gen, model.config
    audio = torch.from_numpy(signal(1536 + 4096 * 2))
    parts = to_representation_encoder(audio)
    assert torch.equal(parts, waveform_to_representation(audio, config))
    assert torch.equal(to_waveform(parts), representation_to_waveform(parts, config))
    with torch.no_grad():
        latents = gen.encoder(parts)
        assert torch.equal(gen.encoder(parts, extract_features=True), gen.encoder.features(parts))
        noise = torch.randn(2, 2, 1024, 16, generator=torch.Generator().manual_seed(0))
        maps = gen.decoder(latents)
        for found, sigma in (
            (gen(latents, 80 * noise), 80.0),
            (gen(latents, noise, sigma=1.0), 1.0),
            (gen(parts, noise, torch.full((2,), 1.0)), 1.0),
            (gen(latents, noise, 1.0, maps), 1.0),
        ):
            level = torch.full((2,), sigma)
            expected = consistency.denoise(gen.unet, noise if sigma == 1 else 80 * noise, level, maps, config)
            torch.testing.assert_close(found, expected)


def test_functions_of_the_published_modules(published: EncoderDecoder) -> None:
    class Trainer:
        gen = published.gen

    audio = signal(1536 + 4096 * 5)
    latents = inference.encode_audio_inference(audio, Trainer(), 2 * 4096, 1, device="cpu")
    assert torch.equal(latents, published.encode(audio, 2 * 4096, 1))
    features = inference.encode_audio_inference(audio, Trainer(), 44_100, 1, "cpu", extract_features=True)
    assert torch.equal(features, published.encode(audio, extract_features=True))
    torch.manual_seed(3)
    decoded = inference.decode_latent_inference(latents, Trainer(), 2 * 4096, 1, diffusion_steps=2, device="cpu")
    torch.manual_seed(3)
    assert torch.equal(decoded, published.decode(latents, 2, 2 * 4096, 1))
    torch.manual_seed(3)
    parts = inference.decode_to_representation(published.gen, latents[:1] * 0.06, 2, "cpu")
    torch.manual_seed(3)
    torch.testing.assert_close(to_waveform(parts), published.decode(latents[:1], 2))


@pytest.mark.parametrize(("longest", "size"), [(None, 1), (None, 2), (4, 1), (2, 1), (2, 2)])
def test_global_noise_is_drawn_in_the_published_order(
    published: EncoderDecoder, longest: int | None, size: int
) -> None:
    """Batch by batch: the start, then once more after every step, the last included.

    Where pieces just fill the signal the published class decodes one more of them, and draws for it.
    """
    latents = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 64, 4)).repeat(2, 0).astype(np.float32))
    length, pieces = (4, 1) if longest in (None, 4) else (2, 3)
    cut = torch.cat([*latents.split(length, -1)])
    torch.manual_seed(11)
    parts = []
    for first in range(0, 2 * pieces, size):
        draws = [torch.randn(size, 2, 1024, 8 * length) for _ in range(3)]
        if first < len(cut):
            part = published.gen.decode_representation(
                cut[first : first + size], draws[0], n_steps=2, renoise=lambda _, step, draws=draws: draws[step]
            )
            parts.append(part)
    after = torch.rand(3)
    whole = torch.cat(torch.cat(parts).split(2), -1)
    torch.manual_seed(11)
    found = published.decode(latents, 2, None if longest is None else longest * 4096, size)
    assert torch.equal(torch.rand(3), after)
    torch.testing.assert_close(found, representation_to_waveform(whole, published.gen.config))
