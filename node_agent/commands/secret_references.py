"""References: the part of a submission that names workspace secrets, and under what name the command finds each."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_REFERENCES = 32
OWN_PREFIX = "TRUNKLINE_"

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

Reference = Annotated[str, StringConstraints(pattern=rf"^[A-Za-z0-9][A-Za-z0-9_.@-]{{0,127}}/{_NAME}$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
FileName = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]

Way = Literal["environment", "file"]


class SecretReferences(BaseModel):
    """Secrets (`scope/key`) by the name of the variable, or of the file, in which the command finds them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    environment: dict[VariableName, Reference] = Field(default_factory=dict, max_length=MOST_REFERENCES)
    files: dict[FileName, Reference] = Field(default_factory=dict, max_length=MOST_REFERENCES)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 0 < len(self.environment) + len(self.files) <= MOST_REFERENCES:
            raise ValueError(f"1 to {MOST_REFERENCES} secrets can be named")
        if any(name.startswith(OWN_PREFIX) for name in self.environment):
            raise ValueError(f"variables named {OWN_PREFIX}… are the agent's own")
        return self

    def named(self) -> set[str]:
        """Return the secrets that are meant, each once."""
        return {*self.environment.values(), *self.files.values()}

    def each(self) -> Iterator[tuple[str, Way]]:
        """Yield each secret once for each way in which it is given, sorted."""
        yield from ((name, "environment") for name in sorted(set(self.environment.values())))
        yield from ((name, "file") for name in sorted(set(self.files.values())))


def scope_of(reference: str) -> str:
    """Return the scope of `scope/key`."""
    return reference.partition("/")[0]
