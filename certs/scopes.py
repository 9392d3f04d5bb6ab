"""Scopes: what a token lets its holder do, parsed once into sets that admission can ask."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

COMMAND_SUBMIT = "command:submit"
COMMAND_READ = "command:read"
HEALTH_READ = "health:read"
METRICS_READ = "metrics:read"
SECRET_NOTIFY = "secret:notify"  # noqa: S105 - a scope
SHELL_OPEN = "shell:open"
INIT_NOTIFY = "init:notify"
FILE_READ = "file:read"
FILE_WRITE = "file:write"
NAMED_SCOPES = frozenset(
    {
        COMMAND_SUBMIT,
        COMMAND_READ,
        HEALTH_READ,
        METRICS_READ,
        SECRET_NOTIFY,
        SHELL_OPEN,
        INIT_NOTIFY,
        FILE_READ,
        FILE_WRITE,
    }
)

MAX_SCOPES = 64
MAX_PORT = 65535

_PORT = re.compile(r"port:([1-9][0-9]{0,4})", re.ASCII)
_WORD = re.compile(r"(?!port:)[a-z][a-z0-9-]{0,31}:[a-z][a-z0-9-]{0,31}", re.ASCII)
"""What a scope looks like that is none of ours, and no port."""


@dataclass(frozen=True, slots=True)
class Scopes:
    """The named scopes and the ports of one token."""

    names: frozenset[str]
    ports: frozenset[int]

    def allows(self, name: str) -> bool:
        """Whether the named scope, such as `command:submit`, is among them."""
        return name in self.names

    def allows_port(self, port: int) -> bool:
        """Whether streams to this port of the node are among them."""
        return port in self.ports

    def __str__(self) -> str:
        return " ".join([*sorted(self.names), *(f"port:{port}" for port in sorted(self.ports))])


def parse_scopes(text: str) -> Scopes:
    """The scopes in `text`: one space between them, none twice, 1 to `MAX_SCOPES`.

    Words of a later release are taken for what they are: they allow nothing here, and take nothing from the others.

    Raises:
        ValueError: otherwise.
    """
    return _scopes(text.split(" "), _WORD)


def scopes_of(scopes: Iterable[str]) -> Scopes:
    """The same from a list, for a token that is to be issued: nothing unknown.

    Raises:
        ValueError: a scope is unknown or stands twice, or there are none or more than `MAX_SCOPES`.
    """
    return _scopes(scopes, None)


def _scopes(scopes: Iterable[str], unknown: re.Pattern[str] | None) -> Scopes:
    """Sort scopes into names and ports; names that are not known have to be such words, or there must be none."""
    listed = list(scopes)
    if not 0 < len(listed) <= MAX_SCOPES or len(set(listed)) != len(listed):
        msg = f"1 to {MAX_SCOPES} different scopes are needed"
        raise ValueError(msg)
    names = frozenset(scope for scope in listed if scope in NAMED_SCOPES or (unknown and unknown.fullmatch(scope)))
    return Scopes(names, frozenset(_port(scope) for scope in listed if scope not in names))


def _port(scope: str) -> int:
    matched = _PORT.fullmatch(scope)
    port = int(matched[1]) if matched else 0
    if not 0 < port <= MAX_PORT:
        msg = "an unknown scope"
        raise ValueError(msg)
    return port
