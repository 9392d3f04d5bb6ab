"""What every part of a policy shares: unknown keys are errors, and nothing changes after it was read."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Rules(BaseModel):
    """A part of a policy."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Array = BeforeValidator(_tuple)
"""Annotates tuples: what is read from TOML is a list."""

UserName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}\$?$")]
Subjects = Annotated[tuple[Annotated[str, Field(max_length=512)], ...], Array]
CommandName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ParameterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
AbsolutePath = Annotated[str, Field(max_length=4095, pattern=r"^/(?:[^/\x00-\x1f\x7f]+(?:/[^/\x00-\x1f\x7f]+)*)?$")]
