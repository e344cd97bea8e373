"""How kernels are compiled: `njit` without the GIL, cached on disk where possible.

Of LLVM's fast-math flags only `contract` is on by default: a multiply and an add may fuse into one rounding. The flags
that assume the absence of NaN and Inf, or reorder sums, stay off: ViSQOL's silence policy depends on NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numba


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(nogil=True, cache=True, fastmath={"contract"})`, also where no cache can be written.

    Numba looks for a writable place beside the source file, then in the user's cache directory, and
    raises `RuntimeError` when both are read-only (a container, a system-wide install). The kernels then
    compile once per process.

    Args:
        **options: further `numba.njit` options; they override the three above.
    """
    settings: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"contract"}, **options}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**settings)(function)
        except RuntimeError as error:
            if "locator" not in str(error):
                raise
            warnings.warn(f"compiling {function.__name__} in every process: {error}", stacklevel=2)
            return numba.njit(**{**settings, "cache": False})(function)

    return decorate
