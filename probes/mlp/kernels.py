"""The two matrix products and the Adam update that probe training spends its time in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from m2l.kernels.elements import FLAGS, Array, as_array, in_threads, narrow, widen
from m2l.kernels.jit import jit


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
    if len(a) < len(b):  # as rows of the result, the longer side fills the kernels better
        return matmul_nt(b, a).t()
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
    rounded: list[Tensor] | None = None,
) -> None:
    """One Adam step in place, in Keras' form: w -= lr·sqrt(1-β2ᵗ)/(1-β1ᵗ)·m/(sqrt(v) + ε), in one pass over memory.

    Args:
        parameters, means, squares: contiguous, alike in shape and precision: w, m and v of each array of weights.
        gradients: like them, or in bfloat16.
        steps_before: t - 1.
        learning_rate: lr.
        weight_decay: times w, added to the gradient (coupled L2).
        epsilon: ε, added to sqrt(v) before any bias correction.
        betas: β1 and β2.
        rounded: bfloat16 copies of `parameters`, which follow them.
    """
    if parameters[0].device.type != "cpu":
        return _adam_by_torch(
            parameters, gradients, means, squares, steps_before, learning_rate, weight_decay, epsilon, betas, rounded
        )
    correction = (1.0 - betas[1] ** (steps_before + 1)) ** 0.5 / (1.0 - betas[0] ** (steps_before + 1))
    numbers = (learning_rate * correction, weight_decay, epsilon, 1.0 - betas[0], 1.0 - betas[1])
    for row, tensors in enumerate(zip(parameters, gradients, means, squares, strict=True)):
        _adam_in_threads(*tensors, None if rounded is None else rounded[row], numbers)
    return None


def _adam_in_threads(w: Tensor, g: Tensor, m: Tensor, v: Tensor, half: Tensor | None, numbers: Iterable[float]) -> None:
    arrays = [as_array(x) for x in (w, g, m, v)]
    copy = None if half is None else as_array(half)
    scalars = [arrays[0].dtype.type(number) for number in numbers]
    in_threads(
        lambda part: _adam(*(x[part] for x in arrays), None if copy is None else copy[part], *scalars), arrays[0].size
    )


@jit(fastmath=FLAGS, error_model="numpy")
def _adam(
    w: Array, g: Array, m: Array, v: Array, half: Array | None, rate: Any, decay: Any, epsilon: Any, a: Any, b: Any
) -> None:
    """`a` and `b` are 1 - β1 and 1 - β2."""
    for i in range(len(w)):
        gradient = widen(g[i]) + decay * w[i]
        m[i] += a * (gradient - m[i])
        v[i] += b * (gradient * gradient - v[i])
        w[i] -= rate * m[i] / (np.sqrt(v[i]) + epsilon)
        if half is not None:
            half[i] = narrow(w[i], half)


def _adam_by_torch(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps_before: int,
    learning_rate: float,
    weight_decay: float,
    epsilon: float,
    betas: tuple[float, float],
    rounded: list[Tensor] | None,
) -> None:
    """Torch adds ε to sqrt(v / (1 - β2ᵗ)): with its ε set to ε / sqrt(1 - β2ᵗ) the two are the same update."""
    correction = (1.0 - betas[1] ** (steps_before + 1)) ** 0.5
    adam(
        parameters,
        [gradient.to(p.dtype) for gradient, p in zip(gradients, parameters, strict=True)],
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
    for copy, parameter in zip(rounded or [], parameters, strict=False):
        copy.copy_(parameter)
