"""Tiles of time give the numbers of the ordinary path, whatever their size."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch

from m2l import Music2Latent, create_config
from m2l.kernels import memory, steps, tiled


def randomized(preset: str) -> Music2Latent:
    # Fresh weights hold zeros that would hide errors behind them.
    model = Music2Latent.from_config(create_config(preset)).to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def run(model: Music2Latent, frames: int, items: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    representation = 0.3 * torch.randn(items, 2, 1024, frames, generator=generator)
    noise = torch.randn(items, 2, 1024, frames, generator=generator)
    latents = model.encode_representation(representation)
    return latents, model.features_representation(representation), model.decode_representation(latents, noise)


@pytest.mark.parametrize("tile_bytes", [1, 300_000, 3_000_000])
@pytest.mark.parametrize(("preset", "frames"), [("tiny", 8), ("tiny", 72), ("mini", 40)])
def test_tiles_equal_the_whole(preset: str, frames: int, tile_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomized(preset)
    monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 1 << 60)
    expected = run(model, frames)
    monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr(tiled, "TILE_BYTES", tile_bytes)
    for found, whole in zip(run(model, frames), expected, strict=True):
        assert found.shape == whole.shape
        assert float((found - whole).norm() / whole.norm()) < 1e-4


def test_statistics_survive_an_offset() -> None:
    norm = torch.nn.GroupNorm(4, 16)
    x = torch.randn(1, 16, 64, 50, generator=torch.Generator().manual_seed(0)) + 3
    with torch.no_grad():
        found = tiled.moments_of(norm, x).normalize(activate=False)(tiled.tile_of(x, 0, 50)).transpose(2, 3)
    expected = torch.nn.functional.group_norm(x.double(), 4).float()
    assert float((found - expected).abs().max()) < 1e-4


def test_gradients_keep_to_the_ordinary_path(monkeypatch: pytest.MonkeyPatch) -> None:
    x, gradients = torch.randn(1, 2, 1024, 8, generator=torch.Generator().manual_seed(0)), []
    for worthwhile in (steps.WORTHWHILE_BYTES, 0):
        monkeypatch.setattr(steps, "WORTHWHILE_BYTES", worthwhile)
        model = randomized("tiny")
        model.encoder(x).sum().backward()
        gradients.append(model.encoder.conv_in.weight.grad)
    assert float(gradients[0].norm()) > 0
    assert torch.equal(*gradients)


def test_memory_goes_round_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = memory.Pool()
    with pool.lending():
        first = pool.take(5000)
        address = first.ctypes.data
        del first
        again = pool.take(5000)
        assert again.ctypes.data == address
        assert pool.take(5000).ctypes.data != address  # still in use
        del again
    assert sum(len(waiting) for waiting in pool.free.values()) == 2  # kept for the next call
    with pool.lending():
        pool.take(7000)
    assert set(pool.free) == {7000}  # what a call did not use is let go
    monkeypatch.setattr(pool, "KEEP_BYTES", 100)
    with pool.lending():
        pool.take(7000)
    assert not any(pool.free.values())


def test_memory_of_maps_goes_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 0)
    model = randomized("tiny")
    run(model, 64, items=1)
    assert sum(map(len, model._pool.free.values())) > 0  # kept for the next call
    waiting = [weakref.ref(memory) for memories in model._pool.free.values() for memory in memories]
    copied = copy.deepcopy(model)  # with a pool of its own
    assert copied._pool is not model._pool
    assert not copied._pool.free
    del model
    gc.collect()
    assert not any(memory() is not None for memory in waiting)


def test_a_model_in_training_mode_keeps_to_the_ordinary_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTHWHILE_BYTES", 0)
    model = randomized("tiny")
    whole = run(model.train(), 16, items=1)
    monkeypatch.setattr(tiled, "normalized_convolutions", None)  # nothing in tiles may be called
    for found, expected in zip(run(model, 16, items=1), whole, strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(TypeError):
        run(model.eval(), 16, items=1)
