"""Several addresses on loopback, raced until one is of use: which is taken, when the next is tried, what is told."""

import asyncio
import errno
import socket
import ssl
from contextlib import ExitStack

import pytest

from trunkline.channel import connecting
from trunkline.channel.addresses import Address
from trunkline.channel.connecting import MOST_ATTEMPTS, connect_first, connect_reason
from trunkline.channel.errors import ConnectionLost, HandshakeFailed

BOTH_LOOPS = True


class Places:
    """Listening ports of which each behaves in its own way once it is connected to."""

    def __init__(self, listeners):
        self.avoided = []
        self.secured = []
        self.undelayed = []
        self.let = {}
        self._listeners = listeners
        self._errors = {}

    def open(self, *, error=None, held=False):
        """A port at which securing succeeds, fails, or waits until `let`."""
        listener = self._listeners.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = Address(socket.AF_INET, listener.getsockname())
        self._errors[address.address] = error
        if held:
            self.let[address.address] = asyncio.Event()
        return address

    def closed(self):
        """A port at which nobody listens, and that nobody else is given."""
        unheard = self._listeners.enter_context(socket.socket())
        unheard.bind(("127.0.0.1", 0))
        return Address(socket.AF_INET, unheard.getsockname())

    async def secure(self, connection):
        with connection:
            address = connection.getpeername()
            self.secured.append(address)
            self.undelayed.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
            if address in self.let:
                await self.let[address].wait()
            if self._errors[address] is not None:
                raise self._errors[address]
            return address

    async def connect(self, *addresses):
        found, made = await connect_first(addresses, self.secure, avoid=self.avoided.append)
        assert made == found.address
        return found


@pytest.fixture
def places():
    with ExitStack() as listeners:
        yield Places(listeners)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connecting, "SECURE_PATIENCE_SECONDS", 0.01)


async def test_the_first_is_taken_and_no_other_is_tried(places):
    first, second = places.open(), places.open()
    assert await places.connect(first, second) is first
    assert places.secured == [first.address]
    assert places.avoided == []


async def test_small_writes_leave_at_once(places):
    """Nagle's algorithm would hold a frame back until the peer's delayed acknowledgement, for 40 ms."""
    await places.connect(places.open())
    assert places.undelayed == [True]


async def test_an_address_that_takes_connections_and_never_speaks_is_passed_over(places, impatient):
    silent, good = places.open(held=True), places.open()
    assert await places.connect(silent, good) is good
    assert places.avoided == [silent]


async def test_an_address_that_was_overtaken_may_still_be_the_first(places, impatient):
    slow, silent = places.open(held=True), places.open(held=True)
    connecting_task = asyncio.create_task(places.connect(slow, silent))
    async with asyncio.timeout(30):
        while len(places.secured) < 2:  # noqa: ASYNC110 - both are at it
            await asyncio.sleep(0.001)
    places.let[slow.address].set()
    assert await connecting_task is slow
    assert places.avoided == [silent]


@pytest.mark.parametrize("error", [ConnectionResetError("cut"), ssl.SSLError(1, "no TLS"), HandshakeFailed("no")])
async def test_the_next_is_tried_at_once_when_one_fails(places, error):
    bad, closed, good = places.open(error=error), places.closed(), places.open()
    assert await places.connect(bad, closed, good) is good
    assert places.avoided == [bad, closed]


@pytest.mark.parametrize("other_way_round", [False, True])
async def test_of_several_reasons_one_is_told_for_which_trying_again_may_help(places, other_way_round):
    cut, untrusted = ConnectionResetError("cut"), ssl.SSLCertVerificationError(1, "not to be trusted")
    addresses = [places.open(error=error) for error in (cut, untrusted)]
    with pytest.raises(ConnectionResetError, match="cut"):
        await places.connect(*(reversed(addresses) if other_way_round else addresses))


async def test_a_reason_for_good_is_told_where_there_is_no_other(places):
    with pytest.raises(HandshakeFailed, match="the first"):
        await places.connect(*(places.open(error=HandshakeFailed(f"the {which}")) for which in ("first", "second")))


async def test_a_few_addresses_are_tried_and_no_more(places):
    addresses = [places.open(error=ConnectionLost("cut")) for _ in range(MOST_ATTEMPTS + 1)]
    with pytest.raises(ConnectionLost):
        await places.connect(*addresses)
    assert places.avoided == addresses[:MOST_ATTEMPTS]


async def test_who_is_cancelled_leaves_nothing(places, impatient):
    addresses = [places.open(held=True), places.open(held=True)]
    task = asyncio.create_task(places.connect(*addresses))
    async with asyncio.timeout(30):
        while len(places.secured) < 2:  # noqa: ASYNC110 - both are at it
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert places.avoided == addresses


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1, 0, 0)"), "Connection refused ('::1', 1, 0, 0)"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 1)"), "No route to host ('192.0.2.1', 1)"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed (a), [Errno 101] Connect call failed (b)"),
            "Multiple exceptions: Connection refused (a), Network is unreachable (b)",
        ),
        (OSError("Connect call failed"), "Connect call failed"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_a_reason_is_in_the_systems_words(error, reason):
    assert connect_reason(error) == reason
