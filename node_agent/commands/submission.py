"""What a submitter asks for: the body of a submit, checked, and the hash that makes two of them the same."""

import base64
import binascii
import hashlib
import json
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from node_agent.commands.documents import DocumentRefused, problems_of, read_document
from node_agent.commands.secret_references import MOST_REFERENCES, SecretReferences
from node_agent.rules.base import CommandName, ParameterName
from node_agent.rules.limits import AskedLimits
from node_agent.rules.named import MOST_PARAMETERS
from node_agent.rules.parameters import LARGEST_INTEGER, LONGEST_VALUE

# Linux takes no single argument or variable above 128 KiB, and not much more than 2 MiB of them together.
MAX_ARGUMENT_CHARACTERS = 120 * 1024
MAX_ARGUMENTS = 4096
MAX_STDIN_BYTES = 4 * 1024 * 1024


def _encodable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must be text that UTF-8 can carry") from None
    return text


Argument = Annotated[str, Field(max_length=MAX_ARGUMENT_CHARACTERS)]
ParameterText = Annotated[str, Field(max_length=LONGEST_VALUE), AfterValidator(_encodable)]
ParameterNumber = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]


def _one_of_the_forms(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Tell what a value must be in one sentence, where each of the forms that it may have would have one of its own."""
    try:
        return handler(value)
    except ValidationError:
        limits = f"of at most {LONGEST_VALUE} characters without NUL"
        raise ValueError(f"must be a string {limits}, a whole number, true or false") from None


ParameterValue = Annotated[ParameterText | ParameterNumber | bool, WrapValidator(_one_of_the_forms)]


class SubmissionRefused(Exception):  # noqa: N818 - an expected refusal
    """The body is not a submission; the message says what is wrong with it."""


class Submission(BaseModel):
    """A command as it was asked for; unknown fields are errors, since to ignore one could be to ignore a bound."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    argv: list[Argument] | None = Field(default=None, min_length=1, max_length=MAX_ARGUMENTS)
    named: CommandName | None = None
    parameters: dict[ParameterName, ParameterValue] = Field(default_factory=dict, max_length=MOST_PARAMETERS)
    environment: dict[str, Argument] = Field(default_factory=dict, max_length=MAX_ARGUMENTS)
    working_directory: str | None = Field(default=None, max_length=4095)
    user: str | None = Field(default=None, pattern=r"^[a-z_][a-z0-9_-]{0,31}\$?$")
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    grace_seconds: float | None = Field(default=None, ge=0, le=86400, allow_inf_nan=False)
    limits: AskedLimits | None = None
    stdin: bytes | None = None
    stdin_stream: bool = False
    secrets: SecretReferences | None = None
    secret_versions: dict[str, int] = Field(default_factory=dict, max_length=MOST_REFERENCES)

    @model_validator(mode="after")
    def _one_program(self) -> Self:
        if (self.argv is None) == (self.named is None):
            raise ValueError("give either argv or named")
        if self.stdin is not None and self.stdin_stream:
            raise ValueError("stdin is given, or follows with stdin_stream, not both")
        if self.parameters and self.named is None:
            raise ValueError("parameters are those of a named command")
        return self

    @model_validator(mode="after")
    def _one_source_each(self) -> Self:
        if self.secrets is not None and self.secrets.environment.keys() & self.environment.keys():
            raise ValueError("a variable is given both in environment and in secrets")
        return self

    @field_validator("argv")
    @classmethod
    def _argv(cls, value: list[str] | None) -> list[str] | None:
        if value is None:
            return None
        if not value[0]:
            raise ValueError("the program's name is empty")
        return [_encodable(one) for one in value]

    @field_validator("environment", mode="before")
    @classmethod
    def _nothing_added(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("environment")
    @classmethod
    def _environment(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name or "=" in name:
                raise ValueError("a variable's name is empty or has = in it")
            _encodable(name)
            _encodable(text)
        return value

    @field_validator("working_directory")
    @classmethod
    def _working_directory(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError("must be an absolute path")
        return None if value is None else _encodable(value)

    @field_validator("stdin", mode="before")
    @classmethod
    def _stdin(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            decoded = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise ValueError("must be base64") from None
        if len(decoded) > MAX_STDIN_BYTES:
            raise ValueError(f"must not be longer than {MAX_STDIN_BYTES} bytes")
        return decoded

    def variables(self) -> set[str]:
        """Return the names of all variables that the submitter sets, by text or by a secret."""
        return set(self.environment) | (set() if self.secrets is None else set(self.secrets.environment))

    def fingerprint(self) -> str:
        """Return the hex SHA-256 of the submission in canonical form: equal for bodies that mean the same."""
        fields = self.model_dump(exclude={"stdin"} | _absent(self))
        fields["stdin_sha256"] = None if self.stdin is None else hashlib.sha256(self.stdin).hexdigest()
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _absent(submission: Submission) -> set[str]:
    """Return the fields that say nothing, so that a body without them has the hash that it always had."""
    absent = set() if submission.secrets is not None else {"secrets", "secret_versions"}
    absent |= set() if submission.stdin_stream else {"stdin_stream"}
    absent |= {name for name in ("grace_seconds", "limits") if getattr(submission, name) is None}
    return absent | (set() if submission.named is not None else {"named", "parameters"})


def parse_submission(body: bytes) -> Submission:
    """Check the body of a submit.

    Raises:
        SubmissionRefused: it is not JSON, has a name twice, or a field that is unknown or wrong.
    """
    try:
        return Submission.model_validate(read_document(body))
    except ValidationError as error:
        raise SubmissionRefused(problems_of(error)) from None
    except DocumentRefused as error:
        raise SubmissionRefused(str(error)) from None
