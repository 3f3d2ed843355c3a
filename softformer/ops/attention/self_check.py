"""The check of a backend that ``backend="auto"`` makes before it takes that backend.

Whether kernels work depends on the device, its driver, and its compiler. So "auto" compares a backend with the fallback
on the device where it would run, once for each kind of call.
"""

import warnings
from collections.abc import Callable
from math import isfinite
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softformer.ops.attention.operands import Inputs
from softformer.ops.inverse import Inverse

# The largest relative error of a result, unless the error of the fallback is near it: in float32 nearly coinciding
# landmarks cost digits, and a sum in another order may err a few times as much.
_TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
_TIMES_FALLBACK = 5
# Raised where kernels do not load, compile, or run, besides the `ERRORS` of the backend. Other exceptions are faults of
# the program and are not caught.
_ERRORS = (RuntimeError, ImportError, OSError)
_RESULTS = ("output", "gradient of query", "gradient of value", "gradient of landmarks", "gradient of key")

Load = Callable[[], ModuleType]
_verdicts: dict[tuple[Any, ...], bool] = {}


def passes_check(
    name: str, load: Load, load_fallback: Load, inputs: Inputs, inverse: Inverse, symmetric_norm: bool
) -> bool:
    """Whether a backend has the results of the fallback in calls of this kind.

    The kind of a call is its device, types, widths, number of landmarks, which of key and masks are present, and its
    options. The first call of a kind runs both backends, forward and backward, on a small problem of that kind, and
    warns if the backend fails. Nothing runs while a CUDA graph is captured, which would record it; the answer is then
    False until a call of the kind has run outside. Tracers and compilers see the operator, and never this check in it.
    The values of the inputs are not read.
    """
    query, value = inputs.query, inputs.value
    shape = (query.shape[3], value.shape[3], inputs.landmarks.shape[2])
    present = tuple(x is not None for x in inputs)
    key = (name, query.device, query.dtype, value.dtype, *shape, present, inverse, symmetric_norm)
    if key not in _verdicts:
        if query.is_cuda and torch.cuda.is_current_stream_capturing():
            return False
        fault = _fault(load, load_fallback, inputs, inverse, symmetric_norm)
        _verdicts[key] = fault is None
        if fault is not None:
            warnings.warn(
                f'backend="auto" uses a slower backend than {name!r} for D={shape[0]}, Dv={shape[1]}, M={shape[2]} in '
                f"{query.dtype} on {query.device}, because {name!r} failed its check: {fault}. Please report this; "
                f"backend={name!r} skips the check",
                stacklevel=2,
            )
    return _verdicts[key]


def _fault(load: Load, load_fallback: Load, inputs: Inputs, inverse: Inverse, symmetric_norm: bool) -> str | None:
    """A description of the fault of a backend on the example, or None."""
    example = _example(inputs)
    cotangent = example.value.roll(1, dims=2)

    def results(module: ModuleType, inputs: Inputs) -> list[Tensor]:
        out, saved = module.forward(inputs, inverse, symmetric_norm)
        gradients = module.backward(cotangent.to(out.dtype), saved, inputs, inverse, symmetric_norm)
        # Copies to the host wait for the device, so that an error of a kernel is raised here.
        return [x.to("cpu", torch.float64) for x in (out, *gradients) if x is not None]

    errors: tuple[type[Exception], ...] = _ERRORS
    try:
        module = load()
        errors += module.ERRORS
        found = results(module, example)
    except errors as raised:
        return f"{type(raised).__name__}: {raised}"
    fallback, wide = load_fallback(), example.to(torch.float64)
    tolerance = max(_TOLERANCES[x.dtype] for x in (inputs.query, inputs.value))
    for name, value, usual, exact in zip(_RESULTS, found, results(fallback, example), results(fallback, wide)):
        error, usual_error = (float((x - exact).norm() / exact.norm()) for x in (value, usual))
        bound = max(tolerance, _TIMES_FALLBACK * usual_error)
        # Where the fallback fails, too, as Cholesky without a ridge may, the result says nothing.
        if not error <= bound and isfinite(usual_error):
            return f"the {name} has a relative error of {error:.1e}, more than {bound:.1e}"
    return None


def _example(inputs: Inputs) -> Inputs:
    """A small problem with the types, widths, masks, and number of landmarks of the inputs.

    Its landmarks are segment means: they nearly coincide, so rounding errors show. It has a generator of its own, so
    the random numbers of the program do not change.
    """
    num_landmarks, generator = inputs.landmarks.shape[2], torch.Generator().manual_seed(0)
    length = max(131, 2 * num_landmarks + 1)

    def points(like: Tensor) -> Tensor:
        x = torch.randn(2, length, 2, like.shape[3], generator=generator, dtype=torch.float32, device="cpu")
        return (x * like.shape[3] ** -0.5).transpose(1, 2).to(like)

    def random_mask(like: Tensor | None, size: int) -> Tensor | None:
        if like is None:
            return None
        mask = torch.rand(2, size, generator=generator, dtype=torch.float32, device="cpu") < 0.8
        mask[:, 0] = True
        return mask.to(like.device)

    query, value = points(inputs.query), points(inputs.value)
    key = None if inputs.key is None else points(inputs.key)
    tokens = (query if key is None else key).float().flatten(0, 1)
    landmarks = F.adaptive_avg_pool1d(tokens.mT, num_landmarks).mT.unflatten(0, (2, 2)).to(query)
    sizes = {"query_mask": length, "key_mask": length, "landmark_mask": num_landmarks}
    masks = [random_mask(getattr(inputs, name), size) for name, size in sizes.items()]
    return Inputs(query, value, landmarks, key, *masks)
