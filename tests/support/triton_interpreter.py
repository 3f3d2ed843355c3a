"""Triton's interpreter, patched to run our kernels in each release that torch pins, and to round as a GPU does."""

import os
from importlib.util import find_spec
from typing import Any

import numpy
import pytest

# The bits of a float32 that tensor cores read of an operand of tf32.
_TF32 = numpy.uint32(0xFFFFE000)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None


def allow_loops_over_arguments() -> None:
    """Let `range` take kernel arguments, which Triton 3.6 hands over as arrays of one element.

    NumPy 2.4 no longer turns those into integers by itself. Source: triton-lang/triton#9171, mended in Triton 3.7.
    """
    if not _interpreted():
        return
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(numpy.asarray(self.handle.data).item()))

    interpreter._patch_lang_tensor = patched


def round_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give operands the types that they have on a GPU, and let products see them as its tensor cores do.

    The interpreter stores bfloat16 as integers, which it truncates to and multiplies, and takes tf32 for float32. Here
    bfloat16 is rounded to nearest, operands of tf32 lose their low bits, and products are summed in float32.
    """
    if not _interpreted():
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    from softformer.ops.attention.triton import launch

    cast, dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot

    def round_to_nearest(self: Any, source: Any, target: Any) -> Any:
        kinds = source.dtype.scalar, target.scalar
        if kinds == (tl.float32, tl.bfloat16):
            return TensorHandle(to_bfloat16(source.data), tl.bfloat16)
        if kinds == (tl.bfloat16, tl.float32):
            return TensorHandle(from_bfloat16(source.data), tl.float32)
        return cast(self, source, target)

    def multiply(self: Any, left: Any, right: Any, total: Any, precision: Any, *rest: Any) -> Any:
        operands = [TensorHandle(_operand(x, tl, precision), tl.float32) for x in (left, right)]
        return dot(self, *operands, total, precision, *rest)

    monkeypatch.setattr(InterpreterBuilder, "cast_impl", round_to_nearest)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", multiply)
    monkeypatch.setattr(launch, "HALF_PRODUCTS", True)


def _operand(x: Any, tl: Any, precision: Any) -> numpy.ndarray:
    """The float32 numbers that enter a product."""
    if x.dtype.scalar == tl.bfloat16:
        return from_bfloat16(x.data)
    wide = numpy.ascontiguousarray(x.data, dtype=numpy.float32)
    return (wide.view(numpy.uint32) & _TF32).view(numpy.float32) if str(precision).endswith(".TF32") else wide


def to_bfloat16(x: numpy.ndarray) -> numpy.ndarray:
    """The bits of float32 numbers rounded to bfloat16, ties to even; NaN stays NaN."""
    bits = numpy.ascontiguousarray(x).view(numpy.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return numpy.where(numpy.isnan(x), 0x7FC0, rounded).astype(numpy.uint16)


def from_bfloat16(bits: numpy.ndarray) -> numpy.ndarray:
    """The float32 numbers of bfloat16 bits."""
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)
