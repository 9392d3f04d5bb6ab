"""A relay's data path over transports in memory: real connections, links, registry and exchanges; scripted nodes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog
import structlog.testing
from prometheus_client import CollectorRegistry

from certs.trust import TrustDocument
from relay.admission.grants import CONTROL_PLANE, Grant
from relay.admission.pacing import Pacing
from relay.admission.quotas import Use
from relay.bounds.deadlines import Deadlines
from relay.doors.destinations import NodeNames
from relay.doors.front_door import FrontDoor
from relay.links.claims import Claims
from relay.links.elsewhere import NOWHERE, Elsewhere
from relay.links.listeners import Listener
from relay.links.registry import Registry
from relay.metrics import RelayMetrics
from relay.senders.link_door import RESERVED_PART, LinkDoor
from relay.senders.sender_port import SenderPort
from relay.settings import LimitsSettings
from relay.trust.credentials import Credential, Destination, ListenerGrant, Refusal, SenderGrant
from relay.trust.standing import Standing
from relay.trust.uses import Uses
from tests.support.memory_transport import MemoryTransport, memory_pair
from tests.support.virtual_time import given_in_virtual_time
from trunkline.channel.alarms import Alarms
from trunkline.channel.errors import ChannelError
from trunkline.channel.flushing import LATE_SECONDS, Flusher
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link import Link, LinkStream, Role
from trunkline.channel.outcomes import Outcome

SUFFIX = "trunk.internal"
HOST = b"vm-1.finance.trunk.internal"
NOTHING_REVOKED = TrustDocument(trust_domain="trust.example", sequence=1, issued_at=0, roots=(), token_keys=())


SENDERS = {"good": 1, "workspace": 2, "control-plane": CONTROL_PLANE}
"""The tokens that are good for calls, and whose they are."""


class KnownTokens:
    """Admission by a table: `good` opens every node that is there, `workspace` does with an assertion."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._credentials: dict[str, Credential] = {}
        self.link_refusal: Refusal | None = None
        self.use: Use | None = None

    def credential(self, token: str) -> Credential:
        return self._credentials.setdefault(token, Credential(None, subject=token, ends_at=2e9))

    def admit(self, token: str | None, destination: Destination) -> Grant | Refusal:
        if token is None:
            return Refusal(Outcome.NO_TOKEN, "no token")
        if token not in SENDERS:
            return Refusal(Outcome.BAD_TOKEN, "not a token")
        listener = self._registry.find(destination.workspace, destination.node)
        if listener is None:
            return Refusal(Outcome.NO_LISTENER, "no link")
        assertion = "the-assertion" if token == "workspace" else None
        standing = Standing(NOTHING_REVOKED, 0.0)
        return Grant(
            listener,
            self.credential(token),
            destination,
            assertion=assertion,
            good_until=2e9,
            standing=standing,
            use=self.use,
            sender=SENDERS[token],
        )

    def is_control_planes(self, token: str | None) -> bool:
        return token == "control-plane"

    def admit_again(self, grant: Grant) -> Grant | Refusal | None:
        return grant if grant.listener.current else None

    def admit_link(self, token: str | None, peer: Any) -> ListenerGrant | SenderGrant | Refusal:
        if self.link_refusal is not None:
            return self.link_refusal
        if token == "good":
            return SenderGrant(self.credential(token), "ws-1")
        if token == "listen":
            return listener_grant("finance", "vm-1")
        return Refusal(Outcome.NO_TOKEN, "no token")

    def no_longer(self, grant: ListenerGrant) -> Refusal | None:
        return self.link_refusal


def listener_grant(workspace: str, node: str) -> ListenerGrant:
    credential = Credential(None, subject=node, ends_at=2e9)
    return ListenerGrant(credential, f"ws-{workspace}", f"nd-{node}", workspace, node, f"spiffe://t/{node}", "thumb")


class NodeCall:
    """A stream at the node, as a script sees it. Credit is given back at once unless `greedy` is False."""

    def __init__(self, node: "Node", stream: LinkStream) -> None:
        self.node = node
        self.stream = stream
        self.received = bytearray()
        self.held_bytes = 0
        self.ended = False
        self.lost: ChannelError | None = None
        self._outgoing = bytearray()
        self._end = False

    @property
    def head(self) -> bytes:
        return bytes(self.received.partition(b"\r\n\r\n")[0])

    @property
    def content(self) -> bytes:
        return bytes(self.received.partition(b"\r\n\r\n")[2])

    def data_received(self, data: bytes | memoryview) -> None:
        self.received += data
        if self.node.greedy:
            self.stream.consumed(len(data))
        else:
            self.held_bytes += len(data)
        self.node.script(self)
        self.node.changed.set()

    def take(self) -> None:
        held, self.held_bytes = self.held_bytes, 0
        self.stream.consumed(held)

    def end_received(self) -> None:
        self.ended = True
        self.node.changed.set()

    def window_opened(self) -> None:
        while self._outgoing and (room := self.stream.send_room_bytes):
            piece = bytes(self._outgoing[:room])
            del self._outgoing[:room]
            self.stream.write(piece)
        self.node.changed.set()
        if self._end and not self._outgoing and self.stream.writable:
            self.stream.end()

    def stream_lost(self, error: ChannelError) -> None:
        self.lost = error
        self.node.changed.set()

    def answer(self, data: bytes, *, end: bool = True) -> None:
        self._outgoing += data
        self._end = end
        self.window_opened()

    @property
    def unsent_bytes(self) -> int:
        return len(self._outgoing)


class Node:
    """A node's end of a link."""

    def __init__(self) -> None:
        self.calls: list[NodeCall] = []
        self.script: Callable[[NodeCall], None] = lambda call: None
        self.greedy = True
        self.changed = asyncio.Event()
        self.link: Link
        self.transport: MemoryTransport

    def pause_reading(self) -> None:
        """Take nothing more of the link."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def stream_offered(self, stream: LinkStream) -> NodeCall | None:
        call = NodeCall(self, stream)
        self.calls.append(call)
        return call

    def go_away_received(self, link: Link, code: Any) -> None:
        pass

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        pass


class Sender(asyncio.Protocol):
    """A sender's plain connection."""

    transport: MemoryTransport

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.lost = False
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, MemoryTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.error = exc

    def send(self, data: bytes) -> None:
        """Writes in pieces no larger than what a socket would give at once."""
        for start in range(0, len(data), 65_536):
            self.transport.write(data[start : start + 65_536])

    def take(self) -> bytes:
        data = bytes(self.received)
        self.received.clear()
        return data


class SmallRelay:
    """The data path, wired as the relay wires it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, elsewhere: Elsewhere = NOWHERE, **limits: Any) -> None:
        self.loop = loop
        self.tasks: set[asyncio.Task[Any]] = set()
        self.limits = LimitsSettings(**limits)
        self.registry_of_metrics = CollectorRegistry()
        self.metrics = RelayMetrics(self.registry_of_metrics)
        self.uses = Uses()
        self.log_lines = structlog.testing.CapturingLogger()
        log = structlog.wrap_logger(self.log_lines)
        self.registry = Registry(
            limits=self.limits,
            metrics=self.metrics,
            uses=self.uses,
            spawn=self.spawn,
            report=lambda *arguments, **members: None,
            counted=lambda nodes: None,
            renew=lambda listener, token: None,
            log=log,
            elsewhere=elsewhere,
        )
        self.claims = Claims(
            self.registry,
            limits=self.limits,
            metrics=self.metrics,
            report=lambda *arguments, **members: None,
            log=log,
            elsewhere=elsewhere,
        )
        self.admission = KnownTokens(self.registry)
        self.deadlines = Deadlines(loop, lambda: 1_800_000_000.0)
        self.deadlines.start()
        self.budget = CreditBudget()
        self.ready = True
        self.front = FrontDoor(
            loop=loop,
            admission=self.admission,
            uses=self.uses,
            names=NodeNames(SUFFIX),
            limits=self.limits,
            metrics=self.metrics,
            deadlines=self.deadlines,
            pacing=Pacing(loop, loop.time),
            budget=self.budget,
            id_prefix="t",
            ready=lambda: self.ready,
            log=log,
        )
        links = LinkDoor(
            loop=loop,
            front=self.front,
            admission=self.admission,
            registry=self.registry,
            claims=self.claims,
            spawn=self.spawn,
            budget=self.budget,
            flusher=Flusher(loop),
            alarms=Alarms(loop),
        )
        self.port = SenderPort(self.front, links, self.metrics)
        self._ends: list[MemoryTransport] = []

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def attach_node(
        self,
        node: str = "vm-1",
        *,
        workspace: str = "finance",
        compact: bool = True,
        window_bytes: int = 65_536,
        sequence: int = 1,
    ) -> Node:
        """Attaches a node without its HTTP upgrade, which has tests of its own."""
        end = Node()
        listener = Listener(
            listener_grant(workspace, node), "instance", sequence, owner=self.registry, limits=self.limits
        )
        streams = self.limits.max_streams_per_link
        limits = Limits(
            initial_window_bytes=window_bytes, max_streams=streams, reserved_streams=streams // RESERVED_PART
        )
        ours, theirs = (
            Link(
                role,
                owner,
                loop=self.loop,
                limits=limits,
                send_window_bytes=window_bytes,
                compact=compact,
                keepalive_seconds=None,
                budget=budget,
            )
            for role, owner, budget in ((Role.CLIENT, listener, self.budget), (Role.SERVER, end, None))
        )
        left, right = memory_pair(self.loop)
        left.start(ours)
        right.start(theirs)
        end.link, end.transport = theirs, right
        self.registry.attach(listener, ours)
        self._ends += [left, right]
        return end

    def connect(self, **line: Any) -> Sender:
        """A sender's connection."""
        sender = Sender()
        left, right = memory_pair(self.loop, **line)
        right.start(self.port.connection("127.0.0.1"))
        left.start(sender)
        self._ends += [left, right]
        return sender

    def forget_ended(self) -> None:
        """Lets go of the connections that are over, where a test makes very many."""
        self._ends = [end for end in self._ends if not end.is_closing()]

    def close(self) -> None:
        for end in self._ends:
            end.abort()
        self.deadlines.stop()
        for task in self.tasks:
            task.cancel()

    @property
    def calls_open(self) -> float:
        return sum(self.metric("calls_open", door=door) for door in ("proxy", "gateway", "link"))

    def metric(self, name: str, **labels: str) -> float:
        return self.registry_of_metrics.get_sample_value(f"trunkline_relay_{name}", labels) or 0.0


def get(
    path: bytes = b"/", *fields: bytes, host: bytes = HOST, method: bytes = b"GET", token: bytes = b"good"
) -> bytes:
    """A request at the proxy door."""
    lines = [
        method + b" http://" + host + path + b" HTTP/1.1",
        b"Host: " + host,
        b"Proxy-Authorization: Bearer " + token,
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def reply(content: bytes = b"hello", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A node's complete response."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(content), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


async def settle() -> None:
    """Lets everything that is ready happen, and what may be late; time is virtual."""
    await asyncio.sleep(3 * LATE_SECONDS)


def on_relay(**limits: Any) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Runs a test in virtual time with a SmallRelay as its first argument; nothing may be left when it is over."""
    return given_in_virtual_time(lambda: _running(limits))


@asynccontextmanager
async def _running(limits: dict[str, Any]) -> AsyncIterator[SmallRelay]:
    relay = SmallRelay(asyncio.get_running_loop(), **limits)
    try:
        yield relay
    finally:
        relay.close()
        await asyncio.sleep(1)
    assert not relay.uses.open.keys() - relay.registry.listeners
    assert not relay.calls_open
