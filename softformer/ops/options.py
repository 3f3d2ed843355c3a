"""Objects that hold options and nothing else."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


class Options:
    """Base of configuration objects, which remember the arguments they were made with and never change.

    A subclass needs to do nothing: its ``__init__`` is wrapped so that `init_args` knows every argument, defaults
    included. Comparison and printing go by class and arguments.

    Subclasses are plain classes, because a recipe can name a subclass of a plain class, and not of a dataclass.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    @property
    def init_args(self) -> dict[str, Any]:
        """The arguments this object was made with, as given, and the defaults of the others."""
        if "_init_args" in vars(self):
            return dict(vars(self)["_init_args"])
        # A dataclass gets its __init__ after the class exists, so nothing was wrapped: its fields are the arguments.
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and type(self) is type(other) and self.init_args == other.init_args

    def __hash__(self) -> int:
        return hash(type(self))  # equal arguments may be of types that hash differently, or not at all

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.init_args.items())})"


def _remembering(init: Callable[..., None]) -> Any:
    @functools.wraps(init)
    def wrapped(self: Options, *args: Any, **kwargs: Any) -> None:
        if "_init_args" not in vars(self):  # the outermost of a chain of super().__init__ calls
            bound = inspect.signature(wrapped).bind(self, *args, **kwargs)
            bound.apply_defaults()
            vars(self)["_init_args"] = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)

    return wrapped


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is among the choices.

    Raises:
        ValueError: It is not; the message lists them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value
