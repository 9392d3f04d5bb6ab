"""Notices to nodes: calls that say nothing but "ask"; what there is to know, each node then asks for itself, over mTLS.

A notice that is lost is a delay and nothing else: whoever sends them makes a pass now and then, at once when it is told
that something has changed, and sends again what has not had its effect.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

from certs.spiffe import control_plane_id
from control_plane.fleet.node_commands import CONTENT_READ_SECONDS, TOKEN_SECONDS, NodeAddress
from control_plane.fleet.reach import NodeCall, NodeReach, NotReachedError, UnansweredError
from control_plane.identity.issuance import Issuance
from control_plane.storage.errors import StorageError
from trunkline.client.errors import TrunklineError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

SWEEP_SECONDS = 15.0
NOTICE_SECONDS = 5.0
MOST_AT_ONCE = 32
LARGEST_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class NoticeKind:
    """What a notice is about (as metrics and log events name it), where it goes, and the scope that it needs."""

    about: str
    path: str
    scope: str


async def one_by_one(addresses: Iterable[NodeAddress]) -> AsyncIterator[NodeAddress]:
    """Yield addresses that are there already."""
    for address in addresses:
        yield address


class NoticeCalls:
    """Sends notices of one kind, a bounded number at once."""

    def __init__(
        self, kind: NoticeKind, *, reach: NodeReach, issuance: Issuance, name_suffix: str, clock: Clock, log: Logger
    ) -> None:
        self._kind = kind
        self._reach = reach
        self._issuance = issuance
        self._name_suffix = name_suffix
        self._clock = clock
        self._log = log
        self._subject = str(control_plane_id(issuance.trust_domain))
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def tell(self, addresses: AsyncIterable[NodeAddress]) -> None:
        """Send a notice to each of these nodes, and wait until all were called; what went wrong is logged.

        No more of them are asked for than are called at once; to do so must not raise.
        """
        async with asyncio.TaskGroup() as calls:
            async for address in addresses:
                await self._slots.acquire()
                call = calls.create_task(self._tell(address), name="trunkline-notice")
                call.add_done_callback(lambda _: self._slots.release())

    async def _tell(self, address: NodeAddress) -> None:
        try:
            answer = await self._reach.call(self._call(address))
            status = answer.response.status
            await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=CONTENT_READ_SECONDS)
        except (NotReachedError, UnansweredError, TrunklineError, StorageError) as error:
            self._log.info(f"{self._kind.about}.notice_lost", node=address.node.node, reason=str(error))
            return
        if status != 204:
            self._log.warning(f"{self._kind.about}.notice_refused", node=address.node.node, status=status)

    def _call(self, address: NodeAddress) -> NodeCall:
        token = self._issuance.call_token(
            address.workspace,
            address.node,
            subject=self._subject,
            scopes=[self._kind.scope],
            lifetime_seconds=TOKEN_SECONDS,
            now=self._clock.now(),
        )
        return NodeCall(
            node_id=address.node.node_id,
            host=f"{address.node.node}.{address.workspace.workspace}.{self._name_suffix}",
            method="POST",
            path=self._kind.path,
            token=token.text,
            purpose=self._kind.about,
            timeout_seconds=NOTICE_SECONDS,
            body=b"{}",
        )


class Passes:
    """Runs a pass when it is asked for, and every `SWEEP_SECONDS` in any case; a database that fails ends none."""

    def __init__(self, make_pass: Callable[[], Awaitable[None]], about: str, log: Logger) -> None:
        self._make_pass = make_pass
        self._about = about
        self._log = log
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have a pass run now."""
        self._asked.set()

    async def run(self) -> None:
        """Run passes, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._asked.wait()
            self._asked.clear()
            try:
                await self._make_pass()
            except StorageError as error:
                self._log.error(f"{self._about}.notices_failed", reason=str(error))
