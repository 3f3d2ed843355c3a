"""Running a backend on a case, and the distance of its numbers from the law."""

import torch
from attention_cases import Case
from torch import Tensor

from softformer.ops import soft_attention

# What every backend promises, as the norm of the difference over the norm of the law.
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def run(case: Case, cotangent: Tensor, backend: str, **options: object) -> dict[str, Tensor]:
    """The output and the gradient of every input, by name."""
    leaves = case.leaves()
    out = soft_attention(**leaves, **case.options, **options, backend=backend)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(out, list(leaves.values()), cotangent.to(out.dtype))
    return {"out": out.detach()} | dict(zip(leaves, gradients))


def relative_error(result: Tensor, law: Tensor) -> float:
    """The norm of the difference over the norm of the law."""
    return float((result.double() - law).norm() / law.norm().clamp(min=1e-30))


def as_double(case: Case) -> Case:
    """The same case in float64."""
    return Case({name: x.double() for name, x in case.tensors.items()}, case.options)
