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
@pytest.mark.parametrize(("padding", "bins"), [(1, 1), (1, 4), (1, 7), (1, 9), (0, 3), (0, 16), (2, 5)])
def test_any_number_of_frames_and_bins(frames: int, padding: int, bins: int) -> None:
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
@pytest.mark.parametrize("edge", [0, -1])
def test_a_large_value_changes_only_what_it_reaches(edge: int) -> None:
    """A tap of the kernel at an edge of the map, where the transforms see padding."""
    conv = layer(32, 32, bias=False)
    tile = torch.zeros(1, 32, 10, 12)
    tile[0, 0, :, edge] = 1.0
    found = winograd.convolution(conv, None)(tile)
    weight = conv.weight[:, 0, 1].sum(1)  # all three frames, the middle bin
    torch.testing.assert_close(found[0, :, 3, edge], weight, rtol=1e-5, atol=1e-6)
    assert float(found[0, :, :, 4:8].abs().max()) < 1e-6


@torch.no_grad()
def test_threads_change_no_bit_of_the_transforms() -> None:
    x, bias = draw(34, 280 * 64).numpy(), draw(64, seed=1).numpy()
    found = []
    before = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        points, out = winograd._to_points(x, 1, 8, 70, 64), torch.empty(32, 280 * 64)
        winograd._from_points(points.numpy(), bias, out.numpy())
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
