"""The secrets that this node holds: in the memory of this process and nowhere else."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from node_agent.commands.secret_references import scope_of


class SecretsMissing(Exception):  # noqa: N818 - a state of the world, not a mistake
    """Secrets that a command names are not here, or only in an older version; the message names them."""


@dataclass(frozen=True, slots=True)
class HeldSecret:
    """One secret."""

    version: int
    value: bytes = field(repr=False)


class HeldSecrets:
    """Secrets by `scope/key`, replaced as a whole; who misses one can ask for it and wait.

    Attributes:
        sequence: the number of the bundle that they came in; None while there was none in this process.
        asked: set when somebody wants the control plane to be asked now.
    """

    def __init__(self) -> None:
        self.sequence: int | None = None
        self.asked = asyncio.Event()
        self._secrets: dict[str, HeldSecret] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._secrets)

    def versions(self) -> dict[str, int]:
        """Return the version of each secret."""
        return {name: secret.version for name, secret in self._secrets.items()}

    def replace(self, sequence: int | None, secrets: Mapping[str, HeldSecret]) -> None:
        """Hold these and no others from now on."""
        self.sequence, self._secrets = sequence, dict(secrets)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def drop_unless(self, allows: Callable[[str], bool]) -> None:
        """Forget secrets of scopes that are not allowed; a bundle is asked for anew."""
        kept = {name: secret for name, secret in self._secrets.items() if allows(scope_of(name))}
        self.replace(None, kept)

    def ask(self) -> None:
        """Have the control plane asked now."""
        self.asked.set()

    async def obtain(
        self,
        names: Collection[str],
        versions: Mapping[str, int],
        given_up: asyncio.Future[Any],
        *,
        timeout_seconds: float,
    ) -> dict[str, HeldSecret]:
        """Return secrets in these versions or later ones; what is not here is asked for and waited for.

        Raises:
            SecretsMissing: some did not come in time, or before `given_up` was done.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while missing := self._missing(names, versions):
            left = end - loop.time()
            if given_up.done() or left <= 0:
                raise SecretsMissing(f"this node has not been given the secret {', '.join(missing)}")
            await self._change(given_up, left)
        return {name: self._secrets[name] for name in names}

    async def _change(self, given_up: asyncio.Future[Any], timeout_seconds: float) -> None:
        """Ask, and wait until something else is held, it is given up, or the time is over."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(changed)
        self.ask()
        try:
            await asyncio.wait({changed, given_up}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(changed)

    def _missing(self, names: Collection[str], versions: Mapping[str, int]) -> list[str]:
        return sorted(
            name for name in names if name not in self._secrets or self._secrets[name].version < versions.get(name, 0)
        )
