"""Where a command's secrets come from, as commands see it: asked at the submit, provided at the start, taken back."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from node_agent.commands.errors import CommandRefusal, RefusalReason
from node_agent.commands.secret_references import SecretReferences


class SecretsUnavailable(Exception):  # noqa: N818 - an expected refusal
    """The command cannot be given what it names; the message says why, and holds no value."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one command names, in which versions at least, and for whom."""

    references: SecretReferences
    versions: Mapping[str, int]
    command_id: str
    submitted_by: str
    user: str | None


class Provided(Protocol):
    """What one command is given for as long as it runs."""

    @property
    def environment(self) -> Mapping[str, bytes | str]:
        """What is added to its environment."""
        ...

    @property
    def patterns(self) -> tuple[bytes, ...]:
        """What is to be masked in its output."""
        ...

    @property
    def directory(self) -> Path | None:
        """Where what it was given as files lies; whoever sees its end removes it."""
        ...


class SecretSource(Protocol):
    """Gives secrets to commands."""

    async def open(self, kept: Collection[Path] = ()) -> None:
        """Prepare; files that an agent before this one laid out are removed, but for the directories in `kept`."""
        ...

    def refusal(self, references: SecretReferences) -> CommandRefusal | None:
        """Return why no command may have these secrets on this node, or None."""
        ...

    async def provide(self, wanted: Wanted, given_up: asyncio.Future[Any]) -> Provided:
        """Lay out what a command names; this may wait for some seconds, or until `given_up` is done.

        Raises:
            SecretsUnavailable: it cannot be given them, or it was given up.
        """
        ...

    async def remove(self, provided: Provided) -> None:
        """Take back what was laid out; the command has ended, or did not start."""
        ...


class NoSecrets:
    """A source of none."""

    async def open(self, kept: Collection[Path] = ()) -> None:
        """Nothing is prepared."""

    def refusal(self, references: SecretReferences) -> CommandRefusal | None:
        """Refuse everything."""
        return CommandRefusal(RefusalReason.POLICY, "this node has no secrets")

    async def provide(self, wanted: Wanted, given_up: asyncio.Future[Any]) -> Provided:
        """Refuse everything."""
        raise SecretsUnavailable("this node has no secrets")

    async def remove(self, provided: Provided) -> None:
        """Nothing was given."""
