"""The end of links over real TLS, whose transports and sockets lose what is not taken when they are closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.identities import IdentityKit
from tests.support.links import Owner, Recorder, open_recorder, until
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, Role
from trunkline.channel.unsent import unsent_bytes
from trunkline.runtime.loop import loop_factory

WINDOW_BYTES = 4 * 1024 * 1024
GOODBYE_SECONDS = 0.1
PIECE_BYTES = 4096


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return IdentityKit(tmp_path_factory.mktemp("identities"))


@dataclass
class Ending:
    """A link that is about to end, a stream of it that the peer has ended already, and the peer, who reads nothing."""

    link: Link
    stream: Any
    peer: Link
    peers_stream: Recorder

    @property
    def transport(self) -> Any:
        return self.link._transport

    @property
    def peers_transport(self) -> Any:
        return self.peer._transport


@asynccontextmanager
async def ending_link(kit: IdentityKit) -> AsyncIterator[Ending]:
    loop = asyncio.get_running_loop()
    limits = Limits(initial_window_bytes=WINDOW_BYTES)
    options: dict[str, Any] = {"loop": loop, "limits": limits, "send_window_bytes": WINDOW_BYTES, "compact": True}
    owner = Owner()
    link, peer = Link(Role.SERVER, owner, **options), Link(Role.CLIENT, Owner(), **options)
    server = await loop.create_server(
        link.as_protocol, "127.0.0.1", 0, ssl=kit.server_tls().context, ssl_shutdown_timeout=GOODBYE_SECONDS
    )
    port = server.sockets[0].getsockname()[1]
    await loop.create_connection(peer.as_protocol, "127.0.0.1", port, ssl=kit.client_tls(), server_hostname="localhost")
    peers_stream = open_recorder(peer)
    peers_stream.stream.write(b"all that it has to say", end=True)
    await until(lambda: bool(owner.handlers) and owner.handlers[0].over.done())
    ending = Ending(link, owner.handlers[0].stream, peer, peers_stream)
    ending.peers_transport.pause_reading()
    try:
        yield ending
    finally:
        server.close()
        for end in (link, peer):
            end.abort()
            await end.closed


def on_the_fast_loop(test: Callable[[IdentityKit], Awaitable[None]]) -> Callable[[IdentityKit], None]:
    """Run a test on the loop that daemons run on; on the others a reader that pauses loses bytes by itself."""

    def wrapper(kit: IdentityKit) -> None:
        async def run() -> None:
            await test(kit)

        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            runner.run(run())

    wrapper.__name__ = test.__name__
    return wrapper


@on_the_fast_loop
async def test_a_drain_waits_until_the_peer_has_taken_the_last_bytes(kit):
    async with ending_link(kit) as ending:
        sent_bytes = 0
        while not ending.link.unsent_bytes:
            room_bytes = ending.stream.send_room_bytes
            ending.stream.write(b"x" * room_bytes)
            sent_bytes += room_bytes
            await asyncio.sleep(0)
        ending.stream.end()
        ending.link.flush()
        draining = asyncio.ensure_future(ending.link.drain(60))
        await asyncio.sleep(3 * GOODBYE_SECONDS)
        assert not draining.done()
        ending.peers_transport.resume_reading()
        assert await draining
        await ending.peers_stream.over
    assert len(ending.peers_stream.received) == sent_bytes
    assert ending.peers_stream.calls[-1] == "end"


@on_the_fast_loop
async def test_a_close_keeps_what_the_kernel_holds_from_a_peer_that_speaks_before_it_reads(kit):
    async with ending_link(kit) as ending:
        sent_bytes = 0
        while not unsent_bytes(ending.transport):
            ending.stream.write(b"x" * PIECE_BYTES)
            sent_bytes += PIECE_BYTES
            await asyncio.sleep(0)
        ending.stream.end()
        ending.link.close()
        await asyncio.sleep(3 * GOODBYE_SECONDS)
        ending.peer.go_away()
        ending.peer.flush()
        await asyncio.sleep(GOODBYE_SECONDS)
        ending.peers_transport.resume_reading()
        await ending.peers_stream.over
        await ending.link.closed
    assert len(ending.peers_stream.received) == sent_bytes
    assert ending.peers_stream.calls[-1] == "end"
