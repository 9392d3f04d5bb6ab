"""What the owner of the node allows: the upper bound of everything that others can ask of the agent.

The control plane can narrow it and never widen it. Without a policy file there are no ports and no checks, and commands
run as an unprivileged user.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from node_agent.rules.base import CommandName, Rules, UserName
from node_agent.rules.environment import EnvironmentRules
from node_agent.rules.files import FileRules
from node_agent.rules.limits import MOST_PROCESSES, AskedLimits, Limits
from node_agent.rules.named import NamedCommand
from node_agent.rules.schedule import Schedule
from node_agent.rules.shell import ShellRules
from trunkline.runtime.settings_problems import explain

API_PORT = 80
END_TO_END_PORT = 443
RESERVED_PORTS = frozenset({API_PORT, END_TO_END_PORT})
GIGABYTE = 1024**3

T = TypeVar("T", int, float)
K = TypeVar("K", int, str)
V = TypeVar("V")

Argv = Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=64)]


class CommandRules(Rules):
    """What commands may be, and how many at once."""

    enabled: bool = True
    run_as: UserName | None = None
    allowed_users: tuple[UserName, ...] = ()
    allowed_subjects: tuple[Annotated[str, Field(max_length=512)], ...] | None = None
    max_concurrent: int = Field(default=16, ge=1, le=1024)
    max_queued: int = Field(default=256, ge=0, le=65536)
    default_timeout_seconds: float = Field(default=3600.0, gt=0)
    max_timeout_seconds: float = Field(default=7 * 86400.0, gt=0)
    max_grace_seconds: float = Field(default=600.0, ge=0, le=86400)
    max_output_bytes: int = Field(default=GIGABYTE, ge=1024)
    limits: Limits = Limits(processes=MOST_PROCESSES)
    default_limits: Limits = Limits()
    require_body_binding: bool = False
    allow: Literal["any", "named"] = "any"
    block_metadata: Literal["auto", "require", "off"] = "auto"
    schedule: Schedule | None = None
    environment: EnvironmentRules = EnvironmentRules()
    named: dict[CommandName, NamedCommand] = Field(default_factory=dict, max_length=256)

    @field_validator("allowed_users", "allowed_subjects", mode="before")
    @classmethod
    def _array(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    def allows_subject(self, subject: str) -> bool:
        """Whether the caller named by a token's `sub` may submit and cancel commands."""
        return self.allowed_subjects is None or subject in self.allowed_subjects

    def timeout_seconds(self, asked: float | None, named: str | None = None) -> float:
        """Return how long a command that asked for `asked` seconds may run."""
        bound = None if named is None else self.named[named].timeout_seconds
        default = self.default_timeout_seconds if bound is None else bound
        return min(_least(default if asked is None else asked, bound), self.max_timeout_seconds)

    def grace_seconds(self, asked: float, named: str | None = None) -> float:
        """Return how long a command may take to end that asked for `asked` seconds."""
        return min(
            _least(asked, None if named is None else self.named[named].max_grace_seconds), self.max_grace_seconds
        )

    def limits_of(self, asked: AskedLimits | None, named: str | None = None) -> Limits:
        """Return the limits of a command that asked for `asked`."""
        own = Limits() if asked is None else Limits.model_construct(**asked.model_dump(exclude={"output_bytes"}))
        bound = Limits() if named is None else self.named[named].limits
        return own.or_else(bound).or_else(self.default_limits).within(bound).within(self.limits)

    def output_bytes(self, asked: AskedLimits | None, named: str | None = None) -> int:
        """Return how many bytes of each stream are kept of a command that asked for `asked`."""
        most = _least(self.max_output_bytes, None if named is None else self.named[named].max_output_bytes)
        return _least(most, None if asked is None else asked.output_bytes)


class PortRules(Rules):
    """One service on the node's loopback that callers may reach."""

    address: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    shared: bool = False


class CheckRules(Rules):
    """One check of the owner's: a command that exits with status 0 while all is well."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    argv: Argv
    interval_seconds: float = Field(default=60.0, ge=1, le=86400)
    timeout_seconds: float = Field(default=10.0, ge=0.1, le=600)


class SecretRules(Rules):
    """Which of the workspace's secrets this node takes, of those that the control plane grants it."""

    enabled: bool = True
    allowed_scopes: tuple[Annotated[str, Field(max_length=128)], ...] | None = None

    @field_validator("allowed_scopes", mode="before")
    @classmethod
    def _array(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    def allows_scope(self, scope: str) -> bool:
        """Whether secrets of this scope may be held here, and given to commands."""
        return self.enabled and (self.allowed_scopes is None or scope in self.allowed_scopes)


class InitRules(Rules):
    """Whether and as whom init scripts run: before the node takes commands, and never where it may take none.

    `enabled` left out means where any command may run, and so not where only named ones may. `run_as` is their user;
    left out, that of commands that name none. Of `[commands]`, `enabled`, `allowed_subjects` and the bounds hold too.
    """

    enabled: bool | None = None
    run_as: UserName | None = None
    timeout_seconds: float = Field(default=3600.0, gt=0, le=7 * 86400.0)


class Policy(Rules):
    """The whole policy of the node's owner."""

    commands: CommandRules = CommandRules()
    secrets: SecretRules = SecretRules()
    shell: ShellRules = ShellRules()
    files: FileRules = FileRules()
    init: InitRules = InitRules()
    ports: dict[int, PortRules] = Field(default_factory=dict)
    checks: tuple[CheckRules, ...] = ()

    @field_validator("ports", mode="before")
    @classmethod
    def _port_numbers(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {_port_number(key): rules for key, rules in value.items()}

    @field_validator("checks", mode="before")
    @classmethod
    def _array(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check_names_differ(self) -> Self:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("two checks have the same name")
        return self

    @property
    def commands_are_free(self) -> bool:
        """Whether any command may be asked for, at any time, by a token that says nothing of it."""
        rules = self.commands
        return rules.enabled and rules.allow == "any" and rules.schedule is None and not rules.require_body_binding

    @property
    def allows_shells(self) -> bool:
        """Whether shells may be opened on this node."""
        return self.commands_are_free if self.shell.enabled is None else self.shell.enabled

    def allows_shells_of(self, subject: str) -> bool:
        """Whether the caller named by a token's `sub` may open one."""
        subjects = self.shell.allowed_subjects
        return self.commands.allows_subject(subject) if subjects is None else subject in subjects

    @property
    def limits_of_shells(self) -> Limits:
        """What one shell, with all that is started in it, may use of the node."""
        return self.commands.limits if self.shell.limits is None else self.shell.limits

    @property
    def allows_reading_files(self) -> bool:
        """Whether files may be copied from this node."""
        return self.allows_shells if self.files.read is None else self.files.read

    @property
    def allows_writing_files(self) -> bool:
        """Whether files may be copied to this node."""
        return self.allows_shells if self.files.write is None else self.files.write

    def allows_files_of(self, subject: str) -> bool:
        """Whether the caller named by a token's `sub` may copy any."""
        subjects = self.files.allowed_subjects
        return self.allows_shells_of(subject) if subjects is None else subject in subjects

    @property
    def init_enabled(self) -> bool:
        """Whether init scripts may run on this node."""
        if self.init.enabled is not None:
            return self.commands.enabled and self.init.enabled
        return self.commands.enabled and self.commands.allow == "any"

    def narrowed(self, addition: "Narrowing") -> "Policy":
        """Return this policy with what the control plane takes away from it; nothing can be added so."""
        rules = self.commands
        commands = rules.model_copy(
            update={
                "enabled": rules.enabled and addition.commands_enabled,
                "max_concurrent": _least(rules.max_concurrent, addition.max_concurrent_commands),
                "max_timeout_seconds": _least(rules.max_timeout_seconds, addition.max_timeout_seconds),
                "require_body_binding": rules.require_body_binding or addition.require_body_binding,
                "allow": "named" if addition.named_commands_only else rules.allow,
                "named": _only(rules.named, addition.named_commands),
            }
        )
        # Whoever takes commands away, or wants them bound, has shells and files in mind too, whatever the owner allows.
        free = addition.commands_enabled and not (addition.named_commands_only or addition.require_body_binding)
        shell = self.shell if free else self.shell.model_copy(update={"enabled": False})
        files = self.files if free else self.files.model_copy(update={"read": False, "write": False})
        ports = _only(self.ports, addition.ports)
        return self.model_copy(update={"commands": commands, "ports": ports, "shell": shell, "files": files})


class Narrowing(BaseModel):
    """What the control plane takes away: a machine document, so that fields of later releases are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    commands_enabled: bool = True
    max_concurrent_commands: int | None = Field(default=None, ge=1)
    max_timeout_seconds: float | None = Field(default=None, gt=0)
    require_body_binding: bool = False
    named_commands_only: bool = False
    named_commands: list[str] | None = None
    ports: list[int] | None = None


def parse_policy(document: dict[str, Any]) -> Policy:
    """Check a policy that was read from a file.

    Raises:
        ValueError: the message lists all problems, each with its place.
    """
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise ValueError("; ".join(explain(error, Policy, file_name=None, prefix=None))) from None


def _port_number(key: Any) -> int:
    if not isinstance(key, str) or not key.isascii() or not key.isdecimal() or key != str(int(key)):
        raise ValueError(f"{key!r} is not a port number")
    port = int(key)
    if port in RESERVED_PORTS:
        raise ValueError(f"port {port} is the agent's own and cannot be forwarded")
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port number")
    return port


def _least(bound: T, asked: T | None) -> T:
    return bound if asked is None else min(bound, asked)


def _only(rules: dict[K, V], names: list[K] | None) -> dict[K, V]:
    return rules if names is None else {name: one for name, one in rules.items() if name in names}
