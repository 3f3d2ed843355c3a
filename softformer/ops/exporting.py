"""Whether torch.export is at work, which gets plain formulas instead of custom operators and chunk loops."""

import torch


def is_exporting() -> bool:
    """True inside torch.export, False inside torch.compile and in eager mode.

    The compiler of torch 2.11 takes `torch.compiler.is_exporting` for a constant True in every compilation; the flag
    behind it is right in all releases.
    """
    return torch.compiler._is_exporting_flag


@torch.compiler.assume_constant_result
def is_exporting_to_onnx() -> bool:
    """True while torch.onnx exports, also where it has the compiler trace, which would take the answer for False."""
    return torch.onnx.is_in_onnx_export()
