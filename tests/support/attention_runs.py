"""Running a backend on a case, and the distance of its numbers from those of the reference in float64."""

import torch
from attention_cases import Case
from torch import Tensor

from softformer.ops import soft_attention

# The relative error, in the norm, that every backend stays below.
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def run(case: Case, cotangent: Tensor, backend: str, **options: object) -> dict[str, Tensor]:
    """The output and the gradient of every input, by name."""
    leaves = case.leaves()
    out = soft_attention(**leaves, **case.options, **options, backend=backend)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(out, list(leaves.values()), cotangent.to(out.dtype))
    return {"out": out.detach()} | dict(zip(leaves, gradients))


def relative_error(result: Tensor, law: Tensor) -> float:
    """The norm of the difference over the norm of the reference."""
    return float((result.double() - law).norm() / law.norm())


def allowed_error(plain: Tensor, law: Tensor, tolerance: float | None = None) -> float:
    """The bound on the relative error: the tolerance, or twice the error of the reference at the same input type.

    The reference has to be far from the error 1, which zeros have: else the case would hold no backend to anything.
    """
    error = relative_error(plain, law)
    assert error < 0.1, f"the reference is off by {error:.1e} itself: choose points whose kernel does not vanish"
    return max(TOLERANCES[plain.dtype] if tolerance is None else tolerance, 2 * error)


def assert_parity(case: Case, backend: str, tolerance: float | None = None, **options: object) -> None:
    """The output and every gradient of a backend are close to the reference in float64."""
    query, value = case.tensors["query"], case.tensors["value"]
    cotangent = torch.randn(*query.shape[:3], value.shape[3], dtype=torch.float64, device=query.device)
    law = run(as_double(case), cotangent, "reference", **options)
    plain = run(case, cotangent, "reference", **options)
    for name, result in run(case, cotangent, backend, **options).items():
        error, allowed = relative_error(result, law[name]), allowed_error(plain[name], law[name], tolerance)
        assert error <= allowed, f"{name}: {error:.2e} > {allowed:.2e}"


def as_double(case: Case) -> Case:
    """The same case in float64."""
    return Case({name: x.double() for name, x in case.tensors.items()}, case.options)
