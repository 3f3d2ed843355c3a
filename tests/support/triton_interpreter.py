"""Triton's interpreter, mended where the release that torch pins cannot run our kernels."""

import os
from typing import Any

import numpy


def allow_loops_over_arguments() -> None:
    """Let `range` take kernel arguments, which Triton 3.6 hands over as arrays of one element.

    NumPy 2.4 no longer turns those into integers by itself. Source: triton-lang/triton#9171, mended in Triton 3.7.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    try:
        from triton.runtime import interpreter
    except ModuleNotFoundError:
        return
    original = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(numpy.asarray(self.handle.data).item()))

    interpreter._patch_lang_tensor = patched
