"""Listeners that answer from memory: `python -m bench.listener RELAY_URL CREDENTIALS_FILE [TIMES_FILE]`, a link a node.

It prints `up` once every link has come up, and dials again, with the agents' own back-off, when one is lost. To the
file of times it adds a line for each link that comes up: monotonic seconds, and the node.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from bench.answers import BLOCK, HEAD_END, Request
from bench.credentials import NodeCredentials, load_nodes
from certs.identities import Identity
from certs.tls import client_context
from trunkline.channel.dialing import DialPlan, dial
from trunkline.channel.errors import ChannelError
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, LinkStream, StreamHandler
from trunkline.channel.session import Role
from trunkline.channel.terms import LinkTerms
from trunkline.channel.upgrade_protocol import CutBeforeTls
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.loop import run

DIALS_AT_ONCE = 32


class Answer:
    """Answers one stream."""

    __slots__ = ("_left", "_received", "_request", "_stream")

    def __init__(self, stream: LinkStream) -> None:
        self._stream = stream
        self._received = b""
        self._request: Request | None = None
        self._left = 0

    def data_received(self, data: bytes | memoryview) -> None:
        """Take the request in; credit goes back at once."""
        self._stream.consumed(len(data))
        request = self._request
        if request is None:
            self._received += data
            end = self._received.find(HEAD_END)
            if end < 0:
                return
            end += len(HEAD_END)
            self._request = request = Request(self._received[:end])
            data = self._received[end:]
        if request.ended_by(data):
            self._left = request.bulk_bytes
            self._stream.write(request.answer(close=True), end=not self._left)
            self.window_opened()

    def window_opened(self) -> None:
        """Send as much of the bulk as there is room for."""
        stream = self._stream
        while self._left and (room := stream.send_room_bytes):
            size = min(self._left, len(BLOCK), room)
            self._left -= size
            stream.write(BLOCK if size == len(BLOCK) else BLOCK[:size], end=not self._left)

    def end_received(self) -> None:
        """The relay is done with the stream."""

    def stream_lost(self, error: ChannelError) -> None:
        """The caller has gone."""
        self._left = 0


class Listener:
    """One node's link, kept."""

    def __init__(
        self, url: str, node: NodeCredentials, roots: Path, turns: asyncio.Semaphore, times: TextIO | None = None
    ) -> None:
        self._url = url
        self._node = node
        self._context: ssl.SSLContext = client_context(
            ca_file=roots, identity=Identity.from_pem(node.identity.encode())
        )
        self._turns = turns
        self._times = times
        self._return_within_seconds = 0
        self._instance = uuid.uuid4()
        self._sequence = 0
        self._backoff = Backoff(random.SystemRandom())
        self._link: Link | None = None

    async def keep(self, up: asyncio.Event) -> None:
        """Dial, the first time in turn, wait for the loss, and dial again, for ever."""
        async with self._turns:
            link = await self._back()
        while True:
            up.set()
            await link.closed
            await self._pause()
            link = await self._back()

    async def _back(self) -> Link:
        while True:
            try:
                link = await self._dial()
            except ChannelError as error:
                await self._pause(crowded=isinstance(error, CutBeforeTls))
                continue
            if self._times is not None:
                self._times.write(f"{time.monotonic()} {self._node.name}\n")
                self._times.flush()
            self._backoff.reset()
            return link

    async def _pause(self, *, crowded: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        spread = self._return_within_seconds
        await asyncio.sleep(self._backoff.next_delay_seconds(now, spread_seconds=spread, crowded=crowded))

    async def _dial(self) -> Link:
        self._sequence += 1
        plan = DialPlan(
            self._url,
            self._context,
            token=self._node.listen_token,
            instance=self._instance,
            sequence=self._sequence,
        )
        return await dial(plan, self._make_link)

    def _make_link(self, agreed: LinkTerms) -> Link:
        self._return_within_seconds = agreed.return_within_seconds
        window_bytes = agreed.initial_window_bytes
        return Link(
            Role.SERVER,
            self,
            loop=asyncio.get_running_loop(),
            limits=replace(Limits(), initial_window_bytes=window_bytes),
            send_window_bytes=window_bytes,
            compact=agreed.compact,
        )

    # What the link calls.

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        """Answer it."""
        return Answer(stream)

    def go_away_received(self, link: Link, code: int) -> None:
        """Nothing: the link is kept until it is lost."""

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """`keep` sees to it."""


async def listen(url: str, credentials: Path, times: TextIO | None = None) -> None:
    """Keep a link for each node."""
    roots, nodes = load_nodes(credentials)
    turns = asyncio.Semaphore(DIALS_AT_ONCE)
    ups = [asyncio.Event() for _ in nodes]
    async with asyncio.TaskGroup() as tasks:
        for node, up in zip(nodes, ups, strict=True):
            tasks.create_task(Listener(url, node, roots, turns, times).keep(up))
        for up in ups:
            await up.wait()
        print("up", flush=True)


if __name__ == "__main__":
    times_file = Path(sys.argv[3]).open("a") if len(sys.argv) > 3 else None  # noqa: SIM115 - to the process's end
    run(lambda: listen(sys.argv[1], Path(sys.argv[2]), times_file))
