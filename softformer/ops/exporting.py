"""Functions that tell whether a graph is being exported, for the code that must differ there."""

import torch


def is_exporting() -> bool:
    """True inside torch.export, which gets plain formulas instead of custom operators and loops over chunks.

    The compiler of torch 2.11 replaces `torch.compiler.is_exporting` by a constant True in every compilation; the flag
    that it reads is correct in all releases.
    """
    return torch.compiler._is_exporting_flag


def sizes_are_symbols() -> bool:
    """True inside torch.export and torch.jit.trace, where the number of landmarks must not depend on that of tokens.

    A size that is read there becomes a constant of the graph, which then takes sequences of that length only.
    """
    return is_exporting() or torch.jit.is_tracing()


@torch.compiler.assume_constant_result
def is_exporting_to_onnx() -> bool:
    """True while torch.onnx exports, also while the compiler traces for it and would replace the answer by False."""
    return torch.onnx.is_in_onnx_export()
