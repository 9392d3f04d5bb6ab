"""yamux-js from npm in both roles: many streams and bulk both ways, ping, goodbye.

What that library cannot do is left out: it takes no notice of FIN, and lets at most 256 streams be opened in its life.
"""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from tests.support.foreign_peers import running_peer
from tests.support.link_server import Echo
from trunkline.channel.session import Role
from trunkline.channel.stream_transport import open_stream_pair

pytestmark = pytest.mark.interop

PEER = str(Path(__file__).parent / "js_peer" / "peer.js")
ROLES = [(Role.CLIENT, "server"), (Role.SERVER, "client")]
MEGABYTE = 1_000_000


def command(yamux_js, path, role, *rest):
    return [shutil.which("node"), PEER, str(yamux_js), path, role, *map(str, rest)]


async def echo(link, data):
    reader, writer = open_stream_pair(link.open())
    writer.write(data)
    answer = await reader.readexactly(len(data))
    writer.transport.abort()
    return answer


@pytest.mark.parametrize(("role", "peer_role"), ROLES)
async def test_streams_opened_here_are_echoed_by_javascript(yamux_js, meeting, role, peer_role):
    async with meeting(role) as (path, link_of_peer), running_peer(command(yamux_js, path, peer_role, "echo")) as peer:
        link = await link_of_peer()
        await peer.wait_for("up")
        randomness = random.Random(3)
        small = [randomness.randbytes(1000 + n) for n in range(100)]
        assert await asyncio.gather(*(echo(link, data) for data in small)) == small
        large = randomness.randbytes(10 * MEGABYTE)
        assert await echo(link, large) == large
        assert await link.ping() > 0
        link.go_away()
        link.close()
        await peer.wait_for("ended")
        assert await peer.wait_for_end() == 0


@pytest.mark.parametrize(("role", "peer_role"), ROLES)
@pytest.mark.parametrize(("count", "size"), [(100, 1000), (2, 5 * MEGABYTE)])
async def test_javascript_opens_streams_that_are_echoed_here(yamux_js, meeting, role, peer_role, count, size):
    async with (
        meeting(role, Echo) as (path, link_of_peer),
        running_peer(command(yamux_js, path, peer_role, "drive", count, size)) as peer,
    ):
        link = await link_of_peer()
        assert await peer.wait_for("drove") == f"drove {count} {size}"
        while not link.draining:
            await link.ping()
