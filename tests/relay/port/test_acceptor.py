"""Accepting over real sockets and TLS, on each event loop: what counts, what is bounded, what happens at a bound."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from certs.identities import Identity
from relay.bounds.spreading import AT_ONCE
from relay.port.acceptor import Acceptor
from relay.port.arrivals import Arrival
from relay.port.handshakes import HandshakeFailure
from relay.port.listening import open_listening
from tests.support.identities import IdentityKit
from tests.support.small_relay import SmallRelay, get
from trunkline.runtime.loop import loop_factory

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": loop_factory("uvloop"),
    "fast": loop_factory("auto"),
}
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200
A_HELLO_OF_NOTHING = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
LONG_SECONDS = 3600.0
ONE_MAY_HAVE_ALL = {"max_handshakes": 100, "max_handshakes_per_address": 100}


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Port:
    """A relay's data path with an acceptor in front of it, and peers that connect."""

    def __init__(self, kit: IdentityKit, max_connections: int = 20_000, **limits: Any) -> None:
        self._kit = kit
        self._max_connections = max_connections
        self._limits = limits
        self._raw: list[socket.socket] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.given_back = 0
        self.log = CapturingLogger()

    async def __aenter__(self) -> "Port":
        self.relay = SmallRelay(asyncio.get_running_loop(), **self._limits)
        (self.listening,) = await open_listening("0.0.0.0", 0, backlog=4096)
        self.acceptor = Acceptor(
            [self.listening],
            port=self.relay.port,
            context=self._kit.server_tls().context,
            max_connections=self._max_connections,
            metrics=self.relay.metrics,
            log=structlog.wrap_logger(self.log),
            give_back=self._give_back,
        )
        self.acceptor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.acceptor.stop()
        await self.relay.port.drain(0)
        for raw in self._raw:
            raw.close()
        self.relay.close()
        await asyncio.sleep(0.01)

    async def connect_raw(self, count: int = 1, *, source: str = HERE, say: bytes = b"") -> list[socket.socket]:
        """Connections without TLS."""
        opened = [socket.socket() for _ in range(count)]
        self._raw += opened
        for raw in opened:
            raw.setblocking(False)
            raw.bind((source, 0))
            # The relay may have closed it before this end looks at it.
            with contextlib.suppress(ConnectionResetError):
                await asyncio.get_running_loop().sock_connect(raw, (HERE, self.acceptor.port))
                if say:
                    raw.send(say)
        return opened

    def _give_back(self) -> None:
        self.given_back += 1

    async def call(self, source: str = HERE, identity: Identity | None = None) -> bytes:
        """Connect, and make one call; returns the head of the answer."""
        reader, writer = await asyncio.open_connection(
            HERE,
            self.acceptor.port,
            ssl=self._kit.client_tls(identity),
            server_hostname="localhost",
            local_addr=(source, 0),
        )
        self._writers.append(writer)
        writer.write(get(token=b"bad"))
        return await reader.readuntil(b"\r\n\r\n")

    def count(self, name: str, **labels: str) -> float:
        return self.relay.metric(name, **labels)

    def failures(self) -> dict[str, float]:
        """How many handshakes have failed, by the reason."""
        return {str(reason): self.count("handshake_failures_total", reason=reason) for reason in HandshakeFailure}

    @property
    def line(self) -> tuple[float, float]:
        """How many have had their turn and say nothing, and how many wait for it."""
        return self.count("handshakes_open"), self.count("handshakes_waiting")

    async def most_in_a_turn(self, measure: Callable[[], int], over: Callable[[], bool]) -> int:
        """By how much a number grows at most in one turn of the loop, until it is over."""
        before, most = measure(), 0
        async with asyncio.timeout(20):
            while not over():
                await asyncio.sleep(0)
                before, most = measure(), max(most, measure() - before)
        return most

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that happens in this loop."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.002)


async def ended(raw: socket.socket) -> bool:
    """Whether the relay has closed it, with or without a word of TLS."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(raw, 4096):
                pass
    return True


def is_closed(raw: socket.socket) -> bool:
    """The same of now."""
    try:
        return not raw.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many descriptors as the system allows."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


def on_each_loop(test: Callable[[IdentityKit], Coroutine[Any, Any, None]]) -> Callable[[str, IdentityKit], None]:
    @pytest.mark.parametrize("loop_name", LOOPS)
    def wrapper(loop_name: str, kit: IdentityKit) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(test(kit))

    wrapper.__name__ = test.__name__
    return wrapper


@on_each_loop
async def test_a_connection_counts_from_its_arrival_to_its_end(kit: IdentityKit) -> None:
    async with Port(kit) as port:
        (silent,) = await port.connect_raw()
        await port.until(lambda: port.count("handshakes_open") == 1)
        assert (await port.call()).startswith(b"HTTP/1.1 407 ")
        assert port.count("handshakes_open") == 1
        assert port.count("connections_open") == 1
        silent.close()
        await port.until(lambda: port.count("handshakes_open") == 0)
        assert port.acceptor.remark() is None


@on_each_loop
async def test_free_memory_is_given_back_between_agents_and_not_between_senders(kit: IdentityKit) -> None:
    async with Port(kit) as port:
        node = kit.issue_node()
        for expected, identity in ((0, None), (0, None), (0, node), (1, node), (2, None)):
            began_at = asyncio.get_running_loop().time()
            assert (await port.call(identity=identity)).startswith(b"HTTP/1.1 407 ")
            assert port.given_back == expected
            await port.until(lambda: asyncio.get_running_loop().time() > began_at)  # noqa: B023 - called here only


@on_each_loop
async def test_failed_handshakes_are_told_apart(kit: IdentityKit) -> None:
    async with Port(kit, handshake_seconds=LONG_SECONDS) as port:
        (garbage,) = await port.connect_raw(say=b"GET / HTTP/1.1\r\n\r\n")
        (gone,) = await port.connect_raw(say=HALF_A_HELLO)
        gone.close()
        assert await ended(garbage)
        await port.until(lambda: port.count("handshakes_open") == 0)
        assert port.failures() == {"tls": 1, "closed": 1, "deadline": 0, "displaced": 0}
    async with Port(kit, handshake_seconds=0.05) as port:
        (silent,) = await port.connect_raw()
        assert await ended(silent)
        await port.until(lambda: port.count("handshakes_open") == 0)
        assert port.failures() == {"tls": 0, "closed": 0, "deadline": 1, "displaced": 0}


@on_each_loop
async def test_one_address_does_not_starve_another(kit: IdentityKit) -> None:
    async with Port(kit, max_handshakes=8, max_handshakes_per_address=4, handshake_seconds=LONG_SECONDS) as port:
        silent = await port.connect_raw(20)
        await port.until(lambda: port.count("handshakes_waiting") == 16)
        assert (await port.call(ELSEWHERE)).startswith(b"HTTP/1.1 407 ")
        assert port.count("handshakes_open") == 4
        assert "16 connections wait" in (port.acceptor.remark() or "")
        silent.pop(0).close()
        await port.until(lambda: port.count("handshakes_waiting") == 15)
        assert port.count("handshakes_open") == 4


@on_each_loop
async def test_a_storm_from_one_address_passes(kit: IdentityKit) -> None:
    async with Port(kit, max_handshakes=8, max_handshakes_per_address=4, handshake_seconds=LONG_SECONDS) as port:
        answers = await asyncio.gather(*(port.call() for _ in range(100)))
        assert all(answer.startswith(b"HTTP/1.1 407 ") for answer in answers)
        assert port.count("connections_total") == 100
        assert port.count("handshakes_open") == port.count("handshakes_waiting") == 0


@on_each_loop
async def test_of_a_crowd_one_handshake_begins_in_a_turn_of_the_loop(kit: IdentityKit) -> None:
    async with Port(kit, handshakes_per_second=100_000, handshake_seconds=LONG_SECONDS) as port:
        sockets = await port.connect_raw(50)
        await port.until(lambda: port.count("handshakes_open") == 50)
        crowd = list(port.acceptor._queue.in_progress)

        def begun() -> int:
            return sum(arrival.task is not None for arrival in crowd)

        assert begun() == 0, "who is silent costs no TLS"
        for raw in sockets:
            raw.send(A_HELLO_OF_NOTHING)
        assert await port.most_in_a_turn(begun, lambda: begun() == 50) == 1


@on_each_loop
async def test_a_hello_in_pieces_is_answered_once_it_is_whole(kit: IdentityKit) -> None:
    outgoing = ssl.MemoryBIO()
    client = kit.client_tls().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with Port(kit, handshake_seconds=LONG_SECONDS) as port:
        (raw,) = await port.connect_raw()
        await port.until(lambda: port.count("handshakes_open") == 1)
        (arrival,) = port.acceptor._queue.in_progress
        for piece, awaited in ((hello[:1], 5), (hello[1:7], len(hello)), (hello[7:-1], len(hello))):
            raw.send(piece)
            await port.until(lambda: arrival.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == awaited)  # noqa: B023 - called here only
            await asyncio.sleep(0.01)
            assert arrival.task is None
        raw.send(hello[-1:])
        assert (await asyncio.get_running_loop().sock_recv(raw, 4096)).startswith(b"\x16\x03\x03")
        assert port.count("handshakes_open") == 1


@on_each_loop
async def test_of_those_that_make_room_few_have_to_go_in_a_turn_of_the_loop(kit: IdentityKit) -> None:
    async with Port(kit, max_handshakes=40, max_handshakes_per_address=40, handshake_seconds=2.0) as port:
        await port.connect_raw(40)
        await port.until(lambda: port.count("handshakes_open") == 40)
        crowd = list(port.acceptor._queue.in_progress)
        call = asyncio.create_task(port.call(ELSEWHERE))

        def displaced() -> int:
            return sum(arrival.displaced for arrival in crowd)

        assert 0 < await port.most_in_a_turn(displaced, call.done) <= AT_ONCE
        assert (await call).startswith(b"HTTP/1.1 407 ")


@on_each_loop
async def test_an_acceptor_that_ends_ends_those_that_were_about_to_begin(kit: IdentityKit) -> None:
    async with Port(kit, handshakes_per_second=100_000, handshake_seconds=LONG_SECONDS) as port:
        crowd = await port.connect_raw(10)
        await port.until(lambda: port.count("handshakes_open") > 0)
        await port.acceptor.stop()
        assert all(await asyncio.gather(*(ended(raw) for raw in crowd)))
        assert port.count("handshakes_open") == 0


@on_each_loop
async def test_at_the_bound_of_handshakes_the_backlog_holds_who_comes(kit: IdentityKit) -> None:
    async with Port(kit, max_handshakes=4, max_handshakes_per_address=4, handshake_seconds=LONG_SECONDS) as port:
        silent = await port.connect_raw(4)
        await port.until(lambda: port.count("handshakes_open") == 4)
        call = asyncio.create_task(port.call(ELSEWHERE))
        await port.until(lambda: port.count("accept_pauses_total", reason="handshakes") == 1)
        assert "max_handshakes is reached" in (port.acceptor.remark() or "")
        assert port.count("handshakes_waiting") == 0
        silent[0].close()
        assert (await call).startswith(b"HTTP/1.1 407 ")


@on_each_loop
async def test_under_pressure_the_slow_make_room(kit: IdentityKit) -> None:
    # Of the four handshakes each has a quarter of two seconds, and not all of them, for somebody waits.
    async with Port(kit, max_handshakes=4, max_handshakes_per_address=4, handshake_seconds=2.0) as port:
        silent = await port.connect_raw(4)
        await port.until(lambda: port.count("handshakes_open") == 4)
        assert (await port.call(ELSEWHERE)).startswith(b"HTTP/1.1 407 ")
        assert await ended(silent[0])
        assert port.count("handshake_failures_total", reason="displaced") >= 1
        assert port.count("handshake_failures_total", reason="deadline") == 0


@on_each_loop
async def test_over_the_bound_of_connections_the_newest_is_closed(kit: IdentityKit) -> None:
    async with Port(kit, max_connections=3, **ONE_MAY_HAVE_ALL) as port:
        await port.connect_raw(2)
        assert (await port.call()).startswith(b"HTTP/1.1 407 ")
        (refused,) = await port.connect_raw()
        assert await ended(refused)
        assert port.count("connections_refused_total", reason="connections") == 1
        assert "3 connections" in (port.acceptor.remark() or "")
        assert len(port.log.calls) == 1


@on_each_loop
async def test_new_connections_of_a_few_addresses_leave_room_for_others(kit: IdentityKit) -> None:
    async with Port(kit, max_connections=16, handshake_seconds=LONG_SECONDS) as port:
        for number in (2, 3, 4):
            await port.connect_raw(16, source=f"127.0.0.{number}")
        assert b" 407 " in await port.call("127.0.0.5")
        assert port.line == (15, 0)
        assert port.count("connections_refused_total", reason="address") == 48 - 15
        assert port.relay.port.strangers_of("127.0.0.5") == 1


@on_each_loop
async def test_an_address_that_may_have_all_handshakes_may_have_all_connections(kit: IdentityKit) -> None:
    async with Port(kit, max_connections=8, handshake_seconds=LONG_SECONDS, **ONE_MAY_HAVE_ALL) as port:
        await port.connect_raw(9)
        await port.until(lambda: port.count("connections_refused_total", reason="connections") == 1)
        assert port.line == (8, 0)


@on_each_loop
async def test_a_stranger_who_has_all_connections_keeps_nobody_out(kit: IdentityKit) -> None:
    async with Port(kit, max_connections=3, head_seconds=0.5, **ONE_MAY_HAVE_ALL) as port:
        for _ in range(3):  # refused and kept alive, each for as long as it asks again now and then
            assert (await port.call()).startswith(b"HTTP/1.1 407 ")
        deadlines = port.relay.front.deadlines
        up_at = deadlines.now
        await port.until(lambda: deadlines.now > up_at + 0.5)
        assert (await port.call(ELSEWHERE)).startswith(b"HTTP/1.1 407 ")
        assert port.count("connections_refused_total", reason="connections") == 0
        assert port.count("deadlines_total", deadline="room") == 1


@on_each_loop
async def test_a_stranger_who_is_not_new_makes_room_for_another_of_his_address(kit: IdentityKit) -> None:
    async with Port(kit, max_connections=4, head_seconds=0.5) as port:
        for _ in range(3):
            assert (await port.call()).startswith(b"HTTP/1.1 407 ")
        (refused,) = await port.connect_raw()
        assert await ended(refused)
        assert port.count("connections_refused_total", reason="address") == 1
        deadlines = port.relay.front.deadlines
        up_at = deadlines.now
        await port.until(lambda: deadlines.now > up_at + 0.5)
        assert (await port.call()).startswith(b"HTTP/1.1 407 ")
        assert port.count("deadlines_total", deadline="room") == 1


@on_each_loop
async def test_over_the_bound_of_those_that_wait_the_newest_is_closed(kit: IdentityKit) -> None:
    limits = {"max_handshakes_per_address": 1, "handshake_seconds": LONG_SECONDS}
    async with Port(kit, max_connections=16, **limits) as port:
        sockets, *_ = [await port.connect_raw(4, source=f"127.0.0.{number}") for number in (2, 3, 4)]
        assert await ended(sockets[3])
        assert port.count("handshakes_waiting") == 8
        assert port.count("connections_refused_total", reason="waiting") == 1


@on_each_loop
async def test_closing_lets_go_of_those_that_wait_and_lets_handshakes_end(kit: IdentityKit) -> None:
    async with Port(kit, max_handshakes=2, max_handshakes_per_address=1) as port:
        sockets = await port.connect_raw(2)
        await port.until(lambda: port.count("handshakes_waiting") == 1)
        port.acceptor.close()
        assert await ended(sockets[1])
        with pytest.raises(ConnectionError):
            await port.connect_raw()
        assert port.count("handshakes_open") == 1
        await port.acceptor.stop()
        assert await ended(sockets[0])
        assert port.count("handshakes_open") == 0


@on_each_loop
async def test_without_descriptors_it_rests_and_goes_on(kit: IdentityKit) -> None:
    async with Port(kit) as port:
        soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        raw = socket.socket()
        raw.setblocking(False)
        spare = socket.socket()
        lowest = spare.fileno()
        spare.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most))
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                socket.socket()
            await asyncio.get_running_loop().sock_connect(raw, (HERE, port.acceptor.port))
            await port.until(lambda: port.count("accept_pauses_total", reason="resources") >= 2)
            assert "out of descriptors" in (port.acceptor.remark() or "")
            assert port.count("accept_pauses_total", reason="resources") <= 3, "it does not spin"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
        await port.until(lambda: port.count("handshakes_open") == 1)
        assert (await port.call()).startswith(b"HTTP/1.1 407 ")
        assert len(port.log.calls) == 1, "one line a minute"
        raw.close()


@on_each_loop
@pytest.mark.usefixtures("many_files")
async def test_a_thousand_that_say_nothing_and_a_thousand_that_say_half(kit: IdentityKit) -> None:
    async with Port(kit, handshake_seconds=4.0, handshakes_per_second=100_000) as port:
        silent = await port.connect_raw(1000)
        halves = await port.connect_raw(1000, say=HALF_A_HELLO)
        assert (await port.call(ELSEWHERE)).startswith(b"HTTP/1.1 407 ")
        assert port.count("handshakes_open") > 0, "that was in the midst of it"
        assert all(await asyncio.gather(*(ended(raw) for raw in silent + halves)))
        await port.until(lambda: port.count("handshakes_open") == port.count("handshakes_waiting") == 0)
        failures = (port.count("handshake_failures_total", reason=reason) for reason in ("deadline", "displaced"))
        assert sum(failures) == 2000
        assert (await port.call(HERE)).startswith(b"HTTP/1.1 407 ")


@on_each_loop
async def test_no_more_handshakes_begin_in_a_second_than_the_budget(kit: IdentityKit) -> None:
    async with Port(kit, handshakes_per_second=10, handshake_seconds=LONG_SECONDS) as port:
        began = asyncio.get_running_loop().time()
        await port.connect_raw(12)
        await port.until(lambda: sum(port.line) == 12)
        assert port.count("handshakes_paced_total") >= port.count("handshakes_waiting")
        assert "handshakes_per_second" in (port.acceptor.remark() or "")
        await port.until(lambda: port.count("handshakes_total") >= 6)
        # Nine a second behind the first: on a machine that stood still meanwhile, more of them by the same budget.
        assert port.count("handshakes_total") <= 1 + 9 * (asyncio.get_running_loop().time() - began)


@on_each_loop
async def test_a_crowd_from_one_address_costs_another_one_turn(kit: IdentityKit) -> None:
    async with Port(kit, handshakes_per_second=10, handshake_seconds=LONG_SECONDS) as port:
        await port.connect_raw(25)
        await port.until(lambda: sum(port.line) == 25)
        (other,) = await port.connect_raw(source=ELSEWHERE)
        begun = port.acceptor._queue.in_progress

        def arrival() -> Arrival | None:
            return next((each for each in begun if each.socket.getpeername() == other.getsockname()), None)

        await port.until(lambda: arrival() is not None)
        came = arrival()
        assert came is not None
        assert len(begun) < 25, "the crowd waits still"
        assert sum(came.accepted_at < each.begun_at <= came.begun_at for each in begun if each is not came) <= 1


@on_each_loop
async def test_a_line_too_long_to_be_served_in_time_is_cut_at_its_end(kit: IdentityKit) -> None:
    async with Port(kit, handshakes_per_second=10, handshake_seconds=LONG_SECONDS) as port:
        began = asyncio.get_running_loop().time()
        first = await port.connect_raw(29)
        await port.until(lambda: sum(port.line) == 29)
        last = await port.connect_raw(60)

        def refused() -> float:
            return port.count("connections_refused_total", reason="paced")

        await port.until(lambda: sum(port.line) + refused() == 89)
        # Some more have had their turn where the machine is slow.
        assert 60 - 9 * (asyncio.get_running_loop().time() - began) <= refused() <= 60
        await port.until(lambda: sum(map(is_closed, last)) == refused())
        assert not any(map(is_closed, first))


@on_each_loop
async def test_who_gives_up_in_the_line_costs_no_handshake(kit: IdentityKit) -> None:
    async with Port(kit, handshakes_per_second=10, handshake_seconds=LONG_SECONDS) as port:
        began = asyncio.get_running_loop().time()
        stays, *goes = await port.connect_raw(6)
        await port.until(lambda: sum(port.line) == 6)
        for raw in goes:
            raw.close()
        gone_after = asyncio.get_running_loop().time() - began
        await port.until(lambda: port.line == (1, 0))
        # Those whose turn came before they went have had it.
        assert port.count("handshakes_total") <= 1 + 9 * gone_after
        assert port.count("handshake_failures_total", reason="closed") == 5
        assert stays.fileno() >= 0


@on_each_loop
async def test_handshakes_that_fail_leave_nothing_that_has_to_be_searched_for(kit: IdentityKit) -> None:
    async with Port(kit) as port:
        gc.collect()
        gc.disable()
        try:
            for raw in await port.connect_raw(8, say=HALF_A_HELLO):
                raw.close()
            await port.connect_raw(8, say=b"GET / HTTP/1.1\r\n\r\n")
            await port.until(
                lambda: sum(port.count("handshake_failures_total", reason=reason) for reason in HandshakeFailure) == 16
            )
            await port.until(lambda: not any(isinstance(each, Arrival) for each in gc.get_objects()))
        finally:
            gc.enable()
