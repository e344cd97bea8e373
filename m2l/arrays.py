"""Arrays of any kind in, the same kind out; names of dtypes and devices; a warning where a gradient ends."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

Method = TypeVar("Method", bound=Callable[..., Any])
Module = TypeVar("Module", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def float_tensor(array: Any, name: str) -> Tensor:
    """Any array of floating point numbers as a plain float32 tensor where it is.

    Args:
        array: torch tensor, numpy array or nested list; reversed, big-endian, read-only, conjugate and sparse ones too.
        name: what the error messages call it.

    Returns:
        float32, of the same shape; it may share memory with the input.

    Raises:
        ValueError: if it does not hold floating point numbers, or not only finite ones.
    """
    if isinstance(array, Tensor):
        tensor, floating = array.detach(), array.is_floating_point()
        if floating:
            tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
            tensor = tensor.resolve_neg().float()
    else:
        try:
            numbers = np.asarray(array)
        except ValueError as error:
            raise ValueError(f"{name} must be an array of numbers: {error}") from None
        floating = numbers.dtype.kind == "f"
        if floating:
            with np.errstate(over="ignore"):  # beyond float32 it is not finite, which is said below
                tensor = torch.from_numpy(np.require(numbers, np.float32, ["C", "W"]))
    if not floating:
        kind = getattr(array, "dtype", None) or type(array).__name__
        raise ValueError(f"{name} must be finite floating point numbers, not {kind}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} must be finite floating point numbers; some are NaN or infinite in float32")
    return tensor


def like(original: Any, result: Tensor) -> Any:
    """The result as a tensor on the original's device if that is a tensor, else as a numpy array."""
    if isinstance(original, Tensor):
        return result.to(original.device)
    return result.cpu().numpy()


def without_gradients(method: Method) -> Method:
    """Run a method without gradients, with a warning if one of its inputs asks for one."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], str | os.PathLike):  # in place of `self`: called on the class
            name = f"{method.__name__}({os.fspath(args[0])!r})"
            raise TypeError(f"{method.__qualname__} needs a model: m2l.load('mini').{name}")
        inputs = (*args, *kwargs.values())
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            warnings.warn(
                f"{method.__name__}() works without gradients: that of its input ends here. The class "
                "Music2Latent tells how to encode and decode with gradients; pass x.detach() if you need none.",
                stacklevel=2,
            )
        with torch.no_grad():
            return method(*args, **kwargs)

    return cast("Method", call)


def channels_last(module: Module) -> Module:
    """The module with its weights as images whose channels lie together: convolutions are up to twice as fast."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The torch dtype of a name such as "bfloat16"; float32 for None.

    Raises:
        ValueError: unless it is float32, bfloat16 or float16.
    """
    if dtype is None:
        return torch.float32
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if dtype in DTYPES.values():
        return dtype  # type: ignore[return-value]
    raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")


def default_device(device: str | torch.device | None) -> torch.device:
    """The requested device; for None, CUDA if available, else the CPU.

    Raises:
        ValueError: if it is not available.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(f"device {str(device)!r} cannot be used: {reason}; cpu always can") from error
    return chosen
