"""The foreign peers, built or fetched once, and a socket that they connect to."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from tests.support.foreign_peers import build_go_peer, fetch_yamux_js
from tests.support.link_pair import Owner
from trunkline.channel.link import Link


@pytest.fixture(scope="session")
def go_peer(tmp_path_factory):
    return build_go_peer(tmp_path_factory.mktemp("go-peer"))


@pytest.fixture(scope="session")
def yamux_js(tmp_path_factory):
    return fetch_yamux_js(tmp_path_factory.mktemp("yamux-js"))


class Meeting:
    """A unix socket where a peer's connection becomes a link."""

    def __init__(self, path, owner, role):
        self.path = str(path)
        self.owner = owner
        self.role = role
        self.links = asyncio.Queue()

    def accept(self):
        link = Link(self.role, self.owner, loop=asyncio.get_running_loop())
        self.links.put_nowait(link)
        return link


@pytest.fixture
def meeting(tmp_path):
    """Opens a meeting for one peer: `async with meeting(role, serve) as (path, link_of_peer)`."""

    @asynccontextmanager
    async def opened(role, serve=lambda stream: None):
        meeting = Meeting(tmp_path / "yamux.sock", Owner(serve), role)
        server = await asyncio.get_running_loop().create_unix_server(meeting.accept, meeting.path)
        links = []

        async def link_of_peer():
            links.append(await meeting.links.get())
            return links[-1]

        try:
            yield meeting.path, link_of_peer
        finally:
            server.close()
            for link in links:
                link.abort()
                await link.closed
            await server.wait_closed()

    return opened
