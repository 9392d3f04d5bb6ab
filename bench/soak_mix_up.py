"""A canary in each of a million calls: `python -m bench.soak_mix_up`, or `make soak-mix-up`; some five minutes.

Two workspaces behind one relay, the real daemon. In each a node that answers with the canary of the request and its own
name, and a node that answers what it likes: too much, too little, twice, malformed, for somebody else. Calls go through
senders' links and kept-alive connections, and one in ten is given up before its end. Every byte that comes back is
looked at: an honest node's answer holds the canary of its own call and no other, and nobody's answer holds the name of
a node that was not called. Prints what was called and seen; exits 1 at the first mix-up.
"""

import argparse
import asyncio
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.build import Build
from bench.canary_nodes import MALICIOUS
from bench.credentials import Credentials, NodeCredentials
from bench.machine import LOAD_CORE, pin, pinned
from bench.relay import Relay, running_relay
from bench.sender import Owner
from bench.target import Target
from trunkline.channel.dialing import DialPlan, dial_link
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link
from trunkline.channel.session import Role
from trunkline.runtime.loop import run

WORKSPACES = "first", "second"
LINKS_A_WORKSPACE = 2
CALLERS = 64
GIVEN_UP = 0.1
CALL_SECONDS = 20.0
PROGRESS_CALLS = 100_000
CANARY = re.compile(rb"canary-\w+-\d{9}")
MARK = re.compile(rb" of ([\w/-]+)>")


class MixUp(Exception):  # noqa: N818 - what is looked for
    """Bytes of another call, or of another node."""


@dataclass
class Seen:
    """What was called, and what came of it."""

    calls: int = 0
    looked_at: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def look(self, node: NodeCredentials, canary: bytes, received: bytes) -> None:
        """Look at all that came back of one call.

        Raises:
            MixUp: it is not all of that call.
        """
        self.calls += 1
        self.looked_at += len(received)
        name = f"{node.workspace}/{node.name}".encode()
        if not set(MARK.findall(received)) <= {name}:
            raise MixUp(f"{canary!r} of {name!r} got bytes of another node: {received[-400:]!r}")
        if node.name not in MALICIOUS and not set(CANARY.findall(received)) <= {canary}:
            raise MixUp(f"{canary!r} got bytes of another call: {received[-400:]!r}")


class Call:
    """One call on a link; `done` is when it has ended, or was given up."""

    def __init__(self, link: Link, request: bytes) -> None:
        self.received = bytearray()
        self.done = asyncio.get_running_loop().create_future()
        self.stream = link.open(self)
        self.stream.write(request)

    def data_received(self, data: bytes | memoryview) -> None:
        """Keep it."""
        self.stream.consumed(len(data))
        self.received += data

    def end_received(self) -> None:
        """The answer is whole."""
        self.stream.end()
        self._end("answered")

    def window_opened(self) -> None:
        """Requests are small."""

    def stream_lost(self, error: ChannelError) -> None:
        """The relay has cut it."""
        self._end("cut")

    def give_up(self) -> None:
        """Cancel it."""
        self.stream.reset()
        self._end("given up")

    def _end(self, how: str) -> None:
        if not self.done.done():
            self.done.set_result(how)


class Callers:
    """Everybody who calls; each takes the next number until there is none left."""

    def __init__(self, relay: Relay, credentials: Credentials, nodes: list[NodeCredentials], calls: int) -> None:
        self._relay = relay
        self._context = credentials.client_context()
        self._nodes = nodes
        self._numbers = iter(range(calls))
        self._rng = random.Random(1)
        self._links: dict[str, list[Link]] = {}
        self.seen = Seen()

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[None]:
        """With links of each workspace, which carry the calls of many."""
        for workspace in WORKSPACES:
            token = next(node.call_token for node in self._nodes if node.workspace == workspace)
            self._links[workspace] = [await self._dial(token) for _ in range(LINKS_A_WORKSPACE)]
        try:
            yield
        finally:
            for link in itertools.chain(*self._links.values()):
                link.abort()

    async def _dial(self, token: str) -> Link:
        plan = DialPlan(self._relay.url, self._context, token)
        return await dial_link(plan, role=Role.CLIENT, owner=Owner())

    async def by_link(self) -> None:
        """Call through the link door."""
        for number in self._numbers:
            node, canary = self._next(number)
            head = f"GET /{canary.decode()} HTTP/1.1\r\nHost: {node.host}\r\nConnection: close"
            request = f"{head}\r\nProxy-Authorization: Bearer {node.call_token}\r\n\r\n".encode()
            call = Call(self._rng.choice(self._links[node.workspace]), request)
            if self._rng.random() < GIVEN_UP:
                await asyncio.sleep(self._rng.choice((0, 0.001)))
                call.give_up()
            async with asyncio.timeout(CALL_SECONDS):
                self._count(await call.done)
            self.seen.look(node, canary, bytes(call.received))

    async def by_connection(self) -> None:
        """Call through the gateway, on a connection that is kept for as long as it lasts."""
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        for number in self._numbers:
            node, canary = self._next(number)
            target = Target(self._relay.port, self._context, node)
            if reader is None or writer is None:
                reader, writer = await target.connect()
            writer.write(target.request("GET", f"/{canary.decode()}"))
            if self._rng.random() < GIVEN_UP / 10:  # each costs a new connection
                received, kept = await _some(reader), False
            else:
                async with asyncio.timeout(CALL_SECONDS):
                    received, kept = await _answer(reader)
            self._count("answered" if kept else "broken off")
            self.seen.look(node, canary, received)
            if not kept:
                writer.transport.abort()
                reader = writer = None
        if writer is not None:
            writer.transport.abort()

    def _next(self, number: int) -> tuple[NodeCredentials, bytes]:
        node = self._rng.choice(self._nodes)
        return node, b"canary-%b-%09d" % (node.workspace.encode(), number)

    def _count(self, outcome: str) -> None:
        self.seen.outcomes[outcome] += 1
        if self.seen.calls % PROGRESS_CALLS == PROGRESS_CALLS - 1:
            print(f"{self.seen.calls + 1} calls", flush=True)


async def _some(reader: asyncio.StreamReader) -> bytes:
    """What has come within a moment."""
    try:
        async with asyncio.timeout(0.001):
            return await reader.read(65_536)
    except TimeoutError:
        return b""


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """All bytes of the answer, and whether the connection may be used again."""
    received = b""
    try:
        fields = b"http/1.1 100 "
        while fields.startswith(b"http/1.1 100 "):
            received += (head := await reader.readuntil(b"\r\n\r\n"))
            fields = head.lower()
        if fields.startswith(b"http/1.1 204 "):
            pass
        elif b"content-length: " in fields:
            received += await reader.readexactly(int(fields.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        else:
            while (line := await reader.readline()) != b"0\r\n":
                received += line + await reader.readexactly(int(line, 16) + 2)
            await reader.readline()
    except asyncio.IncompleteReadError as error:
        return received + error.partial, False
    except (OSError, ValueError):
        return received, False
    return received, b"\r\nconnection: close\r\n" not in fields


@contextmanager
def canary_nodes(relay: Relay, nodes_file: Path) -> Iterator[None]:
    """The nodes, as a process of their own."""
    command = [sys.executable, "-m", "bench.canary_nodes", relay.url, str(nodes_file)]
    process = subprocess.Popen(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "up":
            raise RuntimeError("the nodes did not come up")
        yield
    finally:
        process.kill()
        process.communicate(timeout=10)


async def soak(calls: int, directory: Path) -> None:
    """Call, look, and print."""
    credentials = Credentials(directory / "credentials")
    nodes = [node for workspace in WORKSPACES for node in credentials.nodes(2, workspace)]
    nodes_file = credentials.write_nodes(nodes, "nodes.json")
    with running_relay(directory / "relay", credentials, build=Build.best()) as relay, canary_nodes(relay, nodes_file):
        callers = Callers(relay, credentials, nodes, calls)
        began = time.monotonic()
        async with callers.linked(), asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                tasks.create_task(callers.by_connection() if number % 4 == 0 else callers.by_link())
    seen = callers.seen
    print(f"{seen.calls} calls in {time.monotonic() - began:.0f} s, {seen.looked_at} bytes looked at: no mix-up")
    print(", ".join(f"{count} {outcome}" for outcome, count in seen.outcomes.most_common()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak_mix_up", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    arguments = parser.parse_args()
    pin(os.getpid(), LOAD_CORE)
    with tempfile.TemporaryDirectory(prefix="trunkline-mix-up-") as directory:
        run(lambda: soak(arguments.calls, Path(directory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
