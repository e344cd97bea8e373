"""Layers that compute the same as the formula they stand for, by another way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from m2l.kernels.convolution import FEW_CHANNELS, Conv2d
from m2l.layers import Upsample


@settings(max_examples=40, deadline=None)
@given(
    factor=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 7)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    batch=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_upsample_is_repetition_and_a_convolution(
    factor: tuple[int, int], size: tuple[int, int], channels: tuple[int, int], batch: int, seed: int
) -> None:
    """Values, and gradients of input, kernel and bias."""
    factor = tuple(1 if one == 3 else one for one in factor)  # type: ignore[assignment]  # kernels have a middle
    torch.manual_seed(seed)
    layer = Upsample(*channels, factor)
    x = torch.randn(batch, channels[0], *size, requires_grad=True)
    variables = (x, *layer.parameters())
    found = layer(x)
    expected = nn.Conv2d.forward(layer.conv, F.interpolate(x, scale_factor=factor, mode="nearest"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), variables) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.tuples(st.integers(1, FEW_CHANNELS), st.integers(1, FEW_CHANNELS)),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 1)]),
    stride=st.sampled_from([(1, 1), (2, 2), (4, 1)]),
    bias=st.booleans(),
    of_input=st.booleans(),
    batch=st.integers(1, 3),
)
def test_convolution_of_few_channels_is_torchs(
    channels: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], bias: bool, of_input: bool, batch: int
) -> None:
    """Values to the bit; gradients of kernel, bias and input; and planes come back, whatever was made of them."""
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2)
    layer = Conv2d(*channels, kernel, stride=stride, padding=padding, bias=bias)
    x = torch.randn(batch, channels[0], 12, 10, requires_grad=of_input)
    variables = [v for v in (x, *layer.parameters()) if v.requires_grad]
    found, expected = layer(x), nn.Conv2d.forward(layer, x)
    assert torch.equal(found, expected)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), variables) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert ours.is_contiguous()
