"""The plan of a run: which scripts, in which order, and what they are told. A machine document, checked throughout."""

import base64
import binascii
import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from node_agent.commands.secret_references import SecretReferences

LARGEST_SCRIPT_BYTES = 64 * 1024
MOST_SCRIPTS = 200
MOST_CLUSTERS = 1000

ScriptId = Annotated[str, StringConstraints(pattern=r"^is-[a-z2-7]{20}$")]
ShortText = Annotated[str, Field(min_length=1, max_length=128)]


class PlanRefused(Exception):  # noqa: N818 - an expected refusal
    """The document is no plan, or a script in it is not the one that its hash is of; the message says which."""


class _Part(BaseModel):
    """A part of a machine document: fields of later releases are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class PlannedCluster(_Part):
    """A cluster that the node is in."""

    cluster_id: ShortText
    cluster: ShortText


class PlannedScript(_Part):
    """One script; `cluster_id` is the cluster whose script it is, None for a global one."""

    script_id: ScriptId
    name: ShortText
    sha256: str
    script: bytes = Field(repr=False)
    cluster_id: str | None = None
    secrets: SecretReferences | None = None

    @field_validator("script", mode="before")
    @classmethod
    def _content(cls, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be base64")
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("must be base64") from None
        if not 0 < len(content) <= LARGEST_SCRIPT_BYTES:
            raise ValueError(f"must be 1 to {LARGEST_SCRIPT_BYTES} bytes")
        return content

    @model_validator(mode="after")
    def _is_the_one(self) -> "PlannedScript":
        if hashlib.sha256(self.script).hexdigest() != self.sha256:
            raise ValueError("its content is not the one that its hash is of")
        return self


class InitPlan(_Part):
    """What one run of this node is; `request_time` is when it was asked for, in milliseconds, or 0."""

    run: int = Field(ge=1, lt=2**53)
    request_time: int = Field(default=0, ge=0, lt=2**53)
    driver: bool = False
    clusters: tuple[PlannedCluster, ...] = Field(default=(), max_length=MOST_CLUSTERS)
    scripts: tuple[PlannedScript, ...] = Field(default=(), max_length=MOST_SCRIPTS)

    @field_validator("clusters", "scripts", mode="before")
    @classmethod
    def _array(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _once_each(self) -> "InitPlan":
        if len({script.script_id for script in self.scripts}) < len(self.scripts):
            raise ValueError("a script is in it twice")
        return self


def read_plan(document: Any) -> InitPlan:
    """Return the plan that a document is.

    Raises:
        PlanRefused: it is none, or a hash does not match.
    """
    try:
        return InitPlan.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "plan"
        problem = first["msg"].removeprefix("Value error, ")
        raise PlanRefused(f"the plan of the init scripts cannot be used: {place}: {problem}") from None


def parse_plan(content: bytes) -> InitPlan:
    """Return the plan that was stored.

    Raises:
        PlanRefused: the file is damaged.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise PlanRefused("the stored plan of the init scripts is damaged") from None
    return read_plan(document)
