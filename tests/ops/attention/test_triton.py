"""The Triton kernels, in the interpreter or on a GPU: every shape, layout, mask, and type against the reference.

The interpreter rounds operands as a GPU does; see `triton_interpreter.round_operands`.
"""

from pathlib import Path

import pytest
import torch
from attention_cases import Case, make_case, on, takes
from attention_runs import allowed_error, as_double, assert_parity, relative_error, run
from torch import Tensor

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.attention import reference
from softformer.ops.attention.operands import Inputs

INTERPRETED = takes("triton", torch.float32)
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not INTERPRETED, reason="Triton's interpreter is off")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
pytestmark = [pytest.mark.parametrize("device", DEVICES), pytest.mark.usefixtures("poisoned_memory")]

SIZES = {
    "one of all": (1, 1, 1, 1, 1, 1, 1),
    "odd widths": (2, 1, 70, 33, 5, 7, 13),
    "narrow rows": (1, 2, 70, 37, 7, 24, 36),
    "narrow values": (1, 2, 37, 70, 11, 36, 24),
    "wide values": (1, 2, 37, 70, 17, 24, 100),
    "wide heads": (1, 2, 70, 37, 31, 96, 8),
    "published": (2, 2, 130, 67, 49, 32, 32),
    "two tiles": (1, 2, 70, 67, 67, 16, 24),
    "four tiles": (1, 1, 40, 37, 201, 16, 24),
    "both wide, two tiles": (1, 1, 37, 33, 71, 72, 80),
    "more landmarks than tokens": (1, 3, 3, 2, 23, 11, 5),
}
HALF_TYPES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("masks", [False, True], ids=["whole", "masked"])
def test_parity_over_shapes(device: str, sizes: tuple[int, ...], cross: bool, masks: bool) -> None:
    case = make_case(cross=cross, masks=masks and max(sizes) > 1, sizes=sizes, dtype=torch.float32)
    scale = 1 / (sizes[3] if cross else sizes[2])
    assert_parity(on(device, case), "triton", inverse=Cholesky(0.1), symmetric_norm=True, output_scale=scale)


@pytest.mark.parametrize("sizes", [(1, 2, 130, 97, 16, 32, 24), (1, 1, 67, 130, 20, 64, 36)], ids=str)
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@pytest.mark.parametrize("spread", [0.3, 0.6])
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
def test_parity_at_landmarks_that_are_segment_means(
    device: str, sizes: tuple[int, ...], dtype: torch.dtype, spread: float, cross: bool
) -> None:
    """They lie so close together that gradients are small differences of large numbers."""
    case = make_case(cross=cross, masks=cross, sizes=sizes, dtype=dtype, spread=spread, segments=True)
    inverse = Cholesky() if cross else Newton()
    assert_parity(on(device, case), "triton", inverse=inverse, symmetric_norm=True, output_scale=1 / sizes[3])


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_weights_beyond_the_range_of_float16(device: str, dtype: torch.dtype) -> None:
    """Large values, and queries so far from the landmarks that the output is small again."""
    case = make_case(sizes=(1, 1, 70, 130, 5, 32, 8), cross=True, dtype=dtype, spread=0.6, segments=True)
    case.tensors["value"].abs_().mul_(20000)
    case.tensors["query"].add_(0.6)
    query, value, landmarks, key = (x.double() for x in case.tensors.values())
    factors = reference.attention_factors(Inputs(query, value, landmarks, key), Cholesky(), False)
    assert (factors.inverse @ factors.key_kernel.mT @ value).max() > torch.finfo(torch.float16).max
    assert_parity(on(device, case), "triton", inverse=Cholesky())


@pytest.mark.parametrize(
    "types",
    [
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float16, torch.bfloat16),
        (torch.float16, torch.float16, torch.float32),
    ],
    ids=lambda types: "-".join(str(dtype).removeprefix("torch.") for dtype in types),
)
def test_mixed_types(device: str, types: tuple[torch.dtype, ...]) -> None:
    """Types of query, value, and landmarks."""
    case = on(device, make_case(sizes=(1, 2, 70, 70, 7, 24, 36), masks=True))
    tensors = {name: x.to(dtype) for (name, x), dtype in zip(case.tensors.items(), types)}
    assert_parity(Case(tensors, case.options), "triton", inverse=Cholesky(0.1), output_scale=1 / 70)


@pytest.mark.parametrize("width", [8, 24, 36, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF_TYPES], ids=str)
@pytest.mark.parametrize("segments", [False, True])
def test_zeros_do_not_pass(device: str, width: int, dtype: torch.dtype, segments: bool) -> None:
    """The cases of these tests have kernels that do not vanish, however wide the heads are."""
    case = on(device, make_case(sizes=(1, 2, 37, 37, 7, width, width), masks=True, dtype=dtype, segments=segments))
    cotangent = torch.randn(1, 2, 37, width, dtype=torch.float64, device=device)
    law, plain = (run(data, cotangent, "reference") for data in (as_double(case), case))
    for name, value in law.items():
        assert relative_error(torch.zeros_like(value), value) > 5 * allowed_error(plain[name], value)


@pytest.mark.parametrize("landmarks", [1, 15, 16, 49, 64, 65, 129])
@pytest.mark.parametrize("start", ["row_sum", "halving"])
def test_newton_on_chip_and_in_batched_products(
    device: str, landmarks: int, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 64 landmarks one program holds the matrix; above, batched products."""
    from softformer.ops.attention.triton import launch

    launches, newton = [], launch.newton
    monkeypatch.setattr(launch, "newton", lambda *arguments: launches.append(newton(*arguments)))
    case = make_case(sizes=(2, 2, 5, 5, landmarks, 24, 3), dtype=torch.float32, masks=landmarks > 1, spread=2.0)
    assert_parity(on(device, case), "triton", inverse=Newton(start=start), symmetric_norm=True)  # type: ignore[arg-type]
    assert len(launches) == (1 if landmarks <= 64 else 0)


@pytest.mark.parametrize("inverse", [Newton(), Cholesky()], ids=["newton", "cholesky"])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF_TYPES], ids=str)
def test_the_same_bits_every_time(device: str, inverse: Inverse, dtype: torch.dtype) -> None:
    case = on(device, make_case(sizes=(2, 1, 150, 150, 9, 8, 8), dtype=dtype))
    cotangent = torch.randn(2, 1, 150, 8, device=device)
    first, second = (run(case, cotangent, "triton", inverse=inverse) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("permutation", [(0, 2, 1, 3), (2, 0, 1, 3), (3, 1, 2, 0)], ids=str)
def test_strided_inputs_are_read_where_they_lie(device: str, permutation: tuple[int, ...]) -> None:
    case = on(device, make_case(sizes=(2, 3, 40, 40, 5, 8, 16), dtype=torch.float32, cross=True, masks=True))
    inverse = [permutation.index(axis) for axis in range(4)]
    strided = {name: x.permute(permutation).contiguous().permute(inverse) for name, x in case.tensors.items()}
    for name, x in strided.items():
        assert not x.is_contiguous(), name
    masks = {name: x.T.contiguous().T for name, x in case.options.items()}
    expected = soft_attention(**case.tensors, **case.options, backend="triton")
    assert torch.equal(soft_attention(**strided, **masks, backend="triton"), expected)


def test_products_of_strides_beyond_32_bits(device: str, tmp_path: Path) -> None:
    """Columns that lie 2^26 elements apart, in a file with holes where the CPU has no such memory."""
    width, distance = 40, 1 << 26
    if device == "cpu":
        memory = torch.from_file(str(tmp_path / "memory"), shared=True, size=width * distance, dtype=torch.float16)
    else:
        memory = torch.empty(width * distance, dtype=torch.float16, device=device)
    tensors = on(device, make_case(sizes=(1, 1, 3, 3, 2, width, width), dtype=torch.float16)).tensors
    far = {name: memory.as_strided((1, 1, 3, width), (1, 1, 1, distance), 64 * i) for i, name in enumerate(tensors)}
    for name, x in tensors.items():
        far[name] = far[name][:, :, : x.shape[2]].copy_(x)
    assert torch.equal(soft_attention(**far, backend="triton"), soft_attention(**tensors, backend="triton"))


@pytest.mark.parametrize("width", [8, 24, 36])
def test_gradients_without_strides(device: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a sum is one number at every place."""
    from softformer.ops.attention.triton import launch

    strides, project = [], launch.project

    def recorded(tokens: object, right: Tensor, landmarks: object) -> Tensor:
        strides.append(right.stride())
        return project(tokens, right, landmarks)  # type: ignore[arg-type]

    monkeypatch.setattr(launch, "project", recorded)
    case = on(device, make_case(sizes=(2, 2, 37, 37, 5, width, width), dtype=torch.float32, masks=True))
    leaves = case.leaves()
    out = soft_attention(**leaves, **case.options, backend="triton")
    ones = torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out), retain_graph=True)
    out.sum().backward()
    assert strides[-1] == (0, 0, 0, 0)
    for x, expected in zip(leaves.values(), ones):
        torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=1e-6)


def test_a_nan_in_a_real_token_is_not_hidden(device: str) -> None:
    tensors = on(device, make_case(dtype=torch.float32)).tensors
    tensors["query"][1, 0, 3, 2] = torch.nan
    out = soft_attention(**tensors, backend="triton")
    assert out[1, 0].isnan().any()
    assert out[0].isfinite().all()
