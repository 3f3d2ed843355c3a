"""Objects that hold options and nothing else."""


class Options:
    """Base of plain classes whose attributes are the arguments they were made with; they never change.

    Plain, because recipes read the defaults of plain classes and can name their subclasses.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({options})"


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is among the choices.

    Raises:
        ValueError: It is not; the message lists them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value
