"""The two matrix products and the Adam update that probe training spends its time in."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.optim.adam import adam


@cache
def _onednn_linear() -> Callable[..., Tensor] | None:
    """oneDNN's float32 linear, if this torch has it.

    torch sends float32 products to MKL, which leaves AVX-512 unused on some processors; oneDNN's kernel
    then takes half the time at the same rounding (relative error 2e-7). Checked once, on a small product,
    because the operator is not part of torch's public interface.
    """
    try:
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return None
        linear = torch.ops.mkldnn._linear_pointwise
        a, b = torch.eye(4), torch.arange(16.0).view(4, 4)
        if torch.equal(linear(a, b, None, "none", [], ""), b.t()):
            return linear
    except (AttributeError, RuntimeError):
        pass
    return None


def matmul_nt(a: Tensor, b: Tensor) -> Tensor:
    """a (m, k) times the transpose of b (n, k) -> (m, n)."""
    if a.dtype == torch.float32 and a.device.type == "cpu" and a.shape[1] >= 256:
        linear = _onednn_linear()
        if linear is not None:
            return linear(a, b, None, "none", [], "")
    return torch.mm(a, b.t())


def matmul_tn(a: Tensor, b: Tensor) -> Tensor:
    """The transpose of a (k, m) times b (k, n) -> (m, n)."""
    if a.dtype == torch.float32 and a.device.type == "cpu" and b.shape[1] >= 256:
        linear = _onednn_linear()
        if linear is not None:
            return linear(a.t(), b.t(), None, "none", [], "")
    return torch.mm(a.t(), b)


def fused_adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps_before: int,
    learning_rate: float,
    weight_decay: float,
    epsilon: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> None:
    """One Adam step in place, in Keras' form, through torch's fused kernel.

    Keras adds ε to sqrt(v), torch to sqrt(v / (1 - β2ᵗ)); with torch's ε set to ε / sqrt(1 - β2ᵗ) the two
    are the same update. `weight_decay` is added to the gradient (coupled L2).
    """
    correction = (1.0 - betas[1] ** (steps_before + 1)) ** 0.5
    adam(
        parameters,
        gradients,
        means,
        squares,
        [],
        [torch.tensor(float(steps_before), device=p.device) for p in parameters],
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=learning_rate,
        weight_decay=weight_decay,
        eps=epsilon / correction,
        maximize=False,
    )
