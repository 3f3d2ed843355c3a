"""Every backend of the table against the reference in float64: outputs and all gradients."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_cases import CLOSE, INVERSES, inverses_of, make_case, takes, widest_type
from attention_runs import TOLERANCES, as_double, relative_error, run
from torch import Tensor

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.attention import reference
from softformer.ops.attention.backends import BACKENDS, available_backends, choose_backend
from softformer.ops.attention.operands import Inputs

# Backends that this machine's CPU supports; all of them are compared with the reference here.
RUNNABLE = [backend for backend in BACKENDS if takes(backend, torch.float32)]
PRECISE = [backend for backend in RUNNABLE if takes(backend, torch.float64)]
SWITCHES = [
    pytest.param(
        *switches, id="-".join(name for name, on in zip(("cross", "masks", "norm"), switches) if on) or "plain"
    )
    for switches in itertools.product([False, True], repeat=3)
]


@pytest.mark.parametrize(
    ("backend", "dtype", "inverse"),
    [
        pytest.param(backend, dtype, inverse, id=f"{backend}-{str(dtype).removeprefix('torch.')}-{name}")
        for backend in RUNNABLE
        for dtype in TOLERANCES
        if takes(backend, dtype)
        for name, inverse in (INVERSES if dtype == torch.float32 else inverses_of(backend)).items()
    ],
)
@pytest.mark.parametrize(("cross", "masks", "norm"), SWITCHES)
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


@pytest.mark.parametrize(
    ("backend", "length"),
    [(backend, length) for backend in RUNNABLE for length in (1, 2, 64, 4096 + 13 if backend == "eager" else 256 + 13)],
)
def test_parity_across_chunk_borders(backend: str, length: int) -> None:
    dtype = widest_type(backend)
    case = make_case(masks=length > 2, sizes=(3, 2, length, length, 64 + 3, 5, 3), spread=1.5, dtype=dtype)
    cotangent = torch.randn(3, 2, length, 3, dtype=torch.float64)
    law, plain, result = (
        run(data, cotangent, name, inverse=Cholesky())
        for data, name in ((as_double(case), "reference"), (case, "reference"), (case, backend))
    )
    for name, value in result.items():
        assert relative_error(value, law[name]) <= max(CLOSE[dtype], 2 * relative_error(plain[name], law[name])), name


@pytest.mark.parametrize("backend", PRECISE)
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


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["identity", "duplicates", "one", "one_kept"])
@pytest.mark.parametrize("start", ["row_sum", "halving"])
@pytest.mark.parametrize("gradient", ["implicit", "unrolled"])
def test_special_landmarks(backend: str, ridge: float, kind: str, start: str, gradient: str) -> None:
    dtype = widest_type(backend)
    case = make_case(sizes=(2, 3, 13, 13, 1 if kind == "one" else 4, 5, 3), dtype=dtype)
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
    law, plain, result = (
        run(data, cotangent, name, inverse=newton)
        for data, name in ((as_double(case), "reference"), (case, "reference"), (case, backend))
    )
    for name, value in result.items():
        assert value.isfinite().all()
        assert relative_error(value, law[name]) <= max(CLOSE[dtype], 2 * relative_error(plain[name], law[name])), name


def test_auto_takes_the_first_backend_released_for_the_device() -> None:
    tensors = make_case(dtype=torch.float32).tensors
    assert choose_backend("auto", Inputs(**tensors), Newton(), False) is BACKENDS["eager"]


def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = make_case(dtype=torch.float32).tensors
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"backend='triton' cannot run here: it needs tensors on a CUDA device"):
        soft_attention(**tensors, backend="triton")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float64}, "computes in float32 and does not support torch.float64"),
        ({"sizes": (1, 1, 3, 3, 2, 129, 3)}, r"head widths of 1 to 128, got 129 \(query\) and 3 \(value\)"),
        ({"sizes": (1, 1, 3, 3, 2, 3, 130)}, r"head widths of 1 to 128, got 3 \(query\) and 130 \(value\)"),
        ({"sizes": (1, 1, 3, 3, 257, 2, 3)}, "up to 256 landmarks, got 257"),
    ],
)
def test_what_triton_does_not_take(change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match=f"backend='triton' cannot run here: .*{message}"):
        soft_attention(**make_case(**({"dtype": torch.float32} | change)).tensors, backend="triton")  # type: ignore[arg-type]


def test_unknown_backend_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"backend must be one of 'auto', 'reference', 'eager', 'triton', got 'cuda'"):
        soft_attention(**make_case().tensors, backend="cuda")  # type: ignore[arg-type]


def test_every_row_of_the_table_is_a_valid_name() -> None:
    assert {"auto", "reference", *BACKENDS} == set(available_backends())


def test_the_law_stands_alone() -> None:
    """No backend computes with code of the reference, nor the reference with code of a backend."""
    files = {path: path.read_text() for path in Path(reference.__file__).parent.rglob("*.py")}
    importers = {path.stem for path, text in files.items() if re.search(r"import reference|\.reference import", text)}
    assert importers == {"public", "health"}
    imported = re.findall(r"from softformer\.ops\.attention\.(\w+) import", Path(reference.__file__).read_text())
    assert imported == ["operands"]
