"""The base of option classes, and checks of the values of options."""

import functools
import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeVar, get_args

T = TypeVar("T")


class Options:
    """Base of immutable option classes, which record the arguments of their constructors.

    The ``__init__`` of a subclass is wrapped to record its arguments, defaults included, unless the subclass overrides
    `init_args`. Objects are equal if their classes and arguments are.

    Subclasses are plain classes, because a recipe can name a subclass of a plain class, but not of a dataclass.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls) and cls.init_args is Options.init_args:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    @property
    def init_args(self) -> dict[str, Any]:
        """The arguments of the constructor, defaults included."""
        if "_init_args" in vars(self):
            return dict(vars(self)["_init_args"])
        # A dataclass gets its __init__ after the class was created, so it is not wrapped; its fields are the arguments.
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and type(self) is type(other) and self.init_args == other.init_args

    def __hash__(self) -> int:
        return hash(type(self))  # arguments may be unhashable, or equal with unequal hashes

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in sorted(self.init_args.items()))})"
        )


def _recording(init: Callable[..., None]) -> Any:
    @functools.wraps(init)
    def wrapped(self: Options, *args: Any, **kwargs: Any) -> None:
        # Calls of super().__init__ have other arguments than the object.
        if "_init_args" not in vars(self):
            bound = inspect.signature(wrapped).bind(self, *args, **kwargs)
            bound.apply_defaults()
            vars(self)["_init_args"] = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)

    return wrapped


def check_choice(name: str, value: T, choices: Any) -> T:
    """Return the value if it is among the choices, a `Literal` or a tuple; otherwise raise an error that lists them."""
    choices = get_args(choices) or choices
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_positive(name: str, value: int) -> int:
    """Return the value if it is an integer of at least 1; otherwise raise an error."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value
