"""Parity with the published model: every array of the oracle within 1e-4 relative error.

The golden file is a subsample of the oracle (figures only); its weights are a formula of the parameters' names.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from m2l import EncoderDecoder, Music2Latent, consistency, create_config
from m2l.io.published import key_map
from m2l.kernels import steps
from m2l.representation import representation_to_waveform, waveform_to_representation
from m2l.training import losses

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The oracle's weights, seed 0."""
    draw = np.random.Generator(np.random.PCG64([0, zlib.crc32(name.encode())])).standard_normal(shape)
    draw = draw.astype(np.float32)
    if len(shape) > 1 and not name.endswith("gain.scale"):
        return draw * np.float32(float(np.prod(shape[1:])) ** -0.5)
    scales = ("norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight", "prenorm_1d_to_2d.weight")
    if name.endswith((*scales, "gain.scale")):
        return np.float32(1.0) + np.float32(0.1) * draw
    return np.float32(0.1) * draw


def waveform(seconds: float, channels: int, seed: int = 0) -> np.ndarray:
    """The oracle's signal: decaying harmonic notes and a little noise, peak 0.5, at 44.1 kHz."""
    n = round(seconds * 44_100)
    t = np.arange(n, dtype=np.float64) / 44_100
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    out = np.zeros((channels, n))
    for channel in out:
        for _ in range(12):
            f0 = 55.0 * 2 ** rng.uniform(0, 5)
            start = rng.uniform(0, max(seconds - 0.1, 0.0))
            local = np.clip(t - start, 0, None)
            envelope = (t >= start) * np.exp(-local * rng.uniform(1, 8))
            for k in range(1, 7):
                if f0 * k < 22_050:
                    level, phase = rng.uniform(0.2, 1), rng.uniform(0, 6.28)
                    channel += envelope * level / k * np.sin(2 * np.pi * f0 * k * t + phase)
        channel += 0.002 * rng.standard_normal(n)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def noise(stream: int, *shape: int) -> torch.Tensor:
    draw = np.random.Generator(np.random.PCG64([0, stream])).standard_normal(shape)
    return torch.from_numpy(draw.astype(np.float32))


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    assert tuple(found.shape) == expected.shape
    return float(np.linalg.norm(found.numpy() - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "music2latent_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the published format, numpy scalars included."""
    shapes = json.loads((GOLDEN / "music2latent_shapes.json").read_text())
    state = {name: torch.from_numpy(weight(name, tuple(shape))) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("published") / "music2latent.pt"
    torch.save({"gen_state_dict": state, "it": np.int64(800_000), "best_fad": np.float64(1.176)}, path)
    return path


@pytest.fixture(scope="module")
def published(checkpoint: Path) -> EncoderDecoder:
    return EncoderDecoder(load_path_inference=checkpoint, device="cpu")


@pytest.fixture(scope="module")
def model(published: EncoderDecoder) -> Music2Latent:
    return published.gen


def test_paper_preset_has_the_published_parameters() -> None:
    config = create_config("paper")
    with torch.device("meta"):
        empty = Music2Latent(config)
    assert sum(parameter.numel() for parameter in empty.parameters()) == 58_185_026
    shapes = json.loads((GOLDEN / "music2latent_shapes.json").read_text())
    names = key_map(config)
    assert {theirs: list(empty.state_dict()[ours].shape) for theirs, ours in names.items()} == shapes
    assert set(names.values()) == set(empty.state_dict())


@pytest.mark.parametrize("path", ["default", pytest.param("tiled", marks=pytest.mark.slow)])
def test_every_stage_meets_the_oracle(
    model: Music2Latent, golden: dict[str, np.ndarray], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "tiled":
        monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 0)
    config = model.config
    representation = waveform_to_representation(torch.from_numpy(waveform(2.0, 2)), config)[..., :64]
    assert relative_error(representation[:, :, ::8, ::2], golden["representation"]) < TOLERANCE
    back = representation_to_waveform(representation, config)
    assert relative_error(back[:, ::4], golden["waveform_roundtrip"]) < TOLERANCE
    start = noise(11, 2, 2, 1024, 64)
    with torch.no_grad():
        features = model.encoder.features(representation)
        latents = model.encoder.latents(features)
        feature_maps = model.decoder(latents)
        assert relative_error(features[:, ::16], golden["features"]) < TOLERANCE
        assert relative_error(latents, golden["latents_raw"]) < TOLERANCE
        for level, found in enumerate(feature_maps):
            bins, frames = found.shape[2:]
            sub = found[:, ::8, :: max(1, bins // 16), :: max(1, frames // 16)]
            assert relative_error(sub, golden[f"pyramid{level}"]) < TOLERANCE
        # Each takes seconds; decoding starts at sigma_max, and the test of it meets the oracle there.
        for sigma, item in ((2.5, [0]), (80.0, [0]), (0.05, [1])) if path == "tiled" else ():
            noisy = (80 * start if sigma == 80 else representation + sigma * start)[item]
            maps = [level[item] for level in feature_maps]
            clean = consistency.denoise(model.unet, noisy, torch.tensor([sigma]), maps, config)
            assert relative_error(clean[:, :, ::16, ::4], golden[f"denoised_sigma_{sigma}"][item]) < TOLERANCE


def test_encoder_decoder_meets_the_oracle(published: EncoderDecoder, golden: dict[str, np.ndarray]) -> None:
    audio = waveform(2.0, 2)
    # One channel of the two: both went through every stage above.
    latents = published.encode(audio[1:])
    assert relative_error(latents, golden["encode"][1:]) < TOLERANCE
    features = published.encode(torch.from_numpy(audio[1:]), extract_features=True)
    assert relative_error(features.mean(-1), golden["encode_features_mean"][1:]) < TOLERANCE
    start = noise(13, 2, 2, 1024, 8 * latents.shape[-1])
    decoded = published.decode(latents.numpy(), noise=start[1:])
    assert relative_error(decoded[:, ::8], golden["decode"][1:]) < TOLERANCE


def test_bfloat16_decodes_the_same_latents(published: EncoderDecoder, checkpoint: Path) -> None:
    half = EncoderDecoder(checkpoint, device="cpu", dtype="bfloat16")
    latents = published.encode(waveform(0.15, 1))
    start = noise(13, 1, 2, 1024, 8 * latents.shape[-1])
    expected = published.decode(latents, noise=start)
    assert relative_error(half.decode(latents, noise=start), expected.numpy()) < 3e-2


def test_levels_distance_and_weight_of_a_training_step_meet_the_oracle() -> None:
    """Eq. 9, 12 and 13 without a network: outputs as far apart as the oracle's are have its losses."""
    expected = json.loads((GOLDEN / "training_step_reference.json").read_text())
    config, t = create_config("paper"), torch.tensor(expected["t"])
    sigma_next, sigma = (consistency.sigma_from_t(time, config) for time in (t, t - expected["delta_t"]))
    np.testing.assert_allclose(sigma_next, expected["sigma_next"], rtol=1e-5)
    np.testing.assert_allclose(sigma, expected["sigma"], rtol=1e-5)
    c, distance = expected["pseudo_huber_c"], torch.tensor(expected["distance_per_item"])
    student = torch.zeros(2, 2, 1024, 64)
    student[:, 1, 7, 5] = ((distance + c).square() - c**2).sqrt()
    np.testing.assert_allclose(losses.pseudo_huber(student, 0 * student), distance, rtol=1e-4)
    loss = losses.weighted_distance(student, 0 * student, sigma_next - sigma)
    np.testing.assert_allclose(loss, expected["loss_per_item"], rtol=1e-4)


@pytest.mark.slow
def test_training_step_meets_the_oracle(model: Music2Latent) -> None:
    """Loss, distances and gradient norms per module of one consistency training step (Eq. 10-12)."""
    expected = json.loads((GOLDEN / "training_step_reference.json").read_text())
    config = model.config
    audio = np.concatenate([waveform(34_304 / 44_100, 1, seed=seed) for seed in (0, 1)])
    representation = waveform_to_representation(torch.from_numpy(audio), config)
    model.zero_grad()
    loss = losses.consistency_loss(
        model, representation, torch.tensor(expected["t"]), expected["delta_t"], noise(17, 2, 2, 1024, 64)
    )
    loss.mean().backward()
    np.testing.assert_allclose(loss.detach().numpy(), expected["loss_per_item"], rtol=1e-3)
    gap = np.array(expected["sigma_next"]) - np.array(expected["sigma"])
    np.testing.assert_allclose(loss.detach().numpy() * gap, expected["distance_per_item"], rtol=1e-3)
    theirs = {ours: name.split(".")[0] for name, ours in key_map(config).items()}
    norms: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            module = theirs[name]
            norms[module] = norms.get(module, 0.0) + float(parameter.grad.double().square().sum())
    found = {module: square**0.5 for module, square in norms.items()}
    assert found == pytest.approx(expected["grad_norm_by_module"], rel=1e-3)
    model.zero_grad()
