"""What the Triton kernels are on a GPU, found out without one; a process of its own, as the interpreter must be off.

python -m triton_offline keys                # three lines: the keys of three launches
python -m triton_offline compile CAPABILITY  # a line of JSON for each compiled kernel
"""

import json
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


def launches(sizes: tuple[int, ...], dtype: torch.dtype, contiguous: bool = True) -> list[tuple[JITFunction, Any, Any]]:
    """Kernel, arguments and options of every launch of a forward and a backward."""
    found: list[tuple[JITFunction, Any, Any]] = []

    def record(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found.append((self, arguments, options))

    case = make_case(sizes=sizes, dtype=dtype, masks=True).tensors
    names = ("query", "value", "landmarks")
    inputs = Inputs(*(case[name] if contiguous else case[name].mT.contiguous().mT for name in names))
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


def keys(backend: CUDABackend) -> None:
    """The same network at two batch sizes, head counts and lengths, and then in another memory layout."""
    for sizes, contiguous in (((2, 3, 64, 64, 5, 32, 32), True), ((1, 1, 77, 77, 5, 32, 32), True), (SIZES[0], False)):
        found = launches(sizes, torch.float32, contiguous)
        print([specialization(kernel, backend, arguments, options)[1] for kernel, arguments, options in found])


def compile_all(backend: CUDABackend, target: GPUTarget) -> None:
    """Every kernel for every size and type, down to machine code."""
    done = set()
    for sizes in SIZES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for kernel, arguments, options in launches(sizes, dtype):
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
                            "landmarks": sizes[4],
                            "dtype": str(dtype),
                            "shared": compiled.metadata.shared,
                            "warps": compiled.metadata.num_warps,
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
