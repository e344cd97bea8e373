"""Building networks without touching what threads share: no global generator, default dtype or default device.

`torch.random.fork_rng` and `with torch.device("meta")` change the state of the whole process for a while: two threads
inside them at once get each other's random numbers, or leave the wrong state behind. A torch function mode belongs to
its thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FACTORIES = {torch.empty, torch.ones, torch.zeros}
#: The draws that layers make as they are built: in place, directly or by `torch.nn.init`, which passes through here.
_DRAWS = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.uniform_,
}


class _Construction(TorchFunctionMode):
    def __init__(self, device: torch.device, generator: torch.Generator | None) -> None:
        super().__init__()
        self.device, self.generator = device, generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES:
            kwargs["device"] = kwargs.get("device") or self.device
            kwargs["dtype"] = kwargs.get("dtype") or torch.float32
        elif func in _DRAWS and self.generator is not None and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


@contextmanager
def constructing(seed: int | None) -> Iterator[None]:
    """Layers built in this block are float32, with weights drawn from `seed`; with None they have shapes only.

    They can be trained afterward, also if the block is inside `torch.inference_mode`.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    device = torch.device("meta" if seed is None else "cpu")
    with torch.inference_mode(False), _Construction(device, generator):
        yield
