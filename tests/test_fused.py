"""The compiled passes over feature maps give torch's numbers, in both precisions and for any size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from m2l.kernels import fused

#: Of a result to the nearest float32 or bfloat16 of the exact one, relative.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
#: Less than a period, no multiple of one, and several chunks.
SHAPES = [(3, 5), (1000, 4), (700, 48), (9000, 24)]


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def draw(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return (3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def assert_close(found: Tensor, exact: Tensor, floor: float = 1e-6) -> None:
    error = (found.double() - exact).abs() / exact.abs().clamp_min(floor)
    assert float(error.max()) <= TOLERANCE[found.dtype]


@pytest.mark.parametrize("dtype", fused.DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activate", [False, True])
def test_normalize(shape: tuple[int, int], activate: bool, dtype: torch.dtype, threads: int) -> None:
    x, out = draw(shape, dtype), torch.empty(shape, dtype=dtype)
    gain, offset = draw(shape[1:], torch.float32, 1), draw(shape[1:], torch.float32, 2)
    fused.normalize(x, gain, offset, activate, out)
    exact = x.double() * gain.double() + offset.double()
    # A sum near 0 is as exact as its terms.
    assert_close(out, F.silu(exact) if activate else exact, floor=0.5)


@pytest.mark.parametrize("dtype", fused.DTYPES)
def test_silu_of_any_number(dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-8, 80, 999), torch.tensor([0.0, -0.0, 1e-20, 500.0, 3e38, -500.0])])
    x = x.to(dtype)[:, None]
    out = torch.empty_like(x)
    fused.normalize(x, torch.ones(1), torch.zeros(1), True, out)
    assert_close(out, F.silu(x.double()), floor=1e-28)
    strange = torch.tensor([[float("nan")], [float("inf")]], dtype=dtype)
    fused.normalize(strange, torch.ones(1), torch.zeros(1), True, strange)
    assert torch.isnan(strange[0])
    assert strange[1] == float("inf")


@pytest.mark.parametrize("dtype", fused.DTYPES)
@pytest.mark.parametrize("terms", [2, 3])
def test_add(terms: int, dtype: torch.dtype, threads: int) -> None:
    maps = [draw((9000, 24), dtype, seed) for seed in range(terms)]
    out = torch.empty_like(maps[0])
    fused.add(*maps, scale=0.57, out=out)
    assert_close(out, 0.57 * torch.stack(maps).double().sum(dim=0), floor=5.0)


@pytest.mark.parametrize("dtype", fused.DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_sums(shape: tuple[int, int], mean: float, dtype: torch.dtype, threads: int) -> None:
    x = draw(shape, dtype) + torch.tensor(mean, dtype=dtype)
    total, square = fused.sums(x)
    exact = x.double()
    variance = square / len(x) - (total / len(x)) ** 2
    assert torch.allclose(total / len(x), exact.mean(dim=0), rtol=1e-6, atol=1e-6)
    assert torch.allclose(variance, exact.var(dim=0, correction=0), rtol=1e-5)


def test_threads_change_no_bit() -> None:
    x, gain = draw((9000, 48), torch.float32), draw((48,), torch.float32, 1)
    found = []
    before = torch.get_num_threads()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        out = torch.empty_like(x)
        fused.normalize(x, gain, gain, True, out)
        found.append((out, fused.sums(x)))
    torch.set_num_threads(before)
    for out, sums in found[1:]:
        assert torch.equal(out, found[0][0])
        assert torch.equal(sums, found[0][1])
