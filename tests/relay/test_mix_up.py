"""No call ever sees another's bytes: a canary in each of some thousand calls, with cancels and malicious nodes."""

import asyncio
import itertools
import random
import re
from collections.abc import Iterator

from tests.relay.senders.test_links import Call
from tests.relay.senders.test_links import Sender as LinkSender
from tests.support.small_relay import Node, NodeCall, SmallRelay, get, on_relay

CALLS = 2000
CALLS_AT_ONCE = 20
CANARY = re.compile(rb"canary-\w+-\d{8}")
"""Of one length, so that one that is cut in two by framing is not taken for another."""
HONEST = ("finance", "vm-1"), ("research", "vm-1")
MALICIOUS = ("finance", "vm-9"), ("research", "vm-9")


class EchoingNode:
    """Answers with the canary of the request and its own name, in pieces and orders of all kinds."""

    def __init__(self, node: Node, mark: bytes, rng: random.Random) -> None:
        self._mark = mark
        self._rng = rng
        node.script = self.answer

    def answer(self, call: NodeCall) -> None:
        found = CANARY.search(call.head) if b"\r\n\r\n" in call.received else None
        if found is None or not call.stream.writable:
            return
        content = b"<%b of %b>" % (found[0], self._mark) * self._rng.choice((1, 1, 1, 40, 400))
        if self._rng.random() < 0.5:
            call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        else:
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in _parts(content, self._rng))
            call.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")


class MaliciousNode(EchoingNode):
    """Answers what it likes, with its own mark in it: too early, too much, too little, twice, or for somebody else."""

    def answer(self, call: NodeCall) -> None:
        if not call.stream.writable:
            return
        poison = b"<canary-finance-00000001 of %b>" % self._mark
        good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(poison) + poison
        trick = self._rng.randrange(7)
        if trick == 0:
            call.answer(good + good * 3)
        elif trick == 1:
            call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + poison)
        elif trick == 2:
            call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + poison)
        elif trick == 3:
            call.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + good)
        elif trick == 4:
            call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 900\r\n\r\n" + poison * 20)
        elif trick == 5:
            call.answer(b"HTTP/1.1 100 Continue\r\n\r\n" + good, end=False)
        else:
            call.stream.reset()


def _parts(content: bytes, rng: random.Random) -> list[bytes]:
    size = rng.choice((7, 100, 5000))
    return [content[start : start + size] for start in range(0, len(content), size)]


class Callers:
    """Call all nodes by both doors, and look at each byte that comes back."""

    def __init__(self, relay: SmallRelay, rng: random.Random, numbers: Iterator[int]) -> None:
        self._relay = relay
        self._rng = rng
        self._numbers = numbers
        self._links = [LinkSender(relay) for _ in range(2)]
        self.answered = 0

    async def run(self, calls: int) -> None:
        for number in range(calls):
            workspace, node = self._rng.choice(HONEST if self._rng.random() < 0.7 else MALICIOUS)
            await (self._by_link if number % 2 else self._by_connection)(workspace, node)
        for link in self._links:
            link.ends[0].abort()

    async def _by_connection(self, workspace: str, node: str) -> None:
        """Some calls behind one another on one connection, which may be broken off in between."""
        sender = self._relay.connect()
        canaries = [self._canary(workspace) for _ in range(self._rng.choice((1, 2, 5)))]
        for canary in canaries:
            sender.send(get(b"/" + canary, host=_host(workspace, node)))
        await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.1)))
        if self._rng.random() < 0.3:
            sender.transport.abort()
        await asyncio.sleep(self._rng.choice((0.0, 0.1)))
        self._look(bytes(sender.received), workspace, node, canaries)
        sender.transport.close()
        self._relay.forget_ended()

    async def _by_link(self, workspace: str, node: str) -> None:
        canary = self._canary(workspace)
        call: Call = self._rng.choice(self._links).call(
            b"GET /%b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Bearer good\r\n\r\n"
            % (canary, _host(workspace, node))
        )
        await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.1)))
        if self._rng.random() < 0.3:
            call.stream.reset()
        await asyncio.sleep(self._rng.choice((0.0, 0.1)))
        self._look(bytes(call.received), workspace, node, [canary])
        call.stream.reset()

    def _canary(self, workspace: str) -> bytes:
        return b"canary-%b-%08d" % (workspace.encode(), next(self._numbers))

    def _look(self, received: bytes, workspace: str, node: str, canaries: list[bytes]) -> None:
        marks = set(re.findall(rb" of (\S+)>", received))
        assert marks <= {f"{workspace}/{node}".encode()}, "bytes of another node"
        if (workspace, node) in HONEST:
            assert set(CANARY.findall(received)) <= set(canaries), "bytes of another call"
            self.answered += bool(marks)


def _host(workspace: str, node: str) -> bytes:
    return f"{node}.{workspace}.trunk.internal".encode()


@on_relay()
async def test_no_call_sees_anothers_bytes(relay: SmallRelay) -> None:
    rng = random.Random(1)
    for kind, places in ((EchoingNode, HONEST), (MaliciousNode, MALICIOUS)):
        for workspace, node in places:
            kind(relay.attach_node(node, workspace=workspace), f"{workspace}/{node}".encode(), rng)
    numbers = itertools.count()
    callers = [Callers(relay, rng, numbers) for _ in range(CALLS_AT_ONCE)]
    await asyncio.gather(*(caller.run(CALLS // CALLS_AT_ONCE) for caller in callers))
    assert sum(caller.answered for caller in callers) > CALLS // 5
    await asyncio.sleep(30)
