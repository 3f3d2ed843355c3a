"""Every backend of the table against the reference in float64: values and every gradient."""

import itertools

import pytest
import torch
from attention_cases import INVERSES, Case, make_case
from torch import Tensor

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.backends import BACKENDS, available_backends, choose_backend

TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SWITCHES = [
    pytest.param(
        *switches, id="-".join(name for name, on in zip(("cross", "masks", "norm"), switches) if on) or "plain"
    )
    for switches in itertools.product([False, True], repeat=3)
]


def run(case: Case, cotangent: Tensor, backend: str, **options: object) -> dict[str, Tensor]:
    """The output and the gradient of every input, by name."""
    leaves = case.leaves()
    out = soft_attention(**leaves, **case.options, **options, backend=backend)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(out, list(leaves.values()), cotangent.to(out.dtype))
    return {"out": out.detach()} | dict(zip(leaves, gradients))


def relative_error(result: Tensor, law: Tensor) -> float:
    return float((result.double() - law).norm() / law.norm().clamp(min=1e-30))


def as_double(case: Case) -> Case:
    return Case({name: x.double() for name, x in case.tensors.items()}, case.options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("cross", "masks", "norm"), SWITCHES)
@pytest.mark.parametrize("inverse", INVERSES.values(), ids=INVERSES)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.usefixtures("poisoned_memory")
def test_parity(backend: str, cross: bool, masks: bool, norm: bool, dtype: torch.dtype, inverse: Inverse) -> None:
    case = make_case(cross=cross, masks=masks, dtype=dtype)
    scale = torch.tensor([0.3, 2.0])
    cotangent = torch.randn(2, 3, 29, 11, dtype=torch.float64)
    options = {"inverse": inverse, "symmetric_norm": norm, "output_scale": scale}
    law = run(as_double(case), cotangent, "reference", **options)
    plain = run(case, cotangent, "reference", **options)
    result = run(case, cotangent, backend, **options)
    for name, value in result.items():
        bound = max(TOLERANCES[dtype], 2 * relative_error(plain[name], law[name]))
        assert value.dtype == dtype
        assert relative_error(value, law[name]) <= bound, name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 2, 64, 4096 + 13])
def test_parity_across_chunk_borders(backend: str, length: int) -> None:
    case = make_case(masks=length > 2, sizes=(3, 2, length, length, 64 + 3, 5, 3), spread=1.5)
    cotangent = torch.randn(3, 2, length, 3, dtype=torch.float64)
    law, result = (run(case, cotangent, name, inverse=Cholesky()) for name in ("reference", backend))
    for name, value in result.items():
        assert relative_error(value, law[name]) <= 1e-10, name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize(
    "inverse",
    [
        Cholesky(),
        Newton(iterations=6, gradient="unrolled"),
        Newton(iterations=6, ridge=1e-3, start="halving", gradient="unrolled"),
    ],
    ids=["cholesky", "row_sum", "halving"],
)
def test_gradcheck(backend: str, cross: bool, inverse: Inverse) -> None:
    case = make_case(cross=cross, masks=True, sizes=(2, 2, 7, 5, 3, 2, 3))
    names, leaves = list(case.tensors), list(case.leaves().values())

    def function(*values: Tensor) -> Tensor:
        tensors = dict(zip(names, values))
        return soft_attention(
            **tensors,
            **case.options,
            inverse=inverse,
            symmetric_norm=True,
            output_scale=0.7,
            backend=backend,  # type: ignore[arg-type]
        )

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["identity", "duplicates", "one", "one_kept"])
@pytest.mark.parametrize("start", ["row_sum", "halving"])
@pytest.mark.parametrize("gradient", ["implicit", "unrolled"])
def test_special_landmarks(backend: str, ridge: float, kind: str, start: str, gradient: str) -> None:
    case = make_case(sizes=(2, 3, 13, 13, 1 if kind == "one" else 4, 5, 3))
    landmarks = case.tensors["landmarks"]
    if kind == "identity":
        landmarks[:] = 100 * torch.randn(2, 3, 4, 5)
        case.tensors["query"][:, :, :4] = landmarks + 0.5
    if kind == "duplicates":
        landmarks[:, :, 2:] = landmarks[:, :, :2]
    if kind == "one_kept":
        case.options["landmark_mask"] = torch.tensor([[False, False, True, False]]).expand(2, -1)
    cotangent = torch.randn(2, 3, 13, 3, dtype=torch.float64)
    newton = Newton(ridge=ridge, start=start, gradient=gradient)  # type: ignore[arg-type]
    law, result = (run(case, cotangent, name, inverse=newton) for name in ("reference", backend))
    for name, value in result.items():
        assert value.isfinite().all()
        assert relative_error(value, law[name]) <= 1e-9, name


def test_auto_takes_the_first_backend_that_can_run() -> None:
    tensors = make_case().tensors
    chosen = choose_backend("auto", tensors["query"], tensors["value"], tensors["landmarks"])
    assert chosen == next(iter(BACKENDS))


def test_unknown_backend_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of 'auto', 'reference', 'eager'.*got 'cuda'"):
        soft_attention(**make_case().tensors, backend="cuda")  # type: ignore[arg-type]


def test_every_row_of_the_table_is_a_valid_name() -> None:
    assert {"auto", "reference", *BACKENDS} == set(available_backends())
