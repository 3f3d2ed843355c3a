"""What the interpreter cannot show of the Triton kernels: large inputs, graphs, and compiled kernels on a GPU."""

import itertools
import random

import pytest
import torch
from attention_cases import INVERSES, make_case, on
from attention_runs import assert_parity, run
from torch import Tensor

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.attention import self_check
from softformer.ops.attention.backends import BACKENDS, choose_backend
from softformer.ops.attention.operands import Inputs

pytestmark = pytest.mark.gpu

TYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = [
    (2, 3, 29, 17, 7, 5, 11),
    (1, 2, 1000, 777, 49, 32, 32),
    (2, 2, 517, 300, 64, 64, 64),
    (1, 2, 300, 517, 100, 40, 24),
    (1, 1, 200, 190, 256, 128, 128),
    (1, 1, 130, 70, 1, 8, 72),
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("inverse", INVERSES.values(), ids=INVERSES)
@pytest.mark.usefixtures("poisoned_memory")
def test_parity(sizes: tuple[int, ...], dtype: torch.dtype, inverse: Inverse) -> None:
    for cross, masks, norm in itertools.product([False, True], repeat=3):
        case = on("cuda", make_case(cross=cross, masks=masks and max(sizes) > 1, sizes=sizes, dtype=dtype))
        assert_parity(case, "triton", inverse=inverse, symmetric_norm=norm, output_scale=1 / sizes[3])


@pytest.mark.usefixtures("poisoned_memory")
def test_a_thousand_random_shapes() -> None:
    generator = random.Random(0)
    for _ in range(1000):
        sizes = (
            generator.randint(1, 3),
            generator.randint(1, 4),
            generator.randint(1, 700),
            generator.randint(1, 700),
            generator.choice([1, 7, 16, 33, 49, 64, 100]),
            generator.choice([8, 16, 24, 32, 36, 40, 64, 128]),
            generator.choice([8, 16, 24, 32, 36, 48, 64, 128]),
        )
        cross, masks, segments = (generator.random() < 0.5 for _ in range(3))
        case = make_case(
            cross=cross,
            masks=masks and min(sizes[:5]) > 1,
            sizes=sizes,
            dtype=generator.choice(TYPES),
            segments=segments and min(sizes[2:4]) >= sizes[4],
        )
        options = {"inverse": Cholesky(0.1), "symmetric_norm": generator.random() < 0.5}
        assert_parity(on("cuda", case), "triton", output_scale=1 / sizes[3 if cross else 2], **options)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_auto_takes_the_kernels_once_released(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "triton", BACKENDS["triton"]._replace(devices=("cuda",)))
    for inverse, cross, masks in itertools.product((Newton(), Cholesky()), (False, True), (False, True)):
        case = on("cuda", make_case(dtype=dtype, cross=cross, masks=masks))
        chosen = choose_backend("auto", Inputs(**case.tensors, **case.options), inverse, True)
        assert chosen is BACKENDS["triton"]


def test_auto_checks_nothing_during_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "triton", BACKENDS["triton"]._replace(devices=("cuda",)))
    monkeypatch.setattr(self_check, "_verdicts", {})
    inputs = Inputs(**on("cuda", make_case(dtype=torch.float32)).tensors)
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        inputs.query + 1
        assert choose_backend("auto", inputs, Newton(), True) is BACKENDS["eager"]
    assert choose_backend("auto", inputs, Newton(), True) is BACKENDS["triton"]


def test_more_heads_than_a_grid_axis() -> None:
    sizes = (700, 100, 17, 17, 5, 8, 8)
    assert_parity(on("cuda", make_case(sizes=sizes, dtype=torch.float32)), "triton", inverse=Cholesky(0.1))


def test_offsets_beyond_32_bits() -> None:
    length = (1 << 31) // 16 + 1000
    query = torch.full((1, 1, length, 16), 0.1, dtype=torch.bfloat16, device="cuda")
    landmarks = torch.randn(1, 1, 16, 16, dtype=torch.bfloat16, device="cuda")
    out = soft_attention(query, query, landmarks, output_scale=1 / length, backend="triton")
    assert torch.equal(out[:, :, -1], out[:, :, 0])
    assert out[:, :, -1].isfinite().all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_same_bits_every_time(dtype: torch.dtype) -> None:
    case = on("cuda", make_case(sizes=(4, 2, 5000, 5000, 49, 32, 32), dtype=dtype))
    cotangent = torch.randn(4, 2, 5000, 32, device="cuda")
    first = run(case, cotangent, "triton")
    for _ in range(5):
        for name, value in run(case, cotangent, "triton").items():
            assert torch.equal(value, first[name]), name


@pytest.mark.parametrize("masks", [False, True], ids=["whole", "masked"])
def test_a_new_length_compiles_nothing(masks: bool) -> None:
    from softformer.ops.attention.triton import tokens

    def count() -> int:
        kernels = (tokens.project_kernel, tokens.expand_kernel, tokens.backward_kernel)
        return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())

    def once(batch: int, heads: int, length: int) -> None:
        sizes = (batch, heads, length, length, 7, 24, 36)
        case = on("cuda", make_case(sizes=sizes, dtype=torch.float32, masks=masks))
        run(case, torch.randn(batch, heads, length, 36, device="cuda"), "triton")

    once(2, 2, 64)
    before = count()
    for batch, heads, length in ((1, 1, 1), (3, 5, 333), (2, 1, 255), (16, 4, 1024)):
        once(batch, heads, length)
    assert count() == before


@pytest.mark.parametrize("inverse", INVERSES.values(), ids=INVERSES)
@pytest.mark.parametrize("norm", [False, True], ids=["soft", "soft++"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_cuda_graphs_capture_it(inverse: Inverse, norm: bool, dtype: torch.dtype) -> None:
    case = on("cuda", make_case(sizes=(2, 2, 500, 500, 49, 32, 32), dtype=dtype, masks=True))
    leaves = case.leaves()

    def step() -> tuple[Tensor, ...]:
        options = {**case.options, "inverse": inverse, "symmetric_norm": norm, "backend": "triton"}
        out = soft_attention(**leaves, **options)
        return out.detach(), *torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))

    expected = step()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    for x in results:
        x.zero_()
    graph.replay()
    for x, right in zip(results, expected):
        assert torch.equal(x, right)


@pytest.mark.parametrize("inverse", [Newton(), Cholesky()], ids=["newton", "cholesky"])
def test_compiles_whole_with_dynamic_length(inverse: Inverse) -> None:
    def function(tensors: dict[str, Tensor]) -> Tensor:
        out = soft_attention(**tensors, inverse=inverse, backend="triton")  # type: ignore[arg-type]
        return out.transpose(1, 2).flatten(2).sin()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    for length in (31, 47, 640):
        case = on("cuda", make_case(sizes=(2, 3, length, length, 7, 16, 16), dtype=torch.float32))
        results = []
        for call in (function, compiled):
            leaves = case.leaves()
            out = call(leaves)
            results.append([out, *torch.autograd.grad(out.square().sum(), list(leaves.values()))])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
