"""``backend="auto"`` compares a backend with the fallback before it takes it, on the CPU with backends made to fail."""

import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from attention_cases import make_case, takes
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from softformer.ops import Cholesky, Inverse, Newton, soft_attention
from softformer.ops.attention import backends, eager, self_check
from softformer.ops.attention.backends import Backend, choose_backend
from softformer.ops.attention.operands import Gradients, Inputs, Saved


class KernelError(Exception):
    """An error of this backend's compiler."""


class Tried(ModuleType):
    """The eager backend under another name, with something broken, and a record of the inputs that it was given."""

    ERRORS = (KernelError,)

    def __init__(self, broken: Callable[..., Any] | None = None, result: str = "") -> None:
        super().__init__("tried_backend")
        self.calls: list[Inputs] = []
        self.broken, self.result = broken, result

    def forward(self, inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> tuple[Tensor, Saved]:
        self.calls.append(inputs)
        out, saved = eager.forward(inputs, inverse, symmetric_norm)
        return (self.broken(out) if self.broken and self.result == "output" else out), saved

    def backward(self, grad: Tensor, saved: Saved, inputs: Inputs, *options: Any) -> Gradients:
        gradients = dict(zip(Inputs._fields, eager.backward(grad, saved, inputs, *options)))
        if self.broken and gradients.get(self.result) is not None:
            gradients[self.result] = self.broken(gradients[self.result])
        return tuple(gradients.values())  # type: ignore[return-value]


Register = Callable[[Tried], Backend]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Puts a backend for the CPU before the others of the table."""

    def register(module: Tried) -> Backend:
        monkeypatch.setitem(sys.modules, module.__name__, module)
        backend = Backend(module.__name__, lambda inputs: None, ("cpu",))
        monkeypatch.setattr(backends, "BACKENDS", {"tried": backend, **backends.BACKENDS})
        monkeypatch.setattr(self_check, "_verdicts", {})
        return backend

    return register


def raising(error: BaseException) -> Callable[[Tensor], Tensor]:
    def broken(x: Tensor) -> Tensor:
        raise error

    return broken


def off_by(share: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + share * x.flip(2)


FAULTS = {
    "a runtime error": (raising(RuntimeError("no kernel image")), "output", "RuntimeError: no kernel image"),
    "an error of its compiler": (raising(KernelError("out of resources")), "value", "KernelError: out of resources"),
    "a library that is missing": (raising(OSError("libcuda.so: not found")), "output", "OSError: libcuda.so"),
    "zeros": (torch.zeros_like, "output", r"the output has a relative error of 1.0e\+00, more than [0-9.]+e-05"),
    "NaN": (lambda x: x * torch.nan, "output", "the output has a relative error of nan"),
    "half precision": (lambda x: x.bfloat16().to(x.dtype), "output", "the output has a relative error of"),
    **{
        f"wrong gradients of {name}": (off_by(3e-2), name, f"the gradient of {name} has a relative error of")
        for name in ("query", "value", "landmarks", "key")
    },
}


@pytest.mark.parametrize(("broken", "result", "message"), FAULTS.values(), ids=FAULTS)
def test_a_backend_that_fails_is_not_taken(
    broken: Callable[..., Any], result: str, message: str, register: Register
) -> None:
    module = Tried(broken, result)
    register(module)
    case = make_case(cross=True, masks=True, dtype=torch.float32)
    expected = soft_attention(**case.tensors, **case.options, backend="eager")
    leaves = case.leaves()
    with pytest.warns(UserWarning, match=f"'tried' for D=5, Dv=11, M=7 in torch.float32 on cpu.*{message}") as caught:
        out = soft_attention(**leaves, **case.options)
    out.sum().backward()
    assert len(caught) == 1
    assert torch.equal(out, expected)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves.values())
    assert [inputs.query.shape[2] for inputs in module.calls] == [131]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("inverse", [Newton(), Cholesky(), Cholesky(ridge=0.0)], ids=repr)
def test_a_backend_that_is_right_is_taken(dtype: torch.dtype, inverse: Inverse, register: Register) -> None:
    module = Tried()
    backend = register(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cross, masks in ((False, False), (False, True), (True, False), (True, True)):
            case = make_case(cross=cross, masks=masks, dtype=dtype)
            assert choose_backend("auto", Inputs(**case.tensors, **case.options), inverse, True) is backend
    assert len(module.calls) == 4


@pytest.mark.skipif(not takes("triton", torch.float32), reason="Triton's interpreter is off: see -m gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_triton_kernels_pass(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.BACKENDS, "triton", backends.BACKENDS["triton"]._replace(devices=("cpu",)))
    monkeypatch.setattr(self_check, "_verdicts", {})
    case = make_case(masks=True, dtype=dtype)
    chosen = choose_backend("auto", Inputs(**case.tensors, **case.options), Newton(), True)
    assert chosen is backends.BACKENDS["triton"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_kernels_that_round_the_landmark_gradient_are_found(dtype: torch.dtype, register: Register) -> None:
    """Errors of 3 % in bfloat16 and 0.5 % in float16, as of products whose operands are rounded to these types."""
    register(Tried(off_by(3e-2 if dtype == torch.bfloat16 else 5e-3), "landmarks"))
    with pytest.warns(UserWarning, match="gradient of landmarks"):
        soft_attention(**make_case(dtype=dtype).tensors)


def test_each_kind_of_call_is_checked_once(register: Register) -> None:
    module = Tried()
    register(module)

    def checks(inverse: Inverse | None = None, **case: Any) -> int:
        before = len(module.calls)
        made = make_case(**{"dtype": torch.float32, **case})
        choose_backend("auto", Inputs(**made.tensors, **made.options), inverse or Newton(), False)
        return len(module.calls) - before

    assert checks() == 1
    assert checks(sizes=(3, 2, 19, 23, 7, 5, 11)) == 0
    for sizes in ((2, 3, 29, 17, 7, 5, 13), (2, 3, 29, 17, 7, 3, 11), (2, 3, 29, 17, 13, 5, 11)):
        assert checks(sizes=sizes) == 1
    for case in ({"dtype": torch.float16}, {"masks": True}, {"cross": True}, {"inverse": Cholesky()}):
        assert (checks(**case), checks(**case)) == (1, 0)


def test_the_check_leaves_random_numbers_alone(register: Register) -> None:
    module = Tried()
    register(module)
    tensors = make_case(dtype=torch.float32).tensors
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    soft_attention(**tensors)
    assert len(module.calls) == 2
    assert torch.equal(torch.rand(3), expected)


def test_faults_of_the_program_are_not_caught(register: Register) -> None:
    register(Tried(raising(TypeError("an argument is missing")), "output"))
    with pytest.raises(TypeError, match="an argument is missing"):
        soft_attention(**make_case(dtype=torch.float32).tensors)


def test_a_module_that_does_not_load_is_not_taken(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register(Tried())
    monkeypatch.setitem(sys.modules, "tried_backend", None)
    with pytest.warns(UserWarning, match="failed its check: ModuleNotFoundError"):
        soft_attention(**make_case(dtype=torch.float32).tensors)


class Attention(nn.Module):
    def forward(self, query: Tensor, value: Tensor, landmarks: Tensor) -> Tensor:
        return soft_attention(query, value, landmarks).transpose(1, 2).flatten(2)


# A traced function for three inputs.
TRACERS: dict[str, Callable[..., Any]] = {
    "torch.jit.trace": lambda *inputs: torch.jit.trace(Attention(), inputs, check_trace=False),
    "torch.export": lambda *inputs: torch.export.export(Attention(), inputs).module(),
    "make_fx": lambda *inputs: make_fx(Attention())(*inputs),
    "make_fx of fake tensors": lambda *inputs: make_fx(Attention(), tracing_mode="fake")(*inputs),
}


@pytest.mark.parametrize("tracer", TRACERS.values(), ids=TRACERS)
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_tracers_do_not_record_the_check(tracer: Callable[..., Any], register: Register) -> None:
    register(Tried())
    inputs = tuple(make_case(dtype=torch.float32).tensors.values())
    traced = tracer(*inputs)
    assert "rand" not in str(traced.graph)
    expected = soft_attention(*inputs, backend="eager").transpose(1, 2).flatten(2)
    torch.testing.assert_close(traced(*inputs), expected)


@pytest.mark.parametrize("broken", [None, torch.zeros_like], ids=["right", "wrong"])
@pytest.mark.filterwarnings("ignore:backend=.auto. uses a slower backend:UserWarning")
def test_a_compiled_function_checks_when_it_runs(broken: Callable[..., Any] | None, register: Register) -> None:
    module = Tried(broken, "output")
    register(module)
    inputs = tuple(make_case(dtype=torch.float32).tensors.values())
    torch._dynamo.reset()
    compiled = torch.compile(Attention(), fullgraph=True, backend="aot_eager")
    expected = soft_attention(*inputs, backend="eager").transpose(1, 2).flatten(2)
    for _ in range(2):
        torch.testing.assert_close(compiled(*inputs), expected)
    assert [given.query.shape[2] for given in module.calls] == ([131] if broken else [131, 29, 29])
