"""Typed parameters of named commands: what a submitter may put in, and the text that the program then sees.

A value is checked as a whole, by rules that the node's owner wrote. What comes out is put into one element of an
argument list, or is one, and no shell ever reads it.
"""

from collections.abc import Mapping
from posixpath import normpath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from node_agent.rules.base import AbsolutePath, Array, Rules

LONGEST_VALUE = 4096
LARGEST_INTEGER = 2**53

Value = str | int | bool
"""What a submitter may give. Numbers and truth values may also be given as text, as command lines do."""

RealPaths = Mapping[str, str]
"""Paths, and where they lead once all symbolic links are followed."""


class ParameterRefused(Exception):  # noqa: N818 - an expected refusal
    """The value is not what the owner allows; the message says what would be, and does not repeat the value."""


class _Parameter(Rules):
    description: str = Field(default="", max_length=512)

    def dashed(self, text: str, *, allowed: bool) -> str:
        """Return the text unless a program could take it for an option.

        Raises:
            ParameterRefused: it begins with `-`.
        """
        if text.startswith("-") and not allowed:
            raise ParameterRefused("must not begin with -")
        return text


class StringParameter(_Parameter):
    """Text: one of `enum`, or what `pattern` matches as a whole (Rust's syntax, which takes linear time)."""

    type: Literal["string"]
    enum: Annotated[tuple[str, ...], Array, Field(min_length=1, max_length=256)] | None = None
    pattern: str | None = Field(default=None, max_length=1024)
    max_length: int = Field(default=256, ge=1, le=LONGEST_VALUE)
    allow_leading_dash: bool = False
    default: str | None = None

    _validator: SchemaValidator | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if (self.enum is None) == (self.pattern is None):
            raise ValueError("a string needs either enum or pattern, which say what it may be")
        if self.pattern is not None:
            object.__setattr__(self, "_validator", _matcher(self.pattern))
        if not self.allow_leading_dash and any(one.startswith("-") for one in self.enum or ()):
            raise ValueError("a value of enum begins with -, which needs allow_leading_dash = true")
        _check_default(self, self.default)
        return self

    def text(self, value: Value, real: RealPaths) -> str:
        """Return the value as the program sees it.

        Raises:
            ParameterRefused: it is not what is allowed.
        """
        if not isinstance(value, str):
            raise ParameterRefused("must be a string")
        if len(value) > self.max_length:
            raise ParameterRefused(f"must not be longer than {self.max_length} characters")
        if "\0" in value or (self.enum is not None and value not in self.enum):
            raise ParameterRefused("is none of the values that are allowed")
        if self._validator is not None:
            self._match(self._validator, value)
        return self.dashed(value, allowed=self.allow_leading_dash)

    def _match(self, validator: SchemaValidator, value: str) -> None:
        try:
            validator.validate_python(value)
        except ValidationError:
            raise ParameterRefused("does not match the pattern that is asked for") from None


class IntegerParameter(_Parameter):
    """A whole number within bounds; it can only be negative, and so begin with `-`, where `min` is."""

    type: Literal["integer"]
    min: int = Field(default=0, ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)
    max: int = Field(default=2**31 - 1, ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)
    default: int | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.min > self.max:
            raise ValueError("min is above max")
        _check_default(self, self.default)
        return self

    def text(self, value: Value, real: RealPaths) -> str:
        """Return the value as the program sees it: decimal digits.

        Raises:
            ParameterRefused: it is no whole number, or out of bounds.
        """
        number = _integer(value)
        if number is None:
            raise ParameterRefused("must be a whole number")
        if not self.min <= number <= self.max:
            raise ParameterRefused(f"must be from {self.min} to {self.max}")
        return str(number)


class BooleanParameter(_Parameter):
    """A truth value: `true` or `false`; with `flag` that text if it is true, and no argument at all if it is false."""

    type: Literal["boolean"]
    flag: str | None = Field(default=None, min_length=1, max_length=256, pattern=r"^[^\x00]+$")
    default: bool | None = None

    def text(self, value: Value, real: RealPaths) -> str | None:
        """Return the value as the program sees it; None leaves the argument out.

        Raises:
            ParameterRefused: it is no truth value.
        """
        named = {"true": True, "false": False}
        truth = named.get(value) if isinstance(value, str) else value
        if not isinstance(truth, bool):
            raise ParameterRefused("must be true or false")
        if self.flag is not None:
            return self.flag if truth else None
        return "true" if truth else "false"


class PathParameter(_Parameter):
    """An absolute path beneath one of the directories `under`, also once symbolic links are followed.

    What the program sees is where the path led at the submit. Whoever can write beneath the directory can still put a
    link there afterwards: name directories that only trusted users write to.
    """

    type: Literal["path"]
    under: Annotated[tuple[AbsolutePath, ...], Array, Field(min_length=1, max_length=64)]
    max_length: int = Field(default=1024, ge=1, le=4095)
    default: AbsolutePath | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.default is not None and not self.looks_right(self.default):
            raise ValueError("the default is not beneath any of the directories")
        return self

    def text(self, value: Value, real: RealPaths) -> str:
        """Return the path as the program sees it.

        Raises:
            ParameterRefused: it is not beneath any of the directories, or leads out of them.
        """
        if not self.looks_right(value):
            raise ParameterRefused(f"must be an absolute path without . and .. beneath {' or '.join(self.under)}")
        leads_to = real.get(str(value))
        bases = [real[directory] for directory in self.under if directory in real]
        if leads_to is None or not any(_beneath(leads_to, base) for base in bases):
            raise ParameterRefused(f"leads out of {' and '.join(self.under)} by a symbolic link")
        return leads_to

    def looks_right(self, value: Any) -> bool:
        """Whether the path is beneath one of the directories by its text."""
        return (
            isinstance(value, str)
            and len(value) <= self.max_length
            and not any(character < " " or character == "\x7f" for character in value)
            and normpath(value) == value
            and any(_beneath(value, directory) for directory in self.under)
        )


Parameter = Annotated[
    StringParameter | IntegerParameter | BooleanParameter | PathParameter, Field(discriminator="type")
]


def _matcher(pattern: str) -> SchemaValidator:
    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern))  # by itself, so that it cannot end the group around it
        return SchemaValidator(core_schema.str_schema(pattern=rf"\A(?:{pattern})\z", strict=True))
    except SchemaError:
        raise ValueError("the pattern is not a regular expression (without look-around and back-references)") from None


def _check_default(parameter: StringParameter | IntegerParameter, default: Value | None) -> None:
    if default is not None:
        try:
            parameter.text(default, {})
        except ParameterRefused as error:
            raise ValueError(f"the default {error}") from None


def _integer(value: Value) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    digits = value.removeprefix("-")
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= 16 and (digits == "0" or digits[0] != "0")
    return int(value) if plain and value != "-0" else None


def _beneath(path: str, directory: str) -> bool:
    return path.startswith("/" if directory == "/" else f"{directory}/") and path != directory
