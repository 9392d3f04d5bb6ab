"""The block of the cloud's metadata service for the users that commands run as.

Theory of operation. Whoever reaches the metadata service can prove to be the machine. So the firewall is told to refuse
the metadata addresses to every user that commands may run as, but not to root and the agent's own user, who need them
to attest the machine. It is told at the start, whenever the policy changes, and again when what it was told has gone:
each minute it is looked at. What stands is never assumed, only what the firewall has confirmed. The rules stay when
the agent ends while its commands go on; another agent of the same state directory takes them over.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from node_agent.commands.accounts import LookupFailed, NoSuchAccount, default_user, find_uid
from node_agent.policy import Policy
from node_agent.policy_file import PolicySource
from node_agent.protection.firewall import Firewall, FirewallUnavailable
from trunkline.runtime.logs import Logger

LOOK_SECONDS = 60.0


class BlockState(Enum):
    """How far commands are kept from the metadata service; the values are the metric's labels."""

    OFF = "off"
    ENFORCED = "enforced"
    PARTIAL = "partial"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class BlockStanding:
    """What is blocked: for which users, by what, for whom it cannot be, and why."""

    mode: str
    state: BlockState
    by: str | None = None
    users: frozenset[str] = frozenset()
    open_to: frozenset[str] = frozenset()
    reason: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as health shows it."""
        document: dict[str, Any] = {"mode": self.mode, "state": self.state.value, "by": self.by, "reason": self.reason}
        document |= {"users": sorted(self.users), "open_to": sorted(self.open_to)}
        return {name: value for name, value in document.items() if value is not None}


def command_users(policy: Policy) -> set[str | None]:
    """Return every user that commands, init scripts among them, may run as; None is the agent's own."""
    rules = policy.commands
    others = [command.user for command in rules.named.values()]
    others += [policy.init.run_as] if policy.init_enabled else []
    return {default_user(rules.run_as), *rules.allowed_users, *(user for user in others if user is not None)}


class BlockMeter(Protocol):
    """Counts."""

    def metadata_blocked(self, state: BlockState) -> None:
        """Hear how far commands are kept from the metadata service."""
        ...


FindUids = Callable[[set[str | None]], Mapping[str, int]]


class MetadataBlock:
    """Keeps the firewall as the policy wants it."""

    def __init__(
        self,
        policy: PolicySource,
        firewalls: Sequence[Firewall],
        meter: BlockMeter,
        log: Logger,
        *,
        find_uids: FindUids | None = None,
        own_uid: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            policy: says for whom, and whether.
            firewalls: what is tried, the best first.
            meter: counts.
            log: the log.
            find_uids: looks users up; those that are not known are left out; LookupFailed says that it cannot tell.
            own_uid: the agent's own user, which like root is never blocked.
        """
        self._policy = policy
        self._firewalls = firewalls
        self._meter = meter
        self._log = log
        self._find_uids = find_uids or uids_of
        self._unblocked = frozenset({0, os.geteuid() if own_uid is None else own_uid})
        self._changed = asyncio.Event()
        self._applied: tuple[Firewall, frozenset[int]] | None = None
        self.standing = BlockStanding(policy.current.commands.block_metadata, BlockState.UNAVAILABLE)
        policy.subscribe(self._policy_changed)

    def blocked_users(self) -> frozenset[str]:
        """Return the users that the firewall has confirmed to block."""
        return self.standing.users

    async def look(self) -> None:
        """Bring the firewall to what the policy wants, and take note of what came of it."""
        self._changed.clear()
        before, self.standing = self.standing, await self._brought(self._policy.current)
        self._meter.metadata_blocked(self.standing.state)
        if self.standing != before:
            self._tell()

    async def run(self) -> None:
        """Look again whenever the policy changes, and each minute, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            await self.look()

    async def close(self, *, commands_go_on: bool) -> None:
        """Take the rules away, unless commands go on without the agent."""
        if self._applied is not None and not commands_go_on:
            with contextlib.suppress(FirewallUnavailable):
                await self._applied[0].remove()

    async def _brought(self, policy: Policy) -> BlockStanding:
        mode = policy.commands.block_metadata
        if mode == "off":
            await self._remove()
            return BlockStanding(mode, BlockState.OFF)
        try:
            users = await asyncio.to_thread(self._find_uids, command_users(policy))
        except LookupFailed as error:  # what is blocked stays blocked
            return BlockStanding(mode, BlockState.UNAVAILABLE, reason=str(error))
        uids = frozenset(users.values()) - self._unblocked
        open_to = frozenset(name for name, uid in users.items() if uid in self._unblocked)
        blocked = frozenset(users) - open_to
        if not uids:
            reason = "commands run as the agent's own user or as root, which need the metadata service"
            return BlockStanding(mode, BlockState.UNAVAILABLE, open_to=open_to, reason=reason)
        by, reason = await self._apply(uids)
        if by is None:
            return BlockStanding(mode, BlockState.UNAVAILABLE, open_to=blocked | open_to, reason=reason)
        state = BlockState.PARTIAL if open_to else BlockState.ENFORCED
        return BlockStanding(mode, state, by, blocked, open_to)

    async def _apply(self, uids: frozenset[int]) -> tuple[str | None, str]:
        """Block these users by the first firewall that does it; return its name, or None and why none does."""
        if self._applied is not None and self._applied[1] == uids:
            if await self._applied[0].intact():
                return self._applied[0].name, ""
            self._log.warning("metadata.rules_gone", by=self._applied[0].name, consequence="they are made again")
        reasons = []
        for firewall in self._firewalls:
            try:
                await firewall.apply(uids)
            except FirewallUnavailable as error:
                reasons.append(str(error))
                continue
            self._applied = (firewall, uids)
            return firewall.name, ""
        self._applied = None
        return None, "; ".join(reasons)

    async def _remove(self) -> None:
        """Remove what this agent, or one before it, has made; without a firewall there is nothing to remove."""
        self._applied = None
        for firewall in self._firewalls:
            with contextlib.suppress(FirewallUnavailable):
                await firewall.remove()

    def _tell(self) -> None:
        standing = self.standing
        told = {"mode": standing.mode, "users": sorted(standing.users), "open_to": sorted(standing.open_to)}
        if standing.state in (BlockState.ENFORCED, BlockState.OFF):
            self._log.info("metadata.block", state=standing.state.value, by=standing.by, **told)
            return
        refused = standing.mode == "require"
        consequence = "commands as these users are refused" if refused else "commands as these users can be the machine"
        log = self._log.error if refused else self._log.warning
        log("metadata.not_blocked", state=standing.state.value, reason=standing.reason, consequence=consequence, **told)

    def _policy_changed(self, policy: Policy) -> None:
        self._changed.set()


def uids_of(users: set[str | None]) -> dict[str, int]:
    """Return the numbers of the users that there are; this may block on a directory service.

    Raises:
        LookupFailed: no descriptor is left.
    """
    found = {}
    for user in users:
        with contextlib.suppress(NoSuchAccount):
            name, uid = find_uid(user)
            found[name] = uid
    return found
