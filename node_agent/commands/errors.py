"""Why the agent does not do what is asked of it with a command: expected refusals, with their place in the API."""

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Self


class RefusalReason(Enum):
    """The refusals: HTTP status and `error_code` of each."""

    OTHER_BODY = (HTTPStatus.CONFLICT, "RESOURCE_CONFLICT")
    REPLAYED_TOKEN = (HTTPStatus.FORBIDDEN, "PERMISSION_DENIED")
    POLICY = (HTTPStatus.FORBIDDEN, "POLICY_DENIED")
    TOO_MANY = (HTTPStatus.TOO_MANY_REQUESTS, "REQUEST_LIMIT_EXCEEDED")
    NO_STORAGE = (HTTPStatus.INSUFFICIENT_STORAGE, "RESOURCE_EXHAUSTED")
    UNKNOWN = (HTTPStatus.NOT_FOUND, "RESOURCE_DOES_NOT_EXIST")
    STOPPING = (HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.value[0])

    @property
    def error_code(self) -> str:
        """The `error_code` of the answer's body."""
        return self.value[1]


class PolicyRule(Enum):
    """The rules of the owner's policy that refuse commands; the values are the keys of the policy file."""

    COMMANDS_ENABLED = "commands.enabled"
    ALLOWED_SUBJECTS = "commands.allowed_subjects"
    BODY_BINDING = "commands.require_body_binding"
    ALLOWED_USERS = "commands.allowed_users"
    MAX_QUEUED = "commands.max_queued"
    SECRETS_ENABLED = "secrets.enabled"
    ALLOWED_SCOPES = "secrets.allowed_scopes"


@dataclass(frozen=True, slots=True)
class CommandRefusal:
    """Why something is refused, as a value: the reason, one line for people, and the owner's rule if it was one."""

    reason: RefusalReason
    message: str
    rule: PolicyRule | None = None


class CommandRefused(Exception):  # noqa: N818 - an expected refusal
    """A request about a command is refused."""

    def __init__(self, reason: RefusalReason, message: str, rule: PolicyRule | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.rule = rule

    @classmethod
    def of(cls, refusal: CommandRefusal) -> Self:
        """Return the exception that says what `refusal` says."""
        return cls(refusal.reason, refusal.message, refusal.rule)
