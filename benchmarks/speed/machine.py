"""What this machine can do: matrix products, convolutions and memory, measured beside a contest.

A ratio to a rival says who is faster, and nothing about how much faster one could be. A share of the machine's own
rate does: `Rates` are the best of several runs of torch's own operators, on sizes at which they do best.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Rates:
    """Of one precision and number of threads: GFLOP/s (two per multiplication with addition) and GB/s.

    Attributes:
        products: square matrix products.
        convolutions: 3 x 3 convolutions of 2-D maps, of 64 to 256 channels, whichever is fastest.
        memory: reading two arrays that no cache holds and writing a third.
    """

    products: float
    convolutions: float
    memory: float


def measure_rates(device: str = "cpu", dtype: torch.dtype = torch.float32, repeats: int = 5) -> Rates:
    """The machine's rates, with the threads that torch has now; takes some seconds.

    Args:
        device: where to measure.
        dtype: of all operands.
        repeats: runs of each, of which the best counts.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else (lambda: None)
    options: dict[str, Any] = {"device": device, "dtype": dtype}

    def best(call: Callable[[], Any]) -> float:
        found: list[float] = []
        # The first run warms up. A precision that the processor lacks may take seconds: one is enough then.
        while len(found) < 2 or (len(found) <= repeats and sum(found) < 1.0):
            start = time.perf_counter()
            call()
            wait()
            found.append(time.perf_counter() - start)
        return min(found[1:])

    with torch.no_grad():
        a, b = torch.randn(1024, 1024, **options), torch.randn(1024, 1024, **options)
        products = 2 * 1024**3 / best(lambda: a @ b)
        # Maps of a few MB, which the caches of a processor hold, as our tiles are.
        convolved = 0.0
        for channels in (64, 128, 256):
            maps = torch.randn(1, channels, 64, 4096 // channels, **options)
            kernel = torch.randn(channels, channels, 3, 3, **options)
            work = 2 * 9 * channels * maps.numel()
            convolved = max(convolved, work / best(lambda: functional.conv2d(maps, kernel, padding=1)))  # noqa: B023
        x, y, out = (torch.randn(1 << 25, **options) for _ in range(3))
        moved = 3 * x.nbytes / best(lambda: torch.add(x, y, out=out))
    return Rates(products / 1e9, convolved / 1e9, moved / 1e9)


def count_flops(call: Callable[[], Any]) -> float:
    """GFLOP of the convolutions and matrix products in one call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9
