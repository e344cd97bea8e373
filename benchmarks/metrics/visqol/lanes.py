"""Vectors by hand in ViSQOL's kernels, where LLVM does not find them by itself."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils


class Lanes:
    """Emits operations on vectors of `n` lanes into a function that numba is compiling.

    It is for kernels whose loops LLVM does not vectorize well by itself: an intrinsic built with it says which
    values live in registers and which memory is read. LLVM maps the vectors to what the CPU has (AVX-512, AVX2, NEON).

    Args:
        context: numba's target context.
        builder: the IR builder.
        element: llvmlite's element type.
        n: number of lanes.
    """

    def __init__(self, context: Any, builder: Any, element: Any, n: int) -> None:
        self.context, self.builder, self.n = context, builder, n
        self.integer = context.get_value_type(types.intp)
        self.vector = ir.VectorType(element, n)
        suffix = "f64" if isinstance(element, ir.DoubleType) else "f32"
        function_type = ir.FunctionType(self.vector, [self.vector] * 3)
        # fmuladd fuses where the CPU has fused multiply-add, and never calls a library function.
        name = f"llvm.fmuladd.v{n}{suffix}"
        self._fmuladd = cgutils.get_or_insert_function(builder.module, function_type, name)

    def arrays(self, signature: Any, args: Any, *positions: int) -> list[Any]:
        """The array arguments at `positions`, with `.data` and `.shape`."""
        make = self.context.make_array
        return [make(signature.args[i])(self.context, self.builder, args[i]) for i in positions]

    def index(self, signature: Any, args: Any, position: int) -> Any:
        """An integer argument as an index."""
        return self.context.cast(self.builder, args[position], signature.args[position], types.intp)

    def number(self, value: int) -> Any:
        """An index constant."""
        return ir.Constant(self.integer, value)

    def constant(self, value: float) -> Any:
        """The same number in all lanes."""
        return ir.Constant(self.vector, [value] * self.n)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """a·b + c."""
        return self.builder.call(self._fmuladd, [a, b, c])

    def pointer(self, data: Any, index: Any) -> Any:
        """Address of the lanes that begin at element `index`."""
        return self.builder.bitcast(self.builder.gep(data, [index]), self.vector.as_pointer())

    def load(self, data: Any, index: Any) -> Any:
        """The `n` elements from `index`; they need no alignment beyond their own."""
        return self.builder.load(self.pointer(data, index), align=4)

    def store(self, value: Any, data: Any, index: Any) -> None:
        """Write `n` elements from `index`."""
        self.builder.store(value, self.pointer(data, index), align=4)

    def splat(self, data: Any, index: Any) -> Any:
        """The element at `index` in all lanes."""
        scalar = self.builder.load(self.builder.gep(data, [index]))
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        all_lane_0 = ir.Constant(ir.VectorType(ir.IntType(32), self.n), None)
        return self.builder.shuffle_vector(first, undefined, all_lane_0)

    def zip_with(self, a: Any, b: Any) -> tuple[Any, Any]:
        """a₀ b₀ a₁ b₁ … in two vectors."""
        half = self.n // 2
        pattern = [[i + h * half + s * self.n for i in range(half) for s in (0, 1)] for h in (0, 1)]
        mask_type = ir.VectorType(ir.IntType(32), self.n)
        low, high = (self.builder.shuffle_vector(a, b, ir.Constant(mask_type, p)) for p in pattern)
        return low, high
