"""The table of backends: name -> implementation, and why it cannot run here.

A new backend is one file in this folder with `forward` and `backward` of the signatures in `eager`, plus one row here;
parity tests and benchmarks read the table. ``"reference"`` is not in it: autograd runs that one.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from softformer.ops import eager

BackendName = Literal["auto", "reference", "eager"]


class Backend(NamedTuple):
    """An implementation: its two functions, and the reason why it cannot take these inputs, or None."""

    forward: Callable[..., tuple[Tensor, eager.Saved]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor | None]]
    obstacle: Callable[[Tensor, Tensor, Tensor], str | None]


def _no_obstacle(query: Tensor, value: Tensor, landmarks: Tensor) -> str | None:
    return None


# In the order in which "auto" tries them.
BACKENDS: dict[str, Backend] = {"eager": Backend(eager.forward, eager.backward, _no_obstacle)}


def available_backends() -> list[str]:
    """Every value that `backend=` takes."""
    return list(get_args(BackendName))


def choose_backend(name: str, query: Tensor, value: Tensor, landmarks: Tensor) -> str:
    """The name of the backend to run: the first that can for ``"auto"``, else the one that was asked for.

    Raises:
        ValueError: The name is unknown, or that backend cannot run on these inputs (with its reason).
    """
    if name == "reference":
        return name
    if name == "auto":
        return next(row for row, backend in BACKENDS.items() if backend.obstacle(query, value, landmarks) is None)
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, available_backends()))}, got {name!r}")
    if reason := BACKENDS[name].obstacle(query, value, landmarks):
        raise ValueError(f"backend={name!r} cannot run here: {reason}")
    return name
