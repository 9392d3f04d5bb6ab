"""Provision: what a command that names secrets is given, for as long as it runs."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from node_agent.commands.accounts import NoAccount, find_account
from node_agent.commands.errors import CommandRefusal, PolicyRule, RefusalReason
from node_agent.commands.secret_references import SecretReferences, scope_of
from node_agent.commands.secret_source import Provided, SecretsUnavailable, Wanted
from node_agent.policy_file import PolicySource
from node_agent.secrets.held import HeldSecret, HeldSecrets, SecretsMissing
from node_agent.secrets.memory_files import MemoryFiles, NoPlaceInMemory
from node_agent.secrets.uses import SecretUse, UseLog
from node_agent.supervisor.redaction import patterns_of
from trunkline.runtime.clock import Clock
from trunkline.runtime.threads import in_thread

DIRECTORY_VARIABLE = "TRUNKLINE_SECRETS_DIRECTORY"
LONGEST_VARIABLE_BYTES = 120 * 1024
MOST_BYTES_OF_A_COMMAND = 512 * 1024


class SecretMeter(Protocol):
    """Counts."""

    def secrets_used(self, outcome: str) -> None:
        """Count what came of a command's secrets: given, missing, refused, failed."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """What the command is given; `directory` is to be removed when it has ended."""

    environment: dict[str, bytes | str] = field(default_factory=dict, repr=False)
    directory: Path | None = None
    patterns: tuple[bytes, ...] = field(default=(), repr=False)


class SecretProvision:
    """Gives secrets to commands, as far as the owner of the node allows it."""

    def __init__(
        self,
        *,
        held: HeldSecrets,
        files: MemoryFiles,
        uses: UseLog,
        policy: PolicySource,
        meter: SecretMeter,
        clock: Clock,
        wait_seconds: float,
    ) -> None:
        self._held = held
        self._files = files
        self._uses = uses
        self._policy = policy
        self._meter = meter
        self._clock = clock
        self._wait_seconds = wait_seconds

    async def open(self, kept: Collection[Path] = ()) -> None:
        """Find a place for files, and remove what an agent before this one left in it, but for what is in use."""
        await asyncio.to_thread(self._files.open, kept)

    async def close(self) -> None:
        """Give the place for files up; all commands have ended."""
        await asyncio.to_thread(self._files.close)

    def refusal(self, references: SecretReferences) -> CommandRefusal | None:
        """Return why the owner does not let a command have these secrets, or None."""
        rules = self._policy.current.secrets
        if not rules.enabled:
            message = "the node's owner does not allow secrets"
            return CommandRefusal(RefusalReason.POLICY, message, PolicyRule.SECRETS_ENABLED)
        for scope in sorted({scope_of(name) for name in references.named()}):
            if not rules.allows_scope(scope):
                message = f"the node's owner does not allow secrets of the scope {scope!r}"
                return CommandRefusal(RefusalReason.POLICY, message, PolicyRule.ALLOWED_SCOPES)
        return None

    async def provide(self, wanted: Wanted, given_up: asyncio.Future[Any]) -> Layout:
        """Wait for the secrets for a short time if need be, unless it is given up, and lay them out.

        Raises:
            SecretsUnavailable: the owner forbids it, they are not here, or there is no place for them.
        """
        refusal = self.refusal(wanted.references)
        if refusal is not None:
            raise self._unavailable("refused", refusal.message)
        names = wanted.references.named()
        try:
            secrets = await self._held.obtain(names, wanted.versions, given_up, timeout_seconds=self._wait_seconds)
        except SecretsMissing as error:
            raise self._unavailable("missing", str(error)) from None
        if sum(len(secret.value) for secret in secrets.values()) > MOST_BYTES_OF_A_COMMAND:
            raise self._unavailable("failed", f"its secrets are more than {MOST_BYTES_OF_A_COMMAND} bytes together")
        provided = await self._laid_out(wanted, secrets)
        self._record(wanted, secrets)
        self._meter.secrets_used("given")
        return provided

    async def remove(self, provided: Provided) -> None:
        """Take back what lies in files."""
        if isinstance(provided, Layout) and provided.directory is not None:
            await in_thread(self._files.remove, provided.directory)

    async def _laid_out(self, wanted: Wanted, secrets: Mapping[str, HeldSecret]) -> Layout:
        environment: dict[str, bytes | str] = {}
        for variable, name in wanted.references.environment.items():
            environment[variable] = self._fit_for_environment(name, secrets[name].value)
        directory = await self._written(wanted, secrets)
        if directory is not None:
            environment[DIRECTORY_VARIABLE] = str(directory)
        return Layout(environment, directory, patterns_of(secret.value for secret in secrets.values()))

    async def _written(self, wanted: Wanted, secrets: Mapping[str, HeldSecret]) -> Path | None:
        files = {file: secrets[name].value for file, name in wanted.references.files.items()}
        if not files:
            return None
        try:
            return await asyncio.to_thread(lambda: self._files.make(files, find_account(wanted.user)))
        except (NoAccount, NoPlaceInMemory) as error:
            raise self._unavailable("failed", str(error)) from None

    def _fit_for_environment(self, name: str, value: bytes) -> bytes:
        if b"\0" in value:
            raise self._unavailable("failed", f"the secret {name} holds NUL, which no variable can: give it as a file")
        if len(value) > LONGEST_VARIABLE_BYTES:
            raise self._unavailable("failed", f"the secret {name} is too long for a variable: give it as a file")
        return value

    def _record(self, wanted: Wanted, secrets: Mapping[str, HeldSecret]) -> None:
        now_ms = int(self._clock.now() * 1000)
        for name, way in wanted.references.each():
            version = secrets[name].version
            self._uses.record(SecretUse(name, version, wanted.command_id, wanted.submitted_by, way, now_ms))

    def _unavailable(self, outcome: str, message: str) -> SecretsUnavailable:
        self._meter.secrets_used(outcome)
        return SecretsUnavailable(message)
