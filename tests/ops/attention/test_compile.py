"""The attention under torch.compile and torch.export, and the consistency of its custom operators."""

from typing import Any

import pytest
import torch
from attention_cases import make_case, takes, widest_type
from torch import Tensor, nn
from torch.export import Dim, export

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.attention.backends import BACKENDS

EXPORTED = {
    "newton": Newton(),
    "halving": Newton(ridge=0.0, start="halving", gradient="unrolled"),
    "cholesky": Cholesky(),
}


@pytest.mark.parametrize("cross", [False, True])
def test_compiles_whole_with_dynamic_length(cross: bool) -> None:
    def function(options: dict[str, Tensor], tensors: dict[str, Tensor]) -> Tensor:
        out = soft_attention(**tensors, **options, inverse=Cholesky(), symmetric_norm=True)  # type: ignore[arg-type]
        return out.transpose(1, 2).flatten(2).sin()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    counter = torch._dynamo.testing.EagerAndRecordGraphs()
    counting = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    for length in (31, 47, 64):
        case = make_case(cross=cross, masks=True, sizes=(2, 3, length, length - 8, 7, 5, 11))
        counting(case.options, case.leaves())
        results = []
        for run in (function, compiled):
            leaves = case.leaves()
            out = run(case.options, leaves)
            results.append([out, *torch.autograd.grad(out.square().sum(), list(leaves.values()))])
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)
    assert len(counter.graphs) == 1
    assert any("softformer" in str(node.target) for graph in counter.graphs for node in graph.graph.nodes)


def test_inductor_gives_the_same_numbers() -> None:
    def function(query: Tensor, value: Tensor, landmarks: Tensor) -> Tensor:
        return soft_attention(2 * query, value, landmarks).transpose(1, 2).flatten(2).relu()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    for length in (31, 47):
        tensors = make_case(sizes=(2, 3, length, length, 7, 5, 11)).tensors
        torch.testing.assert_close(compiled(**tensors), function(**tensors), rtol=1e-10, atol=1e-12)


class Attention(nn.Module):
    def __init__(self, inverse: Inverse, symmetric_norm: bool) -> None:
        super().__init__()
        self.inverse, self.symmetric_norm = inverse, symmetric_norm

    def forward(self, query: Tensor, value: Tensor, landmarks: Tensor, mask: Tensor) -> Tensor:
        return soft_attention(
            query,
            value,
            landmarks,
            query_mask=mask,
            inverse=self.inverse,
            symmetric_norm=self.symmetric_norm,
            output_scale=0.5,
        )


@pytest.mark.parametrize("name", EXPORTED)
def test_exports_with_dynamic_batch_and_length(name: str) -> None:
    module = Attention(EXPORTED[name], symmetric_norm=name != "newton")

    def inputs(batch: int, length: int) -> tuple[Tensor, ...]:
        tensors = make_case(sizes=(batch, 3, length, length, 7, 5, 11)).tensors
        return (*tensors.values(), torch.rand(batch, length) > 0.2)

    batch, length = Dim("batch"), Dim("length")
    shapes = ({0: batch, 2: length}, {0: batch, 2: length}, {0: batch}, {0: batch, 1: length})
    program = export(module, inputs(2, 31), dynamic_shapes=shapes)
    assert not any("softformer" in str(node.target) for node in program.graph.nodes)
    for sizes in ((1, 7), (5, 99)):
        given = inputs(*sizes)
        torch.testing.assert_close(program.module()(*given), module(*given), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if takes(backend, torch.float32)])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("inverse", [Newton().init_args, Cholesky().init_args], ids=["newton", "cholesky"])
def test_operators_are_consistent(backend: str, cross: bool, inverse: dict[str, Any]) -> None:
    options = {"backend": backend, "symmetric_norm": True, **inverse}
    leaves = make_case(cross=cross, sizes=(2, 3, 11, 13, 3, 5, 7), dtype=widest_type(backend)).leaves()
    tensors = (leaves["query"], leaves["value"], leaves["landmarks"], leaves.get("key"), None, None, None, None)
    results = torch.library.opcheck(torch.ops.softformer.soft_attention.default, tensors, options)
    assert set(results.values()) == {"SUCCESS"}
    plain = [x if x is None else x.detach() for x in tensors]
    out, product, state = torch.ops.softformer.soft_attention(*plain, **options)
    results = torch.library.opcheck(
        torch.ops.softformer.soft_attention_backward.default,
        (torch.randn_like(out), product, state, *plain),
        options,
    )
    assert set(results.values()) == {"SUCCESS"}
