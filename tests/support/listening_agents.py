"""The agent's end of a listener's link, over memory, as the relay's control side sees it."""

import asyncio
import json
from typing import Any

from tests.support.memory_transport import memory_pair
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import parse_request_head, parse_response_head
from trunkline.channel.link import Link, LinkOwner, LinkStream, Role, StreamHandler
from trunkline.channel.stream_transport import open_stream_pair


class ListeningAgent:
    """Owns the agent's side of a link: answers notices with `status` and keeps what they said."""

    def __init__(self, *, status: int = 204) -> None:
        self.status = status
        self.notices: list[dict[str, Any]] = []
        self.noticed = asyncio.Event()
        self.goodbyes = 0
        self.lost = asyncio.Event()
        self.link: Link
        self._tasks: set[asyncio.Task[None]] = set()

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        pair = open_stream_pair(stream)
        task = asyncio.get_running_loop().create_task(self._serve(*pair))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream.handler

    def go_away_received(self, link: Link, code: int) -> None:
        self.goodbyes += 1

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        self.lost.set()

    async def put_token(self, token: str, *, path: str = "/v1/token", host: str = "link.internal") -> int:
        """Renew the listen token over the link; returns the status of the answer."""
        return await self.request(
            f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(token)}\r\n\r\n{token}".encode()
        )

    async def request(self, request: bytes) -> int:
        """Send a control exchange as it stands; returns the status of the answer."""
        reader, writer = open_stream_pair(self.link.open())
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.read()
            return parse_response_head(head, request_method=b"PUT").status
        finally:
            writer.close()

    async def wait_for_notices(self, count: int) -> list[dict[str, Any]]:
        """Wait until there were so many notices, and return them."""
        while len(self.notices) < count:
            self.noticed.clear()
            await self.noticed.wait()
        return self.notices

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = parse_request_head(await reader.readuntil(b"\r\n\r\n"))
            assert (head.method, head.target, head.host) == (b"POST", b"/v1/notice", b"link.internal")
            self.notices.append(json.loads(await reader.readexactly(head.content_length)))
            if self.status:
                writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n" % self.status)
                writer.write_eof()
            self.noticed.set()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def join_links(owner: LinkOwner, agent: ListeningAgent, **options: Any) -> Link:
    """Connect a relay's link, owned by `owner`, with the agent's; returns the relay's."""
    loop = asyncio.get_running_loop()
    relay_end, agent_end = memory_pair(loop)
    options = {"keepalive_seconds": None, **options}
    link = Link(Role.CLIENT, owner, loop=loop, **options)
    agent.link = Link(Role.SERVER, agent, loop=loop, **options)
    relay_end.start(link)
    agent_end.start(agent.link)
    return link
