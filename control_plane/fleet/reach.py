"""Reaching nodes: calls through the recorded relays, one link each, told apart by what may have arrived.

Relays that there is a link to come before others, and among them the one that had the node last: a relay that is away
costs each call to each of its nodes the time for which a link is waited for. What went wrong becomes one of two errors:
either the call certainly did not reach the node, or nobody knows.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import relays
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from trunkline.client.errors import NodeSilent, RelayRefused, TrunklineError
from trunkline.client.node_response import NodeResponse
from trunkline.runtime.clock import Clock

RELAYS_SECONDS = 2.0
CLOSE_SECONDS = 2.0
"""For how long a relay is waited for that is to take the last bytes of its link."""
MOST_REMEMBERED_NODES = 100_000
_PERHAPS_REACHED = frozenset({"connection_terminated", "http_protocol_error", "http_response_timeout"})


class NotReachedError(Exception):
    """The call certainly did not reach the node; the message says why."""


class UnansweredError(Exception):
    """The call may have reached the node, and no answer came; the message says what happened."""


class Sender(Protocol):
    """What is needed of `NodeSender`."""

    @property
    def linked(self) -> bool:
        """Whether there is a link that takes calls."""
        ...

    async def request(
        self,
        method: str,
        host: str,
        path: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        fields: tuple[tuple[str, str], ...] = (),
        timeout_seconds: float | None = 0,
    ) -> NodeResponse:
        """Make one call."""
        ...

    async def close(self, *, timeout_seconds: float = 0) -> None:
        """Close the link, once the relay has what was written, or the time has passed."""
        ...


@dataclass(frozen=True, slots=True)
class NodeCall:
    """One call: to whom, what for (a metric's label), with which token, and how long it may take to begin."""

    node_id: str
    host: str
    method: str
    path: str
    token: str
    purpose: str
    timeout_seconds: float
    body: bytes | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """A node's own answer, and the relay that it came through."""

    response: NodeResponse
    relay_id: str


class NodeReach:
    """Calls nodes; keeps one sender, and so one link, for each relay."""

    def __init__(
        self,
        *,
        database: Database,
        sender: Callable[[str], Sender],
        metrics: ControlPlaneMetrics,
        clock: Clock,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self._database = database
        self._make_sender = sender
        self._metrics = metrics
        self._clock = clock
        self._close_seconds = close_seconds
        self._senders: dict[str, Sender] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._addresses: list[dict[str, str]] = []
        self._addresses_at = float("-inf")
        self._last_relay: dict[str, str] = {}

    async def call(self, call: NodeCall) -> NodeAnswer:
        """Make a call and return the node's answer as soon as its head is there.

        Raises:
            NotReachedError: the node was certainly not reached.
            UnansweredError: it may have been.
            StorageError: no relay is known yet, and the database cannot be asked for any; the node was not reached.
        """
        reason = "no relay is known yet"
        for address in self._ordered(await self._relays(), call.node_id):
            try:
                response = await self._try(address["url"], call)
            except NotReachedError as error:
                reason = str(error)
                continue
            except UnansweredError:
                self._count(call, "unanswered")
                raise
            self._remember(call.node_id, address["relay_id"])
            self._count(call, "answered")
            return NodeAnswer(response, address["relay_id"])
        self._count(call, "not_reached")
        raise NotReachedError(reason)

    async def close(self) -> None:
        """Close every link, all at once."""
        for url in list(self._senders):
            self._close(url)
        await asyncio.gather(*self._closing)

    def _close(self, url: str) -> None:
        """Begin to close a link; no call waits for a relay that is to take the last bytes."""
        task = asyncio.ensure_future(self._senders.pop(url).close(timeout_seconds=self._close_seconds))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _try(self, url: str, call: NodeCall) -> NodeResponse:
        try:
            return await self._sender(url).request(
                call.method,
                call.host,
                call.path,
                token=call.token,
                body=call.body,
                fields=(("Content-Type", call.content_type),) if call.body is not None else (),
                timeout_seconds=call.timeout_seconds,
            )
        except TrunklineError as error:
            message = error.message[:512]
            if _certainly_not_reached(error):
                raise NotReachedError(message) from None
            raise UnansweredError(message) from None

    def _sender(self, url: str) -> Sender:
        sender = self._senders.get(url)
        if sender is None:
            sender = self._senders[url] = self._make_sender(url)
        return sender

    async def _relays(self) -> list[dict[str, str]]:
        """Return where relays are. While the database is away, or takes its time, that is where they were last."""
        now = self._clock.monotonic()
        if now - self._addresses_at >= RELAYS_SECONDS or not self._addresses:
            self._addresses_at = now
            try:
                async with self._database.read() as session:
                    self._addresses = await relays.addresses(session)
            except StorageError:
                if not self._addresses:
                    raise
            else:
                self._close_unused()
        return self._addresses

    def _close_unused(self) -> None:
        known = {address["url"] for address in self._addresses}
        for url in [url for url in self._senders if url not in known]:
            self._close(url)

    def _ordered(self, addresses: list[dict[str, str]], node_id: str) -> list[dict[str, str]]:
        last = self._last_relay.get(node_id)
        return sorted(addresses, key=lambda one: (not self._sender(one["url"]).linked, one["relay_id"] != last))

    def _remember(self, node_id: str, relay_id: str) -> None:
        if node_id not in self._last_relay and len(self._last_relay) >= MOST_REMEMBERED_NODES:
            self._last_relay.clear()
        self._last_relay[node_id] = relay_id

    def _count(self, call: NodeCall, outcome: str) -> None:
        self._metrics.node_calls.labels(call.purpose, outcome).inc()


def _certainly_not_reached(error: TrunklineError) -> bool:
    if error.never_sent:
        return True
    if isinstance(error, NodeSilent):
        return False
    return isinstance(error, RelayRefused) and error.error not in _PERHAPS_REACHED
