"""What operators ask for when they submit commands: the bodies of requests, and their bounds."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from control_plane.api.problems import told_as
from control_plane.api.requests import OperatorRequest, Text
from control_plane.api.rollouts import RolloutBody
from control_plane.names import COMMAND_ID_PATTERN, NAMED_COMMAND_PATTERN, PARAMETER_PATTERN
from control_plane.secrets.references import FILE_PATTERN, MOST_REFERENCES, REFERENCE_PATTERN, VARIABLE_PATTERN

LARGEST_STDIN_BYTES = 4 * 1024 * 1024
MOST_ARGUMENTS = 4096
LONGEST_ARGUMENT = 120 * 1024
LONGEST_PARAMETER = 4096
LARGEST_NUMBER = 2**53
MOST_PARAMETERS = 32


def _base64(text: str) -> str:
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if size > LARGEST_STDIN_BYTES:
        raise ValueError(f"must be at most {LARGEST_STDIN_BYTES} bytes before base64")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


def _variables(environment: dict[str, str]) -> dict[str, str]:
    if any(not name or "=" in name or "\x00" in name for name in environment):
        raise ValueError("the name of a variable is empty or holds = or NUL")
    return environment


Argument = Annotated[Text, Field(max_length=LONGEST_ARGUMENT)]
ParameterName = Annotated[str, StringConstraints(pattern=PARAMETER_PATTERN)]
ParameterValue = Annotated[
    Annotated[Text, Field(max_length=LONGEST_PARAMETER)]
    | Annotated[int, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
    | bool,
    told_as(f"must be a string of at most {LONGEST_PARAMETER} characters without NUL, a whole number, true or false"),
]
Parameters = Annotated[dict[ParameterName, ParameterValue], Field(max_length=MOST_PARAMETERS)]
Variables = Annotated[dict[str, Argument], Field(max_length=MOST_ARGUMENTS), AfterValidator(_variables)]
Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
VariableName = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
FileName = Annotated[str, StringConstraints(pattern=FILE_PATTERN)]


class TargetBody(OperatorRequest):
    """Which nodes; exactly one way of saying it."""

    node: str | None = Field(default=None, max_length=64)
    cluster: str | None = Field(default=None, max_length=64)
    selector: dict[str, str] | None = Field(default=None, min_length=1, max_length=16)
    all: bool | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "TargetBody":
        if self.all is False:
            raise ValueError("all must be true, or left out")
        if sum(choice is not None for choice in (self.node, self.cluster, self.selector, self.all)) != 1:
            raise ValueError("give exactly one of node, cluster, selector and all")
        return self


class SecretReferences(OperatorRequest):
    """Workspace secrets that the command is given: `scope/key` by name of a variable, or of a file."""

    environment: dict[VariableName, Reference] = Field(default={}, max_length=MOST_REFERENCES)
    files: dict[FileName, Reference] = Field(default={}, max_length=MOST_REFERENCES)

    @model_validator(mode="after")
    def _bounded(self) -> "SecretReferences":
        if not 0 < len(self.environment) + len(self.files) <= MOST_REFERENCES:
            raise ValueError(f"name 1 to {MOST_REFERENCES} secrets")
        if any(name.startswith("TRUNKLINE_") for name in self.environment):
            raise ValueError("variables named TRUNKLINE_… are the agent's own")
        return self


class LimitsBody(OperatorRequest):
    """What the command may use at most; the node's owner may allow less."""

    memory_bytes: int | None = Field(default=None, ge=4 * 1024**2, le=2**50)
    processes: int | None = Field(default=None, ge=1, le=2**22)
    cpu_percent: int | None = Field(default=None, ge=1, le=409_600)
    open_files: int | None = Field(default=None, ge=16, le=2**20)
    output_bytes: int | None = Field(default=None, ge=1024, le=2**50)

    @model_validator(mode="after")
    def _something(self) -> "LimitsBody":
        if not self.model_dump(exclude_none=True):
            raise ValueError("name at least one limit, or leave limits out")
        return self


class NewCommand(OperatorRequest):
    """The body of a submission."""

    command_id: str | None = Field(default=None, pattern=COMMAND_ID_PATTERN)
    target: TargetBody
    argv: list[Argument] | None = Field(default=None, min_length=1, max_length=MOST_ARGUMENTS)
    named: str | None = Field(default=None, pattern=NAMED_COMMAND_PATTERN)
    parameters: Parameters = Field(default={})
    environment: Variables = Field(default={})
    working_directory: Annotated[Text, Field(max_length=4095), AfterValidator(_absolute)] | None = None
    user: str | None = Field(default=None, pattern=r"^[a-z_][a-z0-9_-]{0,31}\$?$")
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    grace_seconds: float | None = Field(default=None, ge=0, le=86400, allow_inf_nan=False)
    limits: LimitsBody | None = None
    stdin: Annotated[str, AfterValidator(_base64)] | None = None
    stdin_stream: bool | None = None
    secrets: SecretReferences | None = None
    rollout: RolloutBody | None = None

    @model_validator(mode="after")
    def _several(self) -> "NewCommand":
        if self.rollout is not None and self.target.node is not None:
            raise ValueError("a rollout needs a target of several nodes: cluster, selector or all")
        return self

    @model_validator(mode="after")
    def _one_program(self) -> "NewCommand":
        if (self.argv is None) == (self.named is None):
            raise ValueError("give either argv or named")
        if self.parameters and self.named is None:
            raise ValueError("parameters are those of a named command")
        return self

    @model_validator(mode="after")
    def _one_input(self) -> "NewCommand":
        if self.stdin_stream is False:
            raise ValueError("stdin_stream must be true, or left out")
        if self.stdin_stream and self.stdin is not None:
            raise ValueError("give stdin, or stdin_stream if it follows, not both")
        if self.stdin_stream and self.target.node is None:
            raise ValueError("standard input can follow to one node only: give target.node")
        return self

    @model_validator(mode="after")
    def _one_source_each(self) -> "NewCommand":
        if self.secrets is not None and self.secrets.environment.keys() & self.environment.keys():
            raise ValueError("a variable is given both in environment and in secrets")
        return self

    def spec(self) -> dict[str, Any]:
        """Return what a node is sent."""
        fields = self.model_dump(exclude={"command_id", "target", "rollout"}, exclude_none=True)
        return {name: value for name, value in fields.items() if value != {}}
