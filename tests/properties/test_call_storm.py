"""Calls by all doors, at one worker and across two, while senders and nodes do what they like: nothing of them is left.

Each example is a seed: what is asked, what the nodes make of it, who ends, resets, pauses or goes, and when. Then the
senders go, and all deadlines pass; the nodes are left as they are, those too that take nothing any more.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import Quotas
from relay.trust.credentials import Refusal
from tests.relay.senders.test_links import Call
from tests.relay.senders.test_links import Sender as LinkSender
from tests.support.small_relay import HOST, Node, NodeCall, Sender, SmallRelay, reply
from tests.support.two_workers import relays_that_report_nothing
from tests.support.virtual_time import VirtualTimeLoop
from trunkline.channel.errors import LocalProtocolError
from trunkline.channel.outcomes import Outcome

EXAMPLES = settings().max_examples * 2 // 5
PAUSES = (0.0, 0.0, 0.001, 0.01, 0.05, 1.0, 4.0)
LONGEST_SECONDS = 150.0
"""More than any deadline of a call, and the next that follows from it."""
RAW = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
TUNNEL = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answers(rng: random.Random) -> tuple[bytes, bool]:
    """What a node says to a request, and whether it ends its stream with that."""
    size = rng.choice((0, 10, 3000, 200_000))
    said = rng.choice((
        reply(b"b" * size),
        reply(b"b" * size)[: rng.randrange(1, 60 + size)],
        reply(b"b") + b"more",
        b"HTTP/1.1 103 E\r\n\r\n" * rng.randrange(18) + reply(),
        CHUNKED + b"1\r\nx\r\n" * rng.randrange(6000) + rng.choice((b"0\r\n\r\n", b"", b"zz")),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"r" * size,
        RAW + b"r" * size,
        b"garbage\r\n\r\n",
        b"",
        TUNNEL,
        TUNNEL,
    ))  # fmt: skip
    return said, rng.random() < 0.5


def request(rng: random.Random, *, by_link: bool) -> bytes:
    """A request with its content, whole or not."""
    method = rng.choice((b"GET", b"HEAD", b"POST", b"CONNECT", b"CONNECT"))
    host = HOST + b":22" if method == b"CONNECT" else HOST
    target = host if method == b"CONNECT" else (b"" if by_link else b"http://" + HOST) + b"/%d" % rng.randrange(3)
    token = rng.choice((b"good", b"good", b"good", b"workspace", b"bad"))
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, b"Proxy-Authorization: Bearer " + token]
    content = b"raw" * rng.choice((0, 10, 30_000)) if method == b"CONNECT" else b""
    if method == b"POST":
        content = b"c" * rng.choice((0, 10, 65_400, 200_000))
        lines.append(b"Content-Length: %d" % len(content))
    elif method == b"GET" and rng.random() < 0.3:
        lines += [b"Connection: Upgrade", b"Upgrade: x"]
    whole = b"\r\n".join(lines) + b"\r\n\r\n" + content
    return whole if rng.random() < 0.85 else whole[: rng.randrange(len(whole))]


class Storm:
    """What happens in one example."""

    def __init__(self, rng: random.Random, relays: list[SmallRelay]) -> None:
        self.rng = rng
        self.relays = relays
        self.nodes: list[Node] = []
        self.senders: list[Sender] = []
        self.links: dict[int, LinkSender] = {}
        self.calls: list[Call] = []
        self.quotas = Quotas()
        if rng.random() < 0.6:
            self.bound()
            for relay in relays:
                relay.admission.use = self.quotas.use("ws-1", "ann", relay.loop.time())

    def bound(self) -> None:
        """Set quotas, or lift them."""
        workspace, sender = (Quota(bytes_per_second=self.rng.choice((None, 500, 20_000, 300_000))) for _ in range(2))
        self.quotas.replace({"ws-1": WorkspaceQuotas(workspace, sender)} if self.rng.random() < 0.8 else {})

    def attach(self) -> None:
        window_bytes = self.rng.choice((1024, 65_536))
        node = self.rng.choice(self.relays).attach_node(
            sequence=len(self.nodes) + 1, compact=self.rng.random() < 0.7, window_bytes=window_bytes
        )
        node.greedy = self.rng.random() < 0.7
        node.script = self.answer
        self.nodes.append(node)

    def answer(self, call: NodeCall) -> None:
        if b"\r\n\r\n" in call.received and call.stream.writable and self.rng.random() < 0.7:
            said, end = answers(self.rng)
            call.answer(said, end=end)

    def connect(self) -> None:
        sender = self.rng.choice(self.relays).connect()
        sender.send(request(self.rng, by_link=False))
        self.senders.append(sender)

    def call(self) -> None:
        at = self.rng.randrange(len(self.relays))
        if at not in self.links:
            self.links[at] = LinkSender(self.relays[at], compact=self.rng.random() < 0.7)
        if self.links[at].link.openable:
            self.calls.append(self.links[at].call(request(self.rng, by_link=True), greedy=self.rng.random() < 0.7))

    def end_a_call(self) -> None:
        calls: list[Call | NodeCall] = [*self.calls, *(call for node in self.nodes for call in node.calls)]
        if not calls:
            return
        call = self.rng.choice(calls)
        how = self.rng.choice(("end", "reset", "both", "both"))
        if how != "reset" and call.stream.writable and not call.unsent_bytes:
            call.stream.end()
        if how != "end":
            call.stream.reset()

    def move_a_sender(self) -> None:
        if self.senders:
            transport = self.rng.choice(self.senders).transport
            self.rng.choice((transport.abort, transport.close, transport.pause_reading, transport.resume_reading))()

    def move_a_node(self) -> None:
        node = self.rng.choice(self.nodes)
        self.rng.choice((node.pause_reading, node.resume_reading, node.link.go_away, self.attach, self.attach))()

    def revoke(self) -> None:
        uses = self.rng.choice(self.relays).uses
        chosen = set(list(uses.open)[:2])
        uses.cut(lambda user, _: Refusal(Outcome.REVOKED, "revoked") if user in chosen else None)

    async def rage(self) -> None:
        moves: tuple[Callable[[], None], ...] = (
            self.connect, self.call, self.call, self.call, self.end_a_call, self.end_a_call, self.end_a_call,
            self.move_a_sender, self.move_a_node, self.revoke, self.bound,
        )  # fmt: skip
        for _ in range(self.rng.randrange(10, 60)):
            with contextlib.suppress(LocalProtocolError):  # a script that sends behind its end
                self.rng.choice(moves)()
            await asyncio.sleep(self.rng.choice(PAUSES))

    async def calm(self) -> None:
        """The senders go, and what has a deadline comes to it."""
        for node in self.nodes:
            node.resume_reading()
        for sender in self.senders:
            sender.transport.abort()
        for call in self.calls:
            call.stream.reset()
        await asyncio.sleep(LONGEST_SECONDS)

    def check(self) -> None:
        for relay in self.relays:
            links = relay.registry.links
            assert relay.uses.open.keys() <= relay.registry.listeners | relay.registry._senders.keys()
            assert relay.calls_open == 0
            assert relay.port.connections == 0
            assert relay.deadlines._watched == set()
            assert relay.front.untaken._sizes == {}
            assert relay.front.pacing._lines == {}
            assert relay.admission.use is None or not any(meter.open for meter in relay.admission.use.meters)
            assert [link.session.streams for link in links] == [{}] * len(links)
            assert {link.session._unacknowledged for link in links} <= {0}
            assert (relay.budget.held_bytes, relay.budget.reserved_bytes) == (0, 0)


async def storm(seed: int, *, across: bool) -> None:
    rng = random.Random(seed)
    async with relays_that_report_nothing(across=across, listener_seconds=3.0) as relays:
        for relay in relays:
            relay.budget.held_limit_bytes = rng.choice((50_000, 10**9))
        raging = Storm(rng, relays)
        raging.attach()
        await asyncio.sleep(0.1)
        await raging.rage()
        await raging.calm()
        raging.check()


@pytest.mark.parametrize("across", [False, True])
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_nothing_is_left_of_calls_however_they_end(seed: int, across: bool) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(storm(seed, across=across))
