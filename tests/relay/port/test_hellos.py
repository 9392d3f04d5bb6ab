"""Awaiting the first words of a client over real sockets, on each event loop."""

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable

import pytest

from relay.port.arrivals import Arrival
from relay.port.hellos import LINE, Hellos
from tests.relay.port.test_acceptor import LOOPS

HELLO = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"


class Port:
    """Hellos with one client, and what became of it."""

    def __init__(self, until: float = 3600.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.hellos = Hellos(self.loop, answer=lambda _: self._tell("answered"), late=lambda _: self._tell("late"))
        self.told: list[str] = []
        self._told = asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.arrival = Arrival(accepted, "here", self.loop.time(), lambda *_: None)
        self._until = self.loop.time() + until

    def expect(self) -> None:
        self.hellos.expect(self.arrival, self._until)

    async def outcome(self) -> list[str]:
        async with asyncio.timeout(20):
            await self._told.wait()
        return self.told

    def close(self) -> None:
        self.hellos.forget(self.arrival)
        self.client.close()
        self.arrival.socket.close()

    @property
    def awaited_bytes(self) -> int:
        return self.arrival.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self._told.set()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a test with a port on each of the loops."""

    def run(test: Callable[[Port], Awaitable[None]], **options: float) -> None:
        async def main() -> None:
            port = Port(**options)
            try:
                await test(port)
            finally:
                port.close()
                await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("said", [HELLO, HELLO + b"more", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\xff\xff"])
def test_what_is_whole_or_no_hello_is_answered(run, said: bytes, early: bool) -> None:
    async def test(port: Port) -> None:
        if early:
            port.client.send(said)
        port.expect()
        port.client.send(said)
        assert await port.outcome() == ["answered"]
        assert port.awaited_bytes == 1
        assert port.arrival.socket.recv(4096, socket.MSG_PEEK).startswith(said), "nothing was taken away"
        assert not port.hellos.forget(port.arrival)

    run(test)


@pytest.mark.parametrize("said", [b"", HELLO[:1], HELLO[:5], HELLO[:-1]])
def test_one_that_ends_before_its_hello_has_its_turn(run, said: bytes) -> None:
    async def test(port: Port) -> None:
        port.expect()
        port.client.send(said)
        port.client.shutdown(socket.SHUT_WR)
        assert await port.outcome() == ["answered"]
        assert port.awaited_bytes == 1

    run(test)


def test_a_hello_byte_by_byte(run) -> None:
    async def test(port: Port) -> None:
        port.expect()
        for number in range(len(HELLO) - 1):
            port.client.send(HELLO[number : number + 1])
            await asyncio.sleep(0.001)
            assert not port.told
        port.client.send(HELLO[-1:])
        assert await port.outcome() == ["answered"]

    run(test)


@pytest.mark.parametrize("said", [b"", HELLO[:-1]])
def test_one_that_is_not_there_in_time_is_late(run, said: bytes) -> None:
    async def test(port: Port) -> None:
        port.expect()
        port.client.send(said)
        assert await port.outcome() == ["late"]
        assert not port.hellos.forget(port.arrival)

    run(test, until=0.05)


def test_who_is_forgotten_is_told_of_no_more(run) -> None:
    async def test(port: Port) -> None:
        port.expect()
        assert port.hellos.forget(port.arrival)
        port.client.send(HELLO)
        await asyncio.sleep(0.05)
        assert not port.told

    run(test, until=0.03)


def test_those_that_are_there_can_all_be_answered_now(run) -> None:
    async def test(port: Port) -> None:
        port.client.send(HELLO)
        await asyncio.sleep(0.01)
        port.expect()
        port.hellos.answer_all()
        assert port.told == ["answered"]
        await asyncio.sleep(0.01)
        assert port.told == ["answered"], "once only"

    run(test)


async def test_the_longer_the_line_the_more_are_answered_in_a_turn() -> None:
    loop = asyncio.get_running_loop()
    answered: list[Arrival] = []
    hellos = Hellos(loop, answer=answered.append, late=lambda _: None)
    pairs = [socket.socketpair() for _ in range(2 * LINE)]
    for ours, theirs in pairs:
        theirs.send(HELLO)
        hellos.expect(Arrival(ours, "here", loop.time(), lambda *_: None), loop.time() + 3600)
    counts = [0]
    while counts[-1] < len(pairs):
        await asyncio.sleep(0)
        counts.append(len(answered))
    in_turns = [after - before for before, after in itertools.pairwise(counts)]
    assert (in_turns[0], max(in_turns), in_turns[-1]) == (3, 3, 1)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
