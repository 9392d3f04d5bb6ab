"""Transfers of all kinds under a small quota of bytes: each comes to its end, whole, and all no faster than may be.

Each example is a seed: what is transferred by which door and in which framing, who stands still for a while, and how
the quota changes meanwhile. Nobody stands still for as long as a deadline, so that none may pass.
"""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import BURST_SECONDS, Quotas
from tests.relay.senders.test_links import Call
from tests.relay.senders.test_links import Sender as LinkSender
from tests.support.small_relay import HOST, NodeCall, Sender, SmallRelay
from tests.support.two_workers import relays_that_report_nothing
from tests.support.virtual_time import VirtualTimeLoop

EXAMPLES = settings().max_examples // 10
RATES = (30_000, 100_000, 300_000)
WINDOW = 65_536
LARGEST = 250_000
RECORD_BYTES = 8192
STEP_SECONDS = 0.25
STILL_STEPS = 12
"""Nobody stands still for longer, which is shorter than any deadline."""
MOST_STEPS = 2400


def chunked(content: bytes, chunk_bytes: int) -> bytes:
    pieces = (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def take_chunked(data: bytes) -> tuple[bytes, bytes] | None:
    """Content in chunks, if it is whole, and what comes behind it."""
    content = bytearray()
    while True:
        line, found, data = data.partition(b"\r\n")
        size = int(line, 16) if found else 0
        if len(data) < size + 2 or not found:
            return None
        content += data[:size]
        data = data[size + 2 :]
        if not size:
            return bytes(content), data


class Transfer:
    """One call: what goes up, what comes down, and how both are framed."""

    def __init__(self, rng: random.Random, number: int, *, last: bool) -> None:
        self.raw = last and rng.random() < 0.4
        sizes = (0, 10, 20_000, 70_000, LARGEST)
        self.up = rng.randbytes(rng.choice(sizes))
        self.down = rng.randbytes(rng.choice(sizes))
        self.number = number
        self.up_chunk = rng.choice((0, 0, 3, 9000))
        self.down_chunk = rng.choice((0, 0, 3, 9000))
        if not self.raw and rng.random() < 0.5:
            self.up = b""
        if self.up_chunk == 3 or self.down_chunk == 3:  # very many
            self.up, self.down = self.up[:30_000], self.down[:30_000]
        self.call: NodeCall | None = None
        self.asked = self.answered = self.sent = False

    @property
    def method(self) -> bytes:
        return b"CONNECT" if self.raw else b"PUT" if self.up else b"GET"

    def request(self, *, by_link: bool) -> bytes:
        host = HOST + b":%d" % (1000 + self.number)
        target = host if self.raw else b"/" if by_link else b"http://%b/" % host
        lines = [b"%b %b HTTP/1.1" % (self.method, target), b"Host: " + host, b"Proxy-Authorization: Bearer good"]
        content = b"" if self.raw else self.up
        if not self.raw and self.up:
            lines.append(b"Transfer-Encoding: chunked" if self.up_chunk else b"Content-Length: %d" % len(self.up))
            content = chunked(self.up, self.up_chunk) if self.up_chunk else self.up
        return b"\r\n".join(lines) + b"\r\n\r\n" + content

    def ask(self, sender: Sender) -> None:
        self.asked = True
        request = self.request(by_link=False)
        for start in range(0, len(request), RECORD_BYTES):
            sender.transport.write(request[start : start + RECORD_BYTES])

    def arrived(self, call: NodeCall) -> bool:
        """Whether all that goes up has come to the node."""
        if not self.raw and self.up and self.up_chunk:
            return take_chunked(call.content) == (self.up, b"")
        return call.content == self.up

    def answer(self) -> bytes:
        if self.raw:
            return b"HTTP/1.1 200 OK\r\n\r\n" + self.down
        if self.down_chunk:
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(self.down, self.down_chunk)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.down) + self.down

    def returned(self, received: bytearray) -> bool:
        """Whether the answer is at the beginning of what the sender has, and takes it away."""
        head, found, rest = bytes(received).partition(b"\r\n\r\n")
        if not found:
            return False
        assert head.startswith(b"HTTP/1.1 200 "), head
        if not self.raw and self.down_chunk:
            taken = take_chunked(rest)
        else:
            size = len(self.down)
            taken = (rest[:size], rest[size:]) if len(rest) >= size else None
        if taken is None:
            return False
        assert taken[0] == self.down
        received[:] = taken[1]
        return True


class Course:
    """What happens in one example."""

    def __init__(self, rng: random.Random, relays: list[SmallRelay]) -> None:
        self.rng = rng
        self.relays = relays
        self.quotas = Quotas()
        self.bound()
        for relay in relays:
            relay.admission.use = self.quotas.use("ws-1", "ann", relay.loop.time())
        self.transfers: dict[int, Transfer] = {}
        self.node = rng.choice(relays).attach_node(window_bytes=rng.choice((16_384, WINDOW)))
        self.node.script = self.answer
        self.waiting: list[tuple[Sender | Call, list[Transfer]]] = []
        self.links: list[LinkSender] = []

    def bound(self) -> None:
        self.rate = self.rng.choice(RATES)
        quota, larger = Quota(bytes_per_second=self.rate), Quota(bytes_per_second=self.rng.choice((None, 10**6)))
        self.quotas.replace({"ws-1": WorkspaceQuotas(*self.rng.sample((quota, larger), 2))})

    def transfer(self, *, last: bool) -> Transfer:
        number = len(self.transfers)
        transfer = self.transfers[number] = Transfer(self.rng, number, last=last)
        return transfer

    def answer(self, call: NodeCall) -> None:
        if b"\r\n\r\n" not in call.received:
            return
        host = call.head.split(b"Host: ")[1].split(b"\r\n")[0]
        transfer = self.transfers[int(host.split(b":")[1]) - 1000]
        transfer.call = call
        if not transfer.answered and (transfer.raw or transfer.arrived(call)):
            transfer.answered = True
            call.answer(transfer.answer(), end=not transfer.raw)

    def begin(self) -> None:
        relay = self.rng.choice(self.relays)
        if self.rng.random() < 0.5:
            sender = relay.connect(capacity_bytes=self.rng.choice((8192, WINDOW)))
            count = self.rng.choice((1, 1, 3))
            transfers = [self.transfer(last=number == count - 1) for number in range(count)]
            for transfer in transfers[: self.rng.choice((1, count))]:
                transfer.ask(sender)
            self.waiting.append((sender, transfers))
            return
        link = LinkSender(relay, compact=self.rng.random() < 0.7)
        self.links.append(link)
        transfer = self.transfer(last=True)
        transfer.asked = True
        self.waiting.append((link.call(transfer.request(by_link=True)), [transfer]))

    def stand_still(self) -> None:
        if not self.waiting:
            return
        sender, _ = self.rng.choice(self.waiting)
        if isinstance(sender, Sender):
            self.rng.choice((sender.transport.pause_reading, sender.transport.resume_reading))()
        else:
            sender.greedy = not sender.greedy

    def node_stands_still(self) -> None:
        self.node.greedy = not self.node.greedy

    def all_go_on(self) -> None:
        self.node.greedy = True
        for call in self.node.calls:
            call.take()
        for sender, _ in self.waiting:
            if isinstance(sender, Sender):
                sender.transport.resume_reading()
            else:
                sender.greedy = True
                sender.stream.consumed(sender.stream.unconsumed_bytes)

    def look(self) -> bool:
        """Whether all has arrived; raw bytes are sent once the tunnel is there."""
        for sender, transfers in self.waiting:
            while transfers:
                transfer = transfers[0]
                if not transfer.asked and isinstance(sender, Sender):
                    transfer.ask(sender)
                if transfer.raw and not transfer.sent and b"\r\n\r\n" in sender.received:
                    transfer.sent = True
                    sender.send(transfer.up)
                if not (transfer.call and transfer.arrived(transfer.call)) or not transfer.returned(sender.received):
                    break
                transfers.pop(0)
        return not any(transfers for _, transfers in self.waiting)

    @property
    def passed_bytes(self) -> float:
        directions = ("to_node", "to_sender")
        return sum(relay.metric("body_bytes_total", direction=way) for relay in self.relays for way in directions)

    async def run(self) -> None:
        allowed = BURST_SECONDS * max(RATES)
        moves: tuple[Callable[[], None], ...] = (
            self.begin, self.begin, self.stand_still, self.node_stands_still, self.bound,
        )  # fmt: skip
        moves_left, step = self.rng.randrange(4, 16), 0
        while moves_left or not self.look():
            step += 1
            assert step < MOST_STEPS
            if moves_left:
                moves_left -= 1
                self.rng.choice(moves)()
            if not moves_left or step % STILL_STEPS == 0:
                self.all_go_on()
            await asyncio.sleep(STEP_SECONDS)
            allowed += self.rate * STEP_SECONDS
            assert self.passed_bytes <= allowed + 4 * WINDOW * len(self.transfers)
        await self.end()

    async def end(self) -> None:
        """The senders go, and nothing is left."""
        for sender, _ in self.waiting:
            if isinstance(sender, Sender):
                sender.transport.abort()
        for link in self.links:
            link.ends[0].abort()
        await asyncio.sleep(6)
        for relay in self.relays:
            assert relay.calls_open == 0
            assert relay.budget.held_bytes == 0
            assert relay.front.pacing._lines == {}
            for which in ("head", "idle", "body_rate", "listener", "write_stall"):
                assert not relay.metric("deadlines_total", deadline=which)


async def course(seed: int, *, across: bool) -> None:
    async with relays_that_report_nothing(across=across) as relays:
        running = Course(random.Random(seed), relays)
        await asyncio.sleep(0.1)
        await running.run()


@pytest.mark.parametrize("across", [False, True])
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_transfers_under_a_quota_come_to_their_ends(seed: int, across: bool) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(course(seed, across=across))
