"""Nodes for the soak of mix-ups: `python -m bench.canary_nodes RELAY_URL CREDENTIALS_FILE`; prints `up` once attached.

Honest ones answer each request with its canary and their name, in one piece or in chunks. Those of `MALICIOUS` answer
what they like, with their name and a foreign canary in it.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
from pathlib import Path

from bench.credentials import NodeCredentials, load_nodes
from bench.listener import Listener
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import LinkStream, StreamHandler
from trunkline.runtime.loop import run

MALICIOUS = frozenset({"vm-1"})
REPEATS = (*[1] * 20, 30, 600)
_CANARY = re.compile(rb"canary-\w+-\d{9}")


def honest(name: bytes, head: bytes, rng: random.Random) -> bytes:
    """The canary, once or often."""
    found = _CANARY.search(head)
    content = b"<%b of %b>" % (found[0] if found else b"none", name) * rng.choice(REPEATS)
    if rng.random() < 0.7:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    middle = len(content) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:middle], content[middle:]))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"


def malicious(name: bytes, rng: random.Random) -> bytes:
    """Something that would reach somebody else, were it not for the relay; empty for a reset."""
    poison = b"<canary-first-000000001 of %b>" % name
    good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(poison) + poison
    return rng.choice(
        (
            good,
            good * 3,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + poison,
            b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + poison,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + good,
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 900\r\n\r\n" + poison * 20,
            b"HTTP/1.1 204 No Content\r\n\r\n" + good,
            b"HTTP/1.1 100 Continue\r\n\r\n" + good,
            b"",
        )
    )


class Answer:
    """Answers one stream once its head is there; a malicious one at once."""

    __slots__ = ("_name", "_received", "_rng", "_stream", "_unsent")

    def __init__(self, stream: LinkStream, name: bytes, rng: random.Random) -> None:
        self._stream = stream
        self._name = name
        self._rng = rng
        self._received = b""
        self._unsent: bytes | None = None

    def data_received(self, data: bytes | memoryview) -> None:
        """Take the request in."""
        self._stream.consumed(len(data))
        self._received += data
        is_malicious = self._name.rpartition(b"/")[2].decode() in MALICIOUS
        if self._unsent is not None or not (is_malicious or self._received.endswith(b"\r\n\r\n")):
            return
        self._unsent = (
            malicious(self._name, self._rng) if is_malicious else honest(self._name, self._received, self._rng)
        )
        if self._unsent:
            self.window_opened()
        else:
            self._stream.reset()

    def window_opened(self) -> None:
        """Send as much as there is room for."""
        while self._unsent and (room := self._stream.send_room_bytes):
            piece, self._unsent = self._unsent[:room], self._unsent[room:]
            self._stream.write(piece, end=not self._unsent)

    def end_received(self) -> None:
        """The relay is done with it."""

    def stream_lost(self, error: ChannelError) -> None:
        """The caller has gone."""
        self._unsent = b""


class CanaryNode(Listener):
    """One node, its link kept."""

    def __init__(self, url: str, node: NodeCredentials, roots: Path, turns: asyncio.Semaphore) -> None:
        super().__init__(url, node, roots, turns)
        self._name = f"{node.workspace}/{node.name}".encode()
        self._rng = random.Random(self._name)

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        """Answer it."""
        return Answer(stream, self._name, self._rng)


async def serve(url: str, credentials: Path) -> None:
    """Keep a link for each node."""
    roots, nodes = load_nodes(credentials)
    turns = asyncio.Semaphore(len(nodes))
    ups = [asyncio.Event() for _ in nodes]
    async with asyncio.TaskGroup() as tasks:
        for node, up in zip(nodes, ups, strict=True):
            tasks.create_task(CanaryNode(url, node, roots, turns).keep(up))
        for up in ups:
            await up.wait()
        print("up", flush=True)


if __name__ == "__main__":
    run(lambda: serve(sys.argv[1], Path(sys.argv[2])))
