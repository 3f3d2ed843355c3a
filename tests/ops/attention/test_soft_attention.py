"""The contract of the public function: layout, types, masks, empty inputs, memory, and messages."""

from typing import Any

import pytest
import torch
from attention_cases import CLOSE, inverses_of, make_case, takes, widest_type
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.attention import eager
from softformer.ops.attention.backends import BACKENDS
from softformer.ops.attention.operands import Inputs

ALL = [backend for backend in ("reference", *BACKENDS) if takes(backend, torch.float32)]
WITH_INVERSES = pytest.mark.parametrize(
    ("backend", "inverse"),
    [
        pytest.param(backend, inverse, id=f"{backend}-{name}")
        for backend in ALL
        for name, inverse in inverses_of(backend).items()
    ],
)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    ("backend", "dtype"), [(backend, dtype) for backend in ALL for dtype in DTYPES if takes(backend, dtype)], ids=str
)
def test_merging_heads_is_a_view(backend: str, dtype: torch.dtype) -> None:
    case = make_case(cross=True, dtype=dtype)
    leaves = case.leaves()
    out = soft_attention(**leaves, backend=backend)  # type: ignore[arg-type]
    assert out.shape == (2, 3, 29, 11)
    assert out.dtype == dtype
    assert out.transpose(1, 2).view(2, 29, 33).data_ptr() == out.data_ptr()


@pytest.mark.parametrize("backend", ALL)
def test_result_has_the_type_of_value(backend: str) -> None:
    tensors = make_case(dtype=widest_type(backend)).tensors
    narrow = tensors | {"value": tensors["value"].bfloat16()}
    out = soft_attention(**narrow, backend=backend)  # type: ignore[arg-type]
    assert out.dtype == torch.bfloat16
    wide = tensors | {"value": narrow["value"].to(widest_type(backend))}
    torch.testing.assert_close(out, soft_attention(**wide, backend=backend).bfloat16())  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ALL)
def test_landmarks_are_cast_to_the_type_of_query(backend: str) -> None:
    tensors = make_case(dtype=torch.bfloat16).tensors
    rounded = soft_attention(**tensors, backend=backend)  # type: ignore[arg-type]
    cast = tensors | {"landmarks": tensors["landmarks"].float()}
    assert torch.equal(soft_attention(**cast, backend=backend), rounded)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ALL)
def test_autocast_changes_nothing_inside(backend: str) -> None:
    tensors = make_case(dtype=torch.float32).tensors
    expected = soft_attention(**tensors, backend=backend)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft_attention(**tensors, backend=backend), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ALL)
def test_reduced_precision_products_stay_off_inside_and_on_outside(backend: str) -> None:
    tensors = make_case(dtype=torch.float32).tensors
    expected = soft_attention(**tensors, backend=backend)  # type: ignore[arg-type]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(soft_attention(**tensors, backend=backend), expected)  # type: ignore[arg-type]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("backend", ALL)
def test_strided_inputs(backend: str) -> None:
    case = make_case(cross=True, dtype=widest_type(backend))
    expected = soft_attention(**case.tensors, backend=backend)  # type: ignore[arg-type]
    wide = {name: x.new_full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan) for name, x in case.tensors.items()}
    views = {}
    for name, x in case.tensors.items():
        view = wide[name].permute(3, 2, 0, 1)[::2].permute(2, 3, 1, 0)
        view.copy_(x)
        assert not view.is_contiguous()
        views[name] = view
    torch.testing.assert_close(soft_attention(**views, backend=backend), expected)  # type: ignore[arg-type]


@WITH_INVERSES
@pytest.mark.parametrize("sizes", [(0, 3, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (2, 3, 0, 0)], ids=str)
def test_empty_inputs_give_zeros_and_zero_gradients(
    backend: str, inverse: Inverse, sizes: tuple[int, int, int, int]
) -> None:
    batch, heads, queries, keys = sizes
    leaves = make_case(cross=True, sizes=(batch, heads, queries, keys, 4, 2, 3), dtype=widest_type(backend)).leaves()
    out = soft_attention(**leaves, inverse=inverse, symmetric_norm=True, backend=backend)  # type: ignore[arg-type]
    assert out.shape == (batch, heads, queries, 3)
    assert (out == 0).all()
    out.sum().backward()
    assert all((x.grad == 0).all() for x in leaves.values() if x.grad is not None)


@WITH_INVERSES
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_what_stands_in_pads_changes_nothing(backend: str, cross: bool, inverse: Inverse, rubbish: float) -> None:
    dtype = widest_type(backend)
    case = make_case(cross=cross, masks=True, dtype=dtype)
    query_mask = case.options["query_mask"]
    masks = {
        "query": query_mask,
        "value": case.options.get("key_mask", query_mask),
        "key": case.options.get("key_mask"),
        "landmarks": case.options["landmark_mask"],
    }
    cotangent = torch.randn(2, 3, 29, 11, dtype=dtype)

    def run(fill: float) -> dict[str, Tensor]:
        leaves = {
            name: x.masked_fill(~masks[name][:, None, :, None], fill).requires_grad_()
            for name, x in case.tensors.items()
        }
        out = soft_attention(
            **leaves,
            **case.options,
            inverse=inverse,
            symmetric_norm=True,
            backend=backend,  # type: ignore[arg-type]
        )
        incoming = cotangent.masked_fill(~query_mask[:, None, :, None], fill)
        return {"out": out.detach()} | dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), incoming)))

    clean, dirty = run(0.0), run(rubbish)
    for name, value in dirty.items():
        assert torch.equal(value, clean[name]), name
        mask = query_mask if name == "out" else masks[name]
        assert (value.masked_select(~mask[:, None, :, None]) == 0).all(), name


@WITH_INVERSES
def test_padding_and_batch_mates_change_nothing(backend: str, inverse: Inverse) -> None:
    dtype = widest_type(backend)
    alone = make_case(sizes=(1, 3, 13, 13, 5, 7, 2), dtype=dtype).tensors
    padded = {
        name: torch.cat([x, torch.randn(1, 3, 40, x.shape[-1], dtype=x.dtype)], 2) if name != "landmarks" else x
        for name, x in alone.items()
    }
    together = {name: torch.cat([x, 3 * torch.randn_like(x)]) for name, x in padded.items()}
    mask = torch.ones(2, 53, dtype=torch.bool)
    mask[0, 13:] = False
    options: dict[str, Any] = {"inverse": inverse, "symmetric_norm": True, "backend": backend}
    out = soft_attention(**together, query_mask=mask, **options)
    expected = soft_attention(**alone, **options)
    assert (out[:1, :, :13] - expected).norm() <= CLOSE[dtype] * expected.norm()
    assert (out[:1, :, 13:] == 0).all()


@pytest.mark.parametrize("backend", ALL)
def test_a_wholly_padded_sample_gives_zeros(backend: str) -> None:
    case = make_case(dtype=widest_type(backend))
    leaves = case.leaves()
    masks = {"query_mask": torch.ones(2, 29, dtype=torch.bool), "landmark_mask": torch.ones(2, 7, dtype=torch.bool)}
    for mask in masks.values():
        mask[1] = False
    out = soft_attention(**leaves, **masks, symmetric_norm=True, output_scale=0.0, backend=backend)  # type: ignore[arg-type]
    out.sum().backward()
    assert (out[1] == 0).all()
    assert all((x.grad[1] == 0).all() for x in leaves.values() if x.grad is not None)


@pytest.mark.parametrize("backend", ALL)
def test_output_scale_as_number_and_per_sample(backend: str) -> None:
    leaves = make_case(dtype=widest_type(backend)).leaves()
    plain = soft_attention(**leaves, backend=backend)  # type: ignore[arg-type]
    scale = torch.tensor([0.25, 3.0], requires_grad=True)
    scaled = soft_attention(**leaves, output_scale=scale, backend=backend)  # type: ignore[arg-type]
    torch.testing.assert_close(scaled, plain * scale.detach().to(plain.dtype)[:, None, None, None])
    torch.testing.assert_close(soft_attention(**leaves, output_scale=0.25, backend=backend)[0], scaled[0])  # type: ignore[arg-type]
    scaled.sum().backward()
    assert scale.grad is None


def test_more_landmarks_than_tokens() -> None:
    leaves = make_case(sizes=(2, 3, 2, 2, 11, 5, 7)).leaves()
    soft_attention(**leaves, inverse=Cholesky()).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves.values())


def test_other_derivatives_point_to_the_reference() -> None:
    leaves = make_case().leaves()
    out = soft_attention(**leaves, backend="eager")
    (gradient,) = torch.autograd.grad(out.sum(), leaves["query"], create_graph=True)
    with pytest.raises(RuntimeError, match="second backward needs backend='reference'"):
        gradient.sum().backward()
    tensors = make_case().tensors

    def of_query(query: Tensor) -> Tensor:
        return soft_attention(**(tensors | {"query": query}), backend="eager")

    with pytest.raises(RuntimeError, match="vmap over it needs backend='reference'"):
        torch.func.vmap(of_query)(torch.stack([tensors["query"]] * 3))
    with pytest.raises(RuntimeError, match="jvp needs backend='reference'"):
        torch.func.jvp(of_query, (tensors["query"],), (tensors["query"],))


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation returned."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor):
                self.largest = max(self.largest, x.numel())
        return result


def test_eager_makes_no_kernel_matrix_over_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor is larger than a result; N x M would be 128 times as large as a chunk."""
    monkeypatch.setattr(eager, "_CHUNK_ELEMENTS_A_THREAD", (1 << 18) // torch.get_num_threads())
    length, num_landmarks = 1 << 17, 256
    query, value, landmarks = torch.randn(1, 1, length, 2), torch.randn(1, 1, length, 3), torch.randn(1, 1, 256, 2)
    arguments = (Inputs(query, value, landmarks), Cholesky(), True)
    with LargestTensor() as mode:
        out, saved = eager.forward(*arguments)
        eager.backward(out, saved, *arguments)
    assert sum(x.numel() for x in saved) <= num_landmarks * (num_landmarks + 3)
    assert length * num_landmarks / 128 >= eager._chunk_elements(query)
    assert mode.largest == out.numel()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.randn(2, 29, 5)}, r"query must have shape \(B, H, N, D\), got \(2, 29, 5\)"),
        ({"query": torch.ones(2, 3, 29, 5, dtype=torch.int64)}, "query must be float64, float32.*got torch.int64"),
        ({"landmarks": torch.randn(2, 3, 0, 5)}, r"landmarks must have at least one row \(M >= 1\)"),
        ({"landmarks": torch.randn(2, 3, 7, 4)}, "landmarks must agree with query .* in batch, heads and width"),
        ({"value": torch.randn(2, 3, 28, 11)}, r"value must agree with query \(its keys, as key is None\)"),
        ({"key": torch.randn(2, 3, 17, 5)}, "value must agree with key"),
        ({"key": torch.randn(2, 3, 29, 5).double()}, "key must have the type of query"),
        ({"query_mask": torch.ones(2, 29)}, "query_mask must be a bool tensor.*use mask.bool()"),
        ({"query_mask": torch.ones(2, 28, dtype=torch.bool)}, r"query_mask must have shape \(2, 29\), got \(2, 28\)"),
        ({"key_mask": torch.ones(2, 29, dtype=torch.bool)}, "key_mask must be None without key"),
        ({"landmark_mask": torch.ones(7, dtype=torch.bool)}, r"landmark_mask must have shape \(2, 7\)"),
        ({"output_scale": torch.ones(3)}, r"output_scale must be a number or have shape \(B,\) = \(2,\), got \(3,\)"),
        (
            {"output_scale": [0.5, 1.0]},
            r"output_scale must be a number or a tensor of shape \(B,\) = \(2,\), got \[",
        ),
        ({"output_scale": True}, "output_scale must be a number or a tensor"),
        ({"inverse": "Cholesky"}, r"inverse must be a Newton\(...\) or a Cholesky\(...\) object, got 'Cholesky'"),
        ({"query": [1.0]}, "query must be a tensor of shape"),
    ],
)
def test_messages(change: dict[str, Any], message: str) -> None:
    tensors = make_case(dtype=torch.float32).tensors
    with pytest.raises(ValueError, match=message):
        soft_attention(**(tensors | change))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Newton(iterations=0), "iterations must be an integer of at least 1, got 0"),
        (lambda: Newton(iterations=2.5), "iterations must be an integer"),  # type: ignore[arg-type]
        (lambda: Newton(start="paper"), "start must be one of 'row_sum', 'halving', got 'paper'"),  # type: ignore[arg-type]
        (lambda: Newton(gradient="true"), "gradient must be one of 'implicit', 'unrolled', got 'true'"),  # type: ignore[arg-type]
        (lambda: Newton(ridge=-0.1), "ridge must be zero or positive and finite, got -0.1"),
        (lambda: Cholesky(ridge=float("nan")), "ridge must be zero or positive and finite"),
        (lambda: Cholesky(ridge="much"), "ridge must be a number, got 'much'"),  # type: ignore[arg-type]
    ],
)
def test_inverse_messages(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_inverses_compare_and_print_by_their_options() -> None:
    assert Newton() == Newton(20, 0.01)
    assert Newton() != Newton(iterations=15)
    assert Cholesky(0.01) != Newton()
    assert len({Newton(), Newton(20), Cholesky()}) == 2
    assert repr(Cholesky(0.1)) == "Cholesky(ridge=0.1)"
