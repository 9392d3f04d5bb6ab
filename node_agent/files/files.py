"""Files of this node as callers copy them: admitted, touched by a worker that is the user, counted and told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, replace
from typing import Protocol

from certs.tokens import TokenClaims
from node_agent.commands.accounts import Account, NoAccount, find_account
from node_agent.commands.errors import CommandRefusal, CommandRefused, PolicyRule, RefusalReason
from node_agent.files.admission import Asked, place_of, refusal, user_of
from node_agent.files.copying import Copying
from node_agent.files.failures import FileFailed
from node_agent.files.uses import FileEvent, FileOutcome, FileUse
from node_agent.files.worker.places import Place
from node_agent.files.worker_process import WorkerGone
from node_agent.files.workers import Workers
from node_agent.policy import Policy
from node_agent.policy_file import PolicySource
from trunkline.files.names import shown
from trunkline.runtime.logs import Logger


class FileListener(Protocol):
    """Is told of what was done with files."""

    def file_used(self, use: FileUse) -> None:
        """Something was copied, listed, made or refused, or broke off."""
        ...


def _never() -> CommandRefusal | None:
    return None


class NodeFiles:
    """What is done with files; everything is called on the event loop."""

    def __init__(
        self,
        policy: PolicySource,
        listeners: tuple[FileListener, ...],
        log: Logger,
        *,
        unready: Callable[[], CommandRefusal | None] = _never,
    ) -> None:
        """Prepare; `unready` says why the node takes neither commands nor files yet, if it does not."""
        self._policy = policy
        self._listeners = listeners
        self._log = log
        self._unready = unready
        self._workers = Workers()
        self.running = 0

    @contextlib.asynccontextmanager
    async def copying(
        self, asked: Asked, claims: TokenClaims, event: FileEvent | None = None
    ) -> AsyncIterator[Copying]:
        """Admit a caller, and lend a worker to what it asks for; how the block ends is told as `event`, if given.

        Raises:
            CommandRefused: by a rule of the owner's, or there is no such user.
            PlaceRefused: the path is none.
            WorkerGone: no worker can be started.
        """
        use = FileUse(event or FileEvent.REFUSED, claims.subject, claims.token_id, shown(asked.shown), asked.user or "")
        policy = self._policy.current
        refused = refusal(asked, claims.subject, policy) or self._unready() or self._room(policy)
        if refused is not None:
            raise self._refused(use, refused)
        self.running += 1
        try:
            account, place = await self._place(asked, policy, use)
            async with self._workers.lent(account) as worker:
                confined = asked.directories_of(policy) is not None
                copying = Copying(place, confined, policy.files, worker, replace(use, user=account.name))
                with self._telling(copying) if event is not None else contextlib.nullcontext():
                    yield copying
        finally:
            self.running -= 1

    async def stop(self) -> None:
        """End the workers."""
        await self._workers.stop()

    async def _place(self, asked: Asked, policy: Policy, use: FileUse) -> tuple[Account, Place]:
        try:
            account = await asyncio.to_thread(find_account, user_of(asked, policy))
        except NoAccount as error:
            raise CommandRefused(RefusalReason.CANNOT_START, str(error)) from None
        place = place_of(asked, account.home, policy)
        if isinstance(place, CommandRefusal):
            raise self._refused(use, place)
        return account, place

    def _room(self, policy: Policy) -> CommandRefusal | None:
        most = policy.files.max_concurrent
        if self.running < most:
            return None
        message = f"{most} files are being copied from or to this node, and more are not allowed; try again later"
        return CommandRefusal(RefusalReason.TOO_MANY, message, PolicyRule.FILES_MAX_CONCURRENT)

    def _refused(self, use: FileUse, refused: CommandRefusal) -> CommandRefused:
        """Tell of a refusal by the owner's policy; one for want of room is no news."""
        if refused.policy_rule is not None and refused.reason is RefusalReason.POLICY:
            why = refused.policy_rule
            self._tell(replace(use, event=FileEvent.REFUSED, outcome=FileOutcome.REFUSED, reason=why))
        return CommandRefused.of(refused)

    @contextlib.contextmanager
    def _telling(self, copying: Copying) -> Iterator[None]:
        try:
            yield
        except FileFailed as error:
            copying.note(outcome=FileOutcome.FAILED, reason=error.symbol)
            raise
        except WorkerGone:
            copying.note(outcome=FileOutcome.FAILED, reason="WORKER_GONE")
            raise
        except BaseException:
            copying.note(outcome=FileOutcome.INTERRUPTED)
            raise
        finally:
            self._tell(copying.use)

    def _tell(self, use: FileUse) -> None:
        for listener in self._listeners:
            listener.file_used(use)
        known = asdict(use) | {"outcome": use.outcome.value}
        del known["event"]
        self._log.info(f"file.{use.event.value}", **{name: value for name, value in known.items() if value})
