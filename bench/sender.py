"""Load through the link door: `python -m bench.sender RELAY_URL CREDENTIALS_FILE CALLS_AT_ONCE SECONDS`.

Keeps that many small calls to the first node in flight on one link, and prints the number of calls made, the seconds,
and the median and 99th percentile in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from bench.credentials import load_nodes
from certs.tls import client_context
from trunkline.channel.dialing import DialPlan, dial_link
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link, LinkStream, StreamHandler
from trunkline.channel.session import Role
from trunkline.runtime.loop import run


class Load:
    """All calls of a run; each that ends begins the next."""

    def __init__(self, link: Link, request: bytes, deadline: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.link = link
        self.request = request
        self.deadline = deadline
        self.seconds: list[float] = []
        self.failures = 0
        self.first_failure = ""
        self.running = 0
        """Calls that are in flight, or about to be."""
        self.done: asyncio.Future[None] = self.loop.create_future()

    def begin(self) -> None:
        """Make one call."""
        Call(self)

    def ended(self, seconds: float, failure: str) -> None:
        """Count a call, which succeeded if `failure` is empty, and make the next."""
        self.seconds.append(seconds)
        if failure:
            self.failures += 1
            self.first_failure = self.first_failure or failure
        if self.loop.time() < self.deadline:
            self.loop.call_soon(self.begin)
            return
        self.running -= 1
        if not self.running:
            self.done.set_result(None)


class Call:
    """One call."""

    __slots__ = ("_began", "_load", "_received", "_stream")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._began = load.loop.time()
        self._stream = load.link.open(self)
        self._stream.write(load.request)

    def data_received(self, data: bytes | memoryview) -> None:
        """Collect the answer."""
        self._stream.consumed(len(data))
        self._received += data

    def end_received(self) -> None:
        """The answer is whole."""
        self._stream.end()
        failure = "" if self._received.startswith(b"HTTP/1.1 200 ") else repr(self._received[:500])
        self._load.ended(self._load.loop.time() - self._began, failure)

    def window_opened(self) -> None:
        """Requests are small."""

    def stream_lost(self, error: ChannelError) -> None:
        """The call failed."""
        self._load.ended(self._load.loop.time() - self._began, str(error))


class Owner:
    """Owns the link; a relay opens no streams towards a sender."""

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        """Refuse it."""
        return None

    def go_away_received(self, link: Link, code: int) -> None:
        """Nothing."""

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """The calls have been told."""


async def send(url: str, credentials: Path, at_once: int, seconds: float) -> None:
    """Run the load and print what came of it."""
    roots, nodes = load_nodes(credentials)
    node = nodes[0]
    plan = DialPlan(url, client_context(ca_file=roots), node.call_token)
    link = await dial_link(plan, role=Role.CLIENT, owner=Owner())
    head = f"GET /small HTTP/1.1\r\nHost: {node.host}\r\nConnection: close"
    head += f"\r\nProxy-Authorization: Bearer {node.call_token}\r\n\r\n"
    began = asyncio.get_running_loop().time()
    load = Load(link, head.encode(), began + seconds)
    load.running = at_once
    for _ in range(at_once):
        load.begin()
    await load.done
    taken = asyncio.get_running_loop().time() - began
    link.close()
    await link.closed
    ordered = sorted(load.seconds)
    result = {
        "calls": len(ordered),
        "failures": load.failures,
        "first_failure": load.first_failure,
        "seconds": taken,
        "p50": ordered[len(ordered) // 2] * 1e3,
        "p99": ordered[len(ordered) * 99 // 100] * 1e3,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    run(lambda: send(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
