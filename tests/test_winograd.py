"""Winograd's convolution equals torch's within the error that its documentation states."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2l.kernels import winograd


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(channels: int, out_channels: int, padding: int = 1, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, out_channels, 3, padding=padding, bias=bias)


def relative_error(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape
    return float((found.double() - exact).norm() / exact.norm())


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 12, 31])
@pytest.mark.parametrize(("padding", "bins"), [(1, 7), (0, 16)])
def test_any_number_of_frames(frames: int, padding: int, bins: int) -> None:
    """Values, bias and padding of bins, against float64; neighboring frames come with the tile."""
    conv = layer(32, 48, padding)
    tile = draw(1, 32, frames + 2, bins).contiguous(memory_format=torch.channels_last)
    bias = draw(48, seed=1)
    exact = F.conv2d(tile.double(), conv.weight.double().transpose(2, 3), bias.double(), padding=(0, padding))
    found = winograd.convolution(conv, bias)(tile)
    assert relative_error(found, exact) < 1.5e-6
    assert found.is_contiguous(memory_format=torch.channels_last)
    without = winograd.convolution(conv, None)(tile)
    assert relative_error(without, exact - bias.double()[:, None, None]) < 1.5e-6


@torch.no_grad()
def test_error_of_many_channels_after_silu() -> None:
    """What the UNet's widest layers see: an error below 2e-6."""
    conv = layer(512, 64)
    tile = F.silu(draw(1, 512, 10, 32))
    exact = F.conv2d(tile.double(), conv.weight.double().transpose(2, 3), padding=(0, 1))
    assert relative_error(winograd.convolution(conv, None)(tile), exact) < 2e-6


@torch.no_grad()
def test_threads_change_no_bit_of_the_transforms() -> None:
    x, bias = draw(34, 70 * 64).numpy(), draw(70 * 64, seed=1).numpy()
    found = []
    before = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        points, out = torch.empty(6, 8, 70 * 64), torch.empty(32, 70 * 64)
        winograd._to_points(x, points.numpy())
        winograd._from_points(list(points.numpy()), bias, out.numpy())
        found.append((points, out))
    torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_other_layers_are_left_to_torch() -> None:
    assert winograd.applies(layer(32, 32), torch.float32)
    others = [
        nn.Conv2d(32, 31, 3),
        nn.Conv2d(31, 32, 3),
        nn.Conv2d(32, 32, (1, 3)),
        nn.Conv2d(32, 32, 3, stride=(1, 2)),
        nn.Conv2d(32, 32, 3, dilation=2),
        nn.Conv2d(64, 64, 3, groups=2),
        layer(32, 32).double(),
    ]
    for conv in others:
        assert not winograd.applies(conv, torch.float32)
        with pytest.raises(ValueError, match="no Winograd convolution for Conv2d"):
            winograd.convolution(conv, None)
    assert not winograd.applies(layer(32, 32), torch.bfloat16)
