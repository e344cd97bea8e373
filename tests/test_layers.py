"""Layers that compute the same as the formula they stand for, by another way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

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
    expected = layer.conv(F.interpolate(x, scale_factor=factor, mode="nearest"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((out * weight).sum(), variables) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
