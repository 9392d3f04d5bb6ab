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
    CANNOT_START = (HTTPStatus.UNPROCESSABLE_ENTITY, "CANNOT_START")
    NOT_STREAMED = (HTTPStatus.CONFLICT, "INVALID_STATE")
    BUSY = (HTTPStatus.CONFLICT, "ABORTED")
    GAP = (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "INVALID_PARAMETER_VALUE")
    TOO_LONG = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BAD_REQUEST")
    STOPPING = (HTTPStatus.SERVICE_UNAVAILABLE, "TEMPORARILY_UNAVAILABLE")
    INITIALISING = (HTTPStatus.SERVICE_UNAVAILABLE, "NODE_INITIALISING")
    INIT_FAILED = (HTTPStatus.CONFLICT, "NODE_NOT_READY")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.value[0])

    @property
    def error_code(self) -> str:
        """The `error_code` of the answer's body."""
        return self.value[1]


class PolicyRule(Enum):
    """The rules of the owner's policy that refuse commands; the values are the keys of the policy file.

    `*` stands for the name of a named command.
    """

    COMMANDS_ENABLED = "commands.enabled"
    ALLOWED_SUBJECTS = "commands.allowed_subjects"
    BODY_BINDING = "commands.require_body_binding"
    ALLOW = "commands.allow"
    SCHEDULE = "commands.schedule"
    ALLOWED_USERS = "commands.allowed_users"
    ENVIRONMENT_ALLOWED = "commands.environment.allowed"
    ENVIRONMENT_FORBIDDEN = "commands.environment.forbidden"
    BLOCK_METADATA = "commands.block_metadata"
    MAX_QUEUED = "commands.max_queued"
    NAMED = "commands.named"
    NAMED_SUBJECTS = "commands.named.*.allowed_subjects"
    NAMED_SCHEDULE = "commands.named.*.schedule"
    NAMED_PARAMETERS = "commands.named.*.parameters"
    NAMED_USER = "commands.named.*.user"
    NAMED_DIRECTORY = "commands.named.*.working_directory"
    NAMED_ENVIRONMENT = "commands.named.*.environment"
    NAMED_STDIN = "commands.named.*.stdin"
    SECRETS_ENABLED = "secrets.enabled"
    ALLOWED_SCOPES = "secrets.allowed_scopes"
    SHELL_ENABLED = "shell.enabled"
    SHELL_ALLOWED_SUBJECTS = "shell.allowed_subjects"
    SHELL_MAX_CONCURRENT = "shell.max_concurrent"
    FILES_READ = "files.read"
    FILES_WRITE = "files.write"
    FILES_ALLOWED_SUBJECTS = "files.allowed_subjects"
    FILES_USERS = "files.users"
    FILES_READ_DIRECTORIES = "files.read_directories"
    FILES_WRITE_DIRECTORIES = "files.write_directories"
    FILES_MAX_CONCURRENT = "files.max_concurrent"


@dataclass(frozen=True, slots=True)
class CommandRefusal:
    """Why something is refused, as a value: the reason, one line for people, and the owner's rule if it was one.

    `key` is the key of the policy file where it is not the rule's own value: it names the command and parameter.
    """

    reason: RefusalReason
    message: str
    rule: PolicyRule | None = None
    key: str | None = None

    @property
    def policy_rule(self) -> str | None:
        """The key of the policy file that refuses."""
        return self.key or (self.rule.value if self.rule is not None else None)

    def __str__(self) -> str:
        named = self.policy_rule
        return self.message if named is None else f"{self.message} (policy rule {named})"


class CommandRefused(Exception):  # noqa: N818 - an expected refusal
    """A request about a command is refused; a refusal by the owner's policy names the rule."""

    def __init__(
        self, reason: RefusalReason, message: str, rule: PolicyRule | None = None, key: str | None = None
    ) -> None:
        self.refusal = CommandRefusal(reason, message, rule, key)
        self.reason = reason
        self.message = str(self.refusal)
        super().__init__(self.message)

    @classmethod
    def of(cls, refusal: CommandRefusal) -> Self:
        """Return the exception that says what `refusal` says."""
        return cls(refusal.reason, refusal.message, refusal.rule, refusal.key)
