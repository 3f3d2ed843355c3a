"""The attentions that are compared, each as a function of the same inputs.

Run as a module, with a `Problem` and names as JSON, it prints the peak memory of those methods.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import Timer, peak_memory
from benchmarks.own_process import in_own_process
from benchmarks.published import published_attention
from softformer.ops import Cholesky, Newton, soft_attention
from softformer.ops.attention.backends import BACKENDS
from softformer.ops.attention.operands import Inputs

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
_NYSTROM_LANDMARKS = 64


class Problem(NamedTuple):
    """Sizes, type and device of one comparison; `backward` adds the gradients of all inputs."""

    length: int
    device: str
    dtype: str = "float32"
    backward: bool = False
    batch: int = 4
    heads: int = 2
    width: int = 32
    landmarks: int = 49

    def tensors(self, landmark_scale: float = 2.0) -> list[Tensor]:
        """Query, value and landmarks; landmarks are scaled means of segments of the query, as in sequences."""
        dtype = getattr(torch, self.dtype)
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.heads, self.length, self.width)
        query, value = (torch.randn(shape, generator=generator).to(self.device, dtype) for _ in range(2))
        query = query / self.width**0.25
        parts = torch.linspace(0, self.length, self.landmarks + 1).long().tolist()
        means = [query[:, :, begin : max(end, begin + 1)].mean(2) for begin, end in pairwise(parts)]
        return [x.requires_grad_(self.backward) for x in (query, value, landmark_scale * torch.stack(means, 2))]


class Method(NamedTuple):
    """An attention, and whether it is softmax-free attention by the published formula (and so held to it)."""

    make: Callable[[Problem], Attention]
    is_soft: bool
    linear: bool = True


def _backend(name: str, inverse: Newton | Cholesky) -> Method:
    def make(problem: Problem) -> Attention:
        return lambda query, value, landmarks: soft_attention(
            query,
            value,
            landmarks,
            inverse=inverse,
            backend=name,  # type: ignore[arg-type]
        )

    return Method(make, is_soft=True)


def _sdpa(problem: Problem) -> Attention:
    """Fused softmax by the backend that is fastest for the problem, with its backward if it has one; a CPU has one."""

    def by(backend: SDPBackend) -> Attention:
        def run(query: Tensor, value: Tensor, landmarks: Tensor) -> Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(query, query, value)

        return run

    if problem.device == "cpu":
        return by(SDPBackend.FLASH_ATTENTION)
    able = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        with suppress(RuntimeError):  # "No available kernel"
            run = _run(by(backend), problem, 2)
            run()
            able[backend] = run
    times = Timer(torch.device(problem.device), rounds=3).medians({backend.name: run for backend, run in able.items()})
    return by(min(able, key=lambda backend: times[backend.name]))


def _nystromformer(problem: Problem) -> Attention:
    """The attention of transformers' Nystromformer without its projections and its convolution."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    config = NystromformerConfig(
        hidden_size=problem.heads * problem.width,
        num_attention_heads=problem.heads,
        num_landmarks=_NYSTROM_LANDMARKS,
        segment_means_seq_len=problem.length,
        attention_probs_dropout_prob=0.0,
    )
    layer = NystromformerSelfAttention(config).to(problem.device, getattr(torch, problem.dtype))
    layer.query = layer.key = layer.value = torch.nn.Identity()
    layer.conv_kernel_size = None  # the configuration takes no None
    return lambda query, value, landmarks: layer(query.transpose(1, 2).flatten(2))[0]


def _linear_attention(problem: Problem) -> Attention:
    from fla.ops.linear_attn import chunk_linear_attn

    def run(query: Tensor, value: Tensor, landmarks: Tensor) -> Tensor:
        rows = [x.transpose(1, 2) for x in (query, query, value)]
        return chunk_linear_attn(*rows, normalize=False)[0].transpose(1, 2)

    return run


METHODS: dict[str, Method] = {
    "published formula": Method(lambda problem: published_attention, is_soft=True),
    "compiled formula": Method(lambda problem: torch.compile(published_attention, dynamic=False), is_soft=True),
    **{f"{name}": _backend(name, Newton()) for name in BACKENDS},
    **{f"{name}, Cholesky": _backend(name, Cholesky()) for name in BACKENDS},
    "SDPA": Method(_sdpa, is_soft=False, linear=False),
    "Nystromformer": Method(_nystromformer, is_soft=False),
    "linear attention (fla)": Method(_linear_attention, is_soft=False),
}


def obstacle(name: str, problem: Problem) -> str | None:
    """Why a method cannot take a problem, or None."""
    backend = BACKENDS.get(name.removesuffix(", Cholesky"))
    if backend is not None:
        x = torch.empty(0, 1, 1, problem.width, dtype=getattr(torch, problem.dtype), device=problem.device)
        return backend.obstacle(Inputs(x, x, x))
    if name == "Nystromformer" and problem.dtype != "float32":
        return "its inverse mixes float32 with the type of its inputs, which torch refuses"
    if name == "Nystromformer" and problem.length % _NYSTROM_LANDMARKS:
        return f"its segments must have equal lengths: {problem.length} is no multiple of {_NYSTROM_LANDMARKS}"
    if name == "linear attention (fla)" and (problem.device != "cuda" or find_spec("fla") is None):
        return "flash-linear-attention is not installed, or there is no GPU"
    return None


def runner(name: str, problem: Problem) -> Callable[[], Any]:
    """A function of no arguments: the forward, with all gradients if the problem asks for them."""
    num_inputs = 3 if METHODS[name].is_soft else 1 if name == "Nystromformer" else 2
    return _run(METHODS[name].make(problem), problem, num_inputs)


def _run(attention: Attention, problem: Problem, num_inputs: int) -> Callable[[], Any]:
    """The forward, or forward and backward to the first inputs."""
    tensors = problem.tensors()
    if not problem.backward:

        def forward() -> Tensor:
            with torch.no_grad():
                return attention(*tensors)

        return forward
    cotangent = torch.randn_like(attention(*tensors))

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(attention(*tensors), tensors[:num_inputs], cotangent)

    return both


def result_bytes(problem: Problem) -> int:
    """Bytes of the output and of the gradients: what no method can save."""
    tokens = problem.batch * problem.heads * problem.length * problem.width
    points = problem.batch * problem.heads * problem.landmarks * problem.width
    size = getattr(torch, problem.dtype).itemsize
    return (3 * tokens + points if problem.backward else tokens) * size


def extra_memory(problem: Problem, names: list[str]) -> dict[str, int]:
    """Peak bytes of each method beyond inputs, output and gradients; on a CPU measured in a process of its own."""
    if problem.device == "cuda":
        return _extra_memory(problem, names)
    request = json.dumps({"problem": problem._asdict(), "names": names})
    return in_own_process("benchmarks.attention_methods", request, memory=True)


def _extra_memory(problem: Problem, names: list[str]) -> dict[str, int]:
    device = torch.device(problem.device)
    peaks = {name: peak_memory(runner(name, problem), device) for name in names}
    return {name: max(0, peak - result_bytes(problem)) for name, peak in peaks.items()}


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps(_extra_memory(Problem(**request["problem"]), request["names"])))
