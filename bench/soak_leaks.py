"""A hundred thousand calls opened, cancelled and half-closed: `python -m bench.soak_leaks`, or `make soak-leaks`.

On links of senders to the real relay, in turn: a call that is answered, one that is reset as soon as it is opened, and
raw bytes that each side ends for itself. Prints descriptors, tasks, streams, held bytes and memory after the first
tenth and at the end; exits 1 if one of the counts has grown, the blocks of Python's objects by a fiftieth of the
cycles, or memory by more than four megabytes, which the allocator's pages may be. Some two minutes.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.build import Build
from bench.credentials import Credentials, NodeCredentials
from bench.machine import LOAD_CORE, pin, resident_kib
from bench.relay import Relay, listening, running_relay
from bench.relay_state import descriptors, metrics
from bench.sender import Owner
from certs.tls import TlsContext
from trunkline.channel.dialing import DialPlan, dial_link
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link
from trunkline.channel.session import Role
from trunkline.runtime.loop import run

LINKS = 8
GROWTH_KIB = 4096
GROWN_BLOCKS_A_CYCLE = 0.02
SETTLE_SECONDS = 8.0
RESETS_PER_SECOND = 400.0
"""On one link; 500 are the most that a relay takes for long."""
CYCLE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a relay has open, and holds."""

    descriptors: int
    tasks: int
    streams: int
    calls: int
    held_bytes: int
    blocks: int
    memory_kib: int

    @classmethod
    async def of(cls, relay: Relay) -> "Counts":
        """Look, once everything has settled."""
        await asyncio.sleep(SETTLE_SECONDS)
        numbers = await metrics(relay.admin_url)
        return cls(
            descriptors=descriptors(relay.pid),
            tasks=round(numbers["trunkline_relay_tasks"]),
            streams=round(numbers["trunkline_relay_streams_open"]),
            calls=round(numbers.get('trunkline_relay_calls_open{door="link"}', 0)),
            held_bytes=round(numbers["trunkline_relay_held_bytes"]),
            blocks=round(numbers["trunkline_python_allocated_blocks"]),
            memory_kib=resident_kib(relay.pid),
        )

    def no_more_than(self, before: "Counts", cycles: int) -> bool:
        """Whether nothing has grown over so many cycles, but blocks and memory by a little."""
        mine = self.descriptors, self.tasks, self.streams, self.calls, self.held_bytes
        theirs = before.descriptors, before.tasks, before.streams, before.calls, before.held_bytes
        return all(one <= other for one, other in zip(mine, theirs, strict=True)) and (
            self.blocks <= before.blocks + GROWN_BLOCKS_A_CYCLE * cycles
            and self.memory_kib <= before.memory_kib + GROWTH_KIB
        )


class Cycle:
    """One stream; `done` is when both sides have ended it."""

    def __init__(self, link: Link, request: bytes) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.stream = link.open(self)
        self.stream.write(request)

    def data_received(self, data: bytes | memoryview) -> None:
        """Take it."""
        self.stream.consumed(len(data))

    def end_received(self) -> None:
        """The relay has ended its side; this is the other one."""
        self.stream.end()
        self._end()

    def window_opened(self) -> None:
        """Requests are small."""

    def stream_lost(self, error: ChannelError) -> None:
        """It was cut."""
        self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def cycles(link: Link, node: NodeCredentials, count: int) -> None:
    """So many on one link, a third of each kind."""
    fields = f"Host: {node.host}\r\nConnection: close\r\nProxy-Authorization: Bearer {node.call_token}\r\n\r\n"
    get = f"GET /small HTTP/1.1\r\n{fields}".encode()
    connect = f"CONNECT {node.host}:80 HTTP/1.1\r\n{fields.replace(node.host, node.host + ':80')}".encode()
    began = time.monotonic()
    for number in range(count // 3):
        for request in (get, connect):
            async with asyncio.timeout(CYCLE_SECONDS):
                await Cycle(link, request).done
        Cycle(link, get).stream.reset()
        await asyncio.sleep(max(0.0, began + number / RESETS_PER_SECOND - time.monotonic()))


async def soak(count: int, directory: Path) -> bool:
    """Run it and print what there is before and after; returns whether nothing has grown."""
    credentials = Credentials(directory / "credentials")
    (node,) = credentials.nodes(1)
    nodes_file = credentials.write_nodes([node], "nodes.json")
    with (
        running_relay(directory / "relay", credentials, build=Build.best()) as relay,
        listening(relay, nodes_file, LOAD_CORE),
    ):
        links = [await _dial(relay, node, credentials.client_context()) for _ in range(LINKS)]
        await asyncio.gather(*(cycles(link, node, count // 10 // LINKS) for link in links))
        before = await Counts.of(relay)
        print(f"after {count // 10:>7}: {before}", flush=True)
        await asyncio.gather(*(cycles(link, node, count // LINKS) for link in links))
        after = await Counts.of(relay)
        print(f"after {count + count // 10:>7}: {after}")
        for link in links:
            link.abort()
    return after.no_more_than(before, count)


async def _dial(relay: Relay, node: NodeCredentials, context: TlsContext) -> Link:
    return await dial_link(DialPlan(relay.url, context, node.call_token), role=Role.CLIENT, owner=Owner())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak_leaks", description=__doc__)
    parser.add_argument("--cycles", type=int, default=100_000)
    arguments = parser.parse_args()
    pin(os.getpid(), LOAD_CORE)
    with tempfile.TemporaryDirectory(prefix="trunkline-leaks-") as directory:
        return 0 if run(lambda: soak(arguments.cycles, Path(directory))) else 1


if __name__ == "__main__":
    sys.exit(main())
