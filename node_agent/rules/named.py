"""Named commands: argument lists that the node's owner wrote, with typed parameters, users, times and callers."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from node_agent.rules.base import AbsolutePath, Array, ParameterName, Rules, Subjects, UserName
from node_agent.rules.environment import NamePatterns
from node_agent.rules.limits import Limits
from node_agent.rules.parameters import (
    BooleanParameter,
    Parameter,
    ParameterRefused,
    PathParameter,
    RealPaths,
    Value,
)
from node_agent.rules.schedule import Schedule
from node_agent.rules.templates import check_template, filled, places_of

MOST_PARAMETERS = 32

Template = Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Array, Field(min_length=1, max_length=256)]


class WrongParameter(Exception):  # noqa: N818 - an expected refusal
    """A parameter is missing, unknown, or has a value that is not allowed."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"the parameter {name} {message}")
        self.name = name


class NamedCommand(Rules):
    """One command that may be submitted by its name.

    `timeout_seconds`, `limits` and the two maxima are what it gets that is asked for without, and the most that can be
    asked for; those of all commands count besides.
    """

    description: str = Field(default="", max_length=512)
    argv: Template
    parameters: dict[ParameterName, Parameter] = Field(default_factory=dict, max_length=MOST_PARAMETERS)
    user: UserName | None = None
    working_directory: AbsolutePath | None = None
    timeout_seconds: float | None = Field(default=None, gt=0)
    max_grace_seconds: float | None = Field(default=None, ge=0, le=86400)
    max_output_bytes: int | None = Field(default=None, ge=1024)
    limits: Limits = Limits()
    allowed_subjects: Subjects | None = None
    schedule: Schedule | None = None
    environment: NamePatterns = ()
    stdin: bool = False

    @model_validator(mode="after")
    def _places_are_parameters(self) -> Self:
        places = check_template(self.argv)
        for name in sorted(places - self.parameters.keys()):
            raise ValueError(f"argv has a place for {name}, which is not among its parameters")
        for name in sorted(self.parameters.keys() - places):
            raise ValueError(f"argv has no place for the parameter {name}")
        for element in self.argv:
            if any(self._is_flag(name) and element != f"{{{name}}}" for name in places_of(element)):
                raise ValueError(f"a parameter with a flag has an element of argv for itself, unlike in {element!r}")
        return self

    def paths_in(self, given: Mapping[str, Value]) -> Iterator[str]:
        """Yield the paths that must be followed before `arguments` can be asked."""
        for name, parameter in self.parameters.items():
            value = given.get(name, parameter.default)
            if isinstance(parameter, PathParameter) and isinstance(value, str) and parameter.looks_right(value):
                yield from (value, *parameter.under)

    def arguments(self, given: Mapping[str, Value], real: RealPaths) -> list[str]:
        """Return the argument list for these parameters.

        Raises:
            WrongParameter: one is missing, unknown, or has a value that is not allowed.
        """
        for name in sorted(given.keys() - self.parameters.keys()):
            raise WrongParameter(name[:64], "is not one of this command's")
        return filled(self.argv, {name: self._text(name, given, real) for name in self.parameters})

    def _text(self, name: str, given: Mapping[str, Value], real: RealPaths) -> str | None:
        parameter = self.parameters[name]
        value = given.get(name, parameter.default)
        if value is None:
            raise WrongParameter(name, "is missing, and has no default")
        try:
            return parameter.text(value, real)
        except ParameterRefused as error:
            raise WrongParameter(name, str(error)) from None

    def _is_flag(self, name: str) -> bool:
        parameter = self.parameters.get(name)
        return isinstance(parameter, BooleanParameter) and parameter.flag is not None
