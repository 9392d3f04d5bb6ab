"""The data path over real TLS, on both event loops: what transports in memory cannot show."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certs.authority import Authority
from certs.identities import Identity, build_csr
from certs.spiffe import relay_id
from certs.tls import ServerTls, client_context
from relay.links.listeners import Listener
from relay.senders import closing
from tests.support.small_relay import HOST, Node, NodeCall, SmallRelay, get, listener_grant, reply
from trunkline.channel.closing import LONGEST_SECONDS
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, Role
from trunkline.channel.unsent import unsent_bytes, untaken_bytes
from trunkline.runtime.loop import loop_factory

CONNECT = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
WINDOW_BYTES = 65_536
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": loop_factory("uvloop"),
    "fast": loop_factory("auto"),
}


SHORT_GOODBYE_SECONDS = 0.1
RECEIVE_BYTES = 64 * 1024


@pytest.fixture(autouse=True)
def short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "GOODBYE_SECONDS", SHORT_GOODBYE_SECONDS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("ca") / "authority", "test.internal", now=time.time())


class Installation:
    """A relay that listens, and one node linked to it."""

    def __init__(self, authority: Authority) -> None:
        self._roots = authority.roots
        key = ec.generate_private_key(ec.SECP256R1())
        spiffe_id = relay_id("test.internal", "rl-" + "a" * 20)
        chain = authority.issue_relay(build_csr(key), spiffe_id, ["localhost"], now=time.time())
        self._tls = ServerTls(Identity(key, chain))
        self.node = Node()
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._connections: list[asyncio.Protocol] = []
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.relay = SmallRelay(loop)
        self.port = await self._listen(self._connection)
        limits = Limits(initial_window_bytes=WINDOW_BYTES)
        listener = Listener(listener_grant("finance", "vm-1"), "i", 1, owner=self.relay.registry,
                            limits=self.relay.limits)  # fmt: skip
        options: dict[str, Any] = {"loop": loop, "limits": limits, "send_window_bytes": WINDOW_BYTES, "compact": True}
        self.links = Link(Role.CLIENT, listener, **options), Link(Role.SERVER, self.node, **options)
        self.node.link = self.links[1]
        port = await self._listen(self.links[0].as_protocol)
        context = client_context(self._roots)
        await loop.create_connection(
            self.links[1].as_protocol, "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        self.relay.registry.attach(listener, self.links[0])

    async def _listen(self, factory: Callable[[], asyncio.Protocol]) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            factory, "127.0.0.1", 0, ssl=self._tls.context, ssl_shutdown_timeout=LONGEST_SECONDS
        )
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def _connection(self) -> asyncio.Protocol:
        self._connections.append(self.relay.port.connection("127.0.0.1"))
        return self._connections[-1]

    @property
    def transport(self) -> Any:
        """The relay's transport of the last connection."""
        return cast("Any", self._connections[-1])._transport

    def connect_socket(self) -> ssl.SSLSocket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)  # so that much waits at the relay
        connection.connect(("127.0.0.1", self.port))
        context = client_context(self._roots)
        return context.wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=False)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=client_context(self._roots), server_hostname="localhost", limit=2**24
        )
        self._writers.append(writer)
        return reader, writer

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that the node sees."""
        async with asyncio.timeout(30):
            while not condition():
                self.node.changed.clear()
                await self.node.changed.wait()

    async def call(self) -> NodeCall:
        """The node's side of the first call, once its head is there."""
        await self.until(lambda: bool(self.node.calls) and b"\r\n\r\n" in self.node.calls[0].received)
        return self.node.calls[0]

    async def stop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.relay.port.drain(5)
        for link in self.links:
            link.abort()
        for server in self._servers:
            server.close()
        await asyncio.gather(*(link.closed for link in self.links))
        self.relay.close()
        await asyncio.sleep(0)


Test = Callable[[Installation], Any]


def on_loops(test: Test, names: Iterable[str]) -> Callable[[str, Authority], None]:
    """Runs a test on each of these loops."""

    @pytest.mark.parametrize("loop_name", names)
    def wrapper(loop_name: str, authority: Authority) -> None:
        async def run() -> None:
            installation = Installation(authority)
            await installation.start()
            try:
                await test(installation)
            finally:
                await installation.stop()

        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(run())

    wrapper.__name__ = test.__name__
    return wrapper


def on_each_loop(test: Test) -> Callable[[str, Authority], None]:
    """Runs a test on every loop that the relay may run on."""
    return on_loops(test, LOOPS)


def on_the_fast_loop(test: Test) -> Callable[[str, Authority], None]:
    """Runs a test on the loop whose TLS transports count all that they hold; the others' have a buffer below theirs."""
    return on_loops(test, ["fast"])


async def read_response(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and content of a counted response."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def bytes_to_the_end(sender: ssl.SSLSocket) -> int:
    """Read what comes, close, and return how much that was."""
    received_bytes = 0
    while data := await asyncio.to_thread(sender.recv, 65_536):
        received_bytes += len(data)
    sender.close()
    return received_bytes


@on_each_loop
async def test_kept_alive_calls(installation: Installation) -> None:
    reader, writer = await installation.connect()
    installation.node.script = lambda call: call.answer(reply(call.head.split()[1]))
    for number in range(20):
        writer.write(get(b"/%d" % number))
        assert (await read_response(reader))[1] == b"/%d" % number


@on_each_loop
async def test_pipelined_calls(installation: Installation) -> None:
    reader, writer = await installation.connect()
    installation.node.script = lambda call: call.answer(reply(call.head.split()[1]))
    writer.write(b"".join(get(b"/%d" % number, b"X: " + b"x" * 1000) for number in range(500)))
    for number in range(500):
        assert (await read_response(reader))[1] == b"/%d" % number


@on_each_loop
async def test_large_content_both_ways(installation: Installation) -> None:
    content = bytes(range(256)) * 20_000
    reader, writer = await installation.connect()
    writer.write(get(b"/", b"Content-Length: %d" % len(content), method=b"PUT") + content)
    call = await installation.call()
    await installation.until(lambda: len(call.received) == len(call.head) + 4 + len(content))
    assert call.content == content
    call.answer(reply(content))
    assert (await read_response(reader))[1] == content


@on_each_loop
async def test_slow_reader_is_held_back(installation: Installation) -> None:
    reader, writer = await installation.connect()
    writer.write(get())
    call = await installation.call()
    transport = cast("asyncio.Transport", writer.transport)
    transport.pause_reading()
    call.answer(reply(b"x" * 20_000_000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await installation.until(lambda: call.unsent_bytes == 0)
    assert call.unsent_bytes > 5_000_000
    transport.resume_reading()
    assert len((await read_response(reader))[1]) == 20_000_000


@on_each_loop
async def test_slow_reader_gets_the_last_response_to_its_end(installation: Installation) -> None:
    # Not a sender on the loop: its own transport would lose bytes at the end of a connection while it does not read.
    sender = await asyncio.to_thread(installation.connect_socket)
    sender.sendall(get(b"/", b"Connection: close"))
    call = await installation.call()
    call.answer(reply(b"x" * 10_000_000))
    received = bytearray()
    # The node is done while the last bytes still wait for the sender, who lets them wait.
    while call.stream.writable:
        received += await asyncio.to_thread(sender.recv, 65_536)
    await asyncio.sleep(3 * SHORT_GOODBYE_SECONDS)
    while data := await asyncio.to_thread(sender.recv, 65_536):
        received += data
    sender.close()
    assert len(received.partition(b"\r\n\r\n")[2]) == 10_000_000


@on_the_fast_loop
async def test_slow_reader_gets_what_is_encrypted_already(installation: Installation) -> None:
    sender = await asyncio.to_thread(installation.connect_socket)
    sender.sendall(CONNECT)
    call = await installation.call()
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    assert (await asyncio.to_thread(sender.recv, 65_536)).endswith(b"\r\n\r\n")
    sent_bytes = 0
    transport = installation.transport
    # The kernel takes no more, and the transport has encrypted what its buffer's size does not tell.
    while transport.get_local_write_buffer_size() < 20_000:
        call.answer(b"x" * 1000, end=False)
        sent_bytes += 1000
        await asyncio.sleep(0)
    assert transport.get_write_buffer_size() == 0
    call.answer(b"")
    await installation.until(lambda: not call.stream.writable)
    await asyncio.sleep(3 * SHORT_GOODBYE_SECONDS)
    assert await bytes_to_the_end(sender) == sent_bytes


@on_each_loop
async def test_sender_that_speaks_before_it_reads_gets_what_the_kernel_holds(installation: Installation) -> None:
    sender = await asyncio.to_thread(installation.connect_socket)
    sender.sendall(CONNECT)
    call = await installation.call()
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    assert (await asyncio.to_thread(sender.recv, 65_536)).endswith(b"\r\n\r\n")
    sent_bytes = 0
    transport = installation.transport
    while untaken_bytes(transport) < 500_000:
        call.answer(b"x" * 10_000, end=False)
        sent_bytes += 10_000
        await asyncio.sleep(0)
    assert unsent_bytes(transport) == 0
    call.answer(b"")
    await installation.until(lambda: not call.stream.writable)
    await asyncio.sleep(2 * SHORT_GOODBYE_SECONDS)
    sender.sendall(b"not finished yet")
    await asyncio.sleep(2 * SHORT_GOODBYE_SECONDS)
    assert await bytes_to_the_end(sender) == sent_bytes


@on_each_loop
async def test_response_cut_short_is_seen(installation: Installation) -> None:
    reader, writer = await installation.connect()
    writer.write(get())
    call = await installation.call()
    call.answer(reply(b"x" * 1000)[:-500], end=False)
    await reader.readuntil(b"\r\n\r\n")
    call.stream.reset()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
        await reader.readexactly(1000)


@on_each_loop
async def test_sender_that_breaks_off_resets_the_stream(installation: Installation) -> None:
    _, writer = await installation.connect()
    writer.write(get())
    call = await installation.call()
    writer.transport.abort()
    await installation.until(lambda: call.lost is not None)


@on_each_loop
async def test_early_answer_reaches_a_sender_that_still_sends(installation: Installation) -> None:
    reader, writer = await installation.connect()
    content = b"x" * 10_000_000
    writer.write(get(b"/", b"Content-Length: %d" % len(content), method=b"PUT", token=b"bad") + content)
    head, _ = await read_response(reader)
    assert head.startswith(b"HTTP/1.1 407 ")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
        await reader.readexactly(1)


@on_each_loop
async def test_raw_bytes_and_the_end_of_each_side(installation: Installation) -> None:
    content = bytes(range(256)) * 4000
    reader, writer = await installation.connect()
    writer.write(CONNECT)
    call = await installation.call()
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(content)
    await installation.until(lambda: len(call.received) == len(call.head) + 4 + len(content))
    call.answer(content)
    assert await reader.readexactly(len(content)) == content
    await installation.until(lambda: call.ended)
    assert call.content == content
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
        await reader.readexactly(1)


@on_each_loop
async def test_closing_sender_half_closes_the_node(installation: Installation) -> None:
    reader, writer = await installation.connect()
    writer.write(CONNECT)
    call = await installation.call()
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"x" * 500_000)
    writer.close()
    await installation.until(lambda: call.ended)
    assert len(call.content) == 500_000
    assert call.lost is None
    call.answer(b"")
    await installation.until(lambda: installation.node.link.streams == 0)
