"""The Triton kernels as a GPU would get them, without one; a process of its own, as the interpreter must be off.

python -m triton_offline keys                # a line of JSON for each launch: a name, and what selects its kernel
python -m triton_offline compile CAPABILITY  # a line of JSON for each compiled kernel
"""

import json
import re
import sys
from typing import Any
from unittest import mock

import torch
import triton
from attention_cases import make_case
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.runtime.jit import JITFunction, create_function_from_signature

from softformer.ops import Newton
from softformer.ops.attention.operands import Inputs
from softformer.ops.attention.triton import backend as triton_backend
from softformer.ops.attention.triton import launch

SIZES = [
    (2, 3, 64, 64, 49, 32, 32),
    (2, 2, 70, 70, 64, 64, 64),
    (2, 2, 70, 70, 20, 128, 128),
    (1, 2, 70, 70, 128, 64, 64),
    (1, 2, 70, 70, 130, 128, 128),
]


def launches(sizes: tuple[int, ...], dtype: torch.dtype, **changes: Any) -> list[tuple[JITFunction, Any, Any]]:
    """Kernel, arguments and options of every launch of a forward and a backward.

    Args:
        sizes: As in `make_case`.
        dtype: Type of the tensors.
        changes: Other arguments of `make_case`, and `contiguous=False` for rows with gaps between their elements.
    """
    found: list[tuple[JITFunction, Any, Any]] = []

    def record(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found.append((self, arguments, options))

    contiguous = changes.pop("contiguous", True)
    case = make_case(sizes=sizes, dtype=dtype, **changes)
    tensors = {name: x if contiguous else x.repeat_interleave(2, -1)[..., ::2] for name, x in case.tensors.items()}
    inputs = Inputs(**tensors, **case.options)
    processors = mock.Mock(multi_processor_count=132)
    with (
        mock.patch.object(JITFunction, "run", record),
        mock.patch.object(torch.cuda, "get_device_properties", return_value=processors),
    ):
        out, saved = triton_backend.forward(inputs, Newton(), False)
        triton_backend.backward(torch.randn_like(out), saved, inputs, Newton(), False)
    return found


def specialization(kernel: JITFunction, backend: CUDABackend, arguments: Any, options: Any) -> tuple[Any, Any]:
    """Bound arguments, and what of them selects a compiled kernel."""
    binder = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, key, _ = binder(*arguments, **options)
    return bound, key


# Batch sizes, head counts, and lengths: of 16 or not, and 1, which Triton tells apart where it may.
_CALLS = [(2, 3, 64), (1, 1, 256), (3, 1, 255), (2, 2, 1), (1, 5, 77)]


def keys(backend: CUDABackend) -> None:
    """Calls of several networks, each at several batch sizes, head counts, and lengths."""
    for width in (24, 32, 36):
        for masks in (False, True):
            for cross in (False, True):
                for contiguous in (False, True):
                    for batch, heads, length in _CALLS:
                        sizes = (batch, heads, length, length, 5, width, width)
                        changes = {"masks": masks, "cross": cross, "contiguous": contiguous}
                        found = launches(sizes, torch.bfloat16, **changes)
                        selected = [str(specialization(kernel, backend, *rest)[1]) for kernel, *rest in found]
                        print(json.dumps({"network": str((width, changes)), "keys": selected}))


def compile_all(backend: CUDABackend, target: GPUTarget) -> None:
    """Every kernel for every size and type, down to machine code."""
    done = set()
    for sizes in SIZES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for kernel, arguments, options in launches(sizes, dtype, masks=True):
                _, key = specialization(kernel, backend, arguments, options)
                if (name := f"{kernel.__name__} {key} {options}") in done:
                    continue
                done.add(name)
                compiled = _compile(kernel, backend, target, arguments, options)
                print(
                    json.dumps(
                        {
                            "kernel": kernel.__name__,
                            "sizes": sizes,
                            "dtype": str(dtype),
                            "shared": compiled.metadata.shared,
                            "operands": re.findall(r"tt\.dot .* : tensor<\w+x(\w+)> \*", compiled.asm["ttir"]),
                        }
                    ),
                    flush=True,
                )


def _compile(kernel: JITFunction, backend: CUDABackend, target: GPUTarget, arguments: Any, options: Any) -> Any:
    bound, key = specialization(kernel, backend, arguments, options)
    known = {name: value for name, value in options.items() if name not in bound}
    parsed, signature, constants, attributes = kernel._pack_args(backend, known, bound, key, known)
    source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=parsed.__dict__)


if __name__ == "__main__":
    gpu = GPUTarget("cuda", int(sys.argv[2]) if len(sys.argv) > 2 else 90, 32)
    if sys.argv[1] == "keys":
        keys(CUDABackend(gpu))
    else:
        compile_all(CUDABackend(gpu), gpu)
    assert not launch.INTERPRETED
