"""A path that is long: a forwarder, as a process of its own, that holds every piece back in each direction.

`python -m bench.far TARGET_PORT DELAY_SECONDS` prints its port. As on a real path, no more can be under way at once
than TCP itself would have under way: the largest send buffer that the kernel gives a connection by itself.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine import LOAD_CORE, pinned
from trunkline.runtime.loop import run

DELAY_SECONDS = 0.1
LARGEST_SEND_BUFFER = Path("/proc/sys/net/ipv4/tcp_wmem")


class Half(asyncio.Protocol):
    """One side of a connection; what it receives is written on the other side, late."""

    def __init__(self, delay_seconds: float, capacity_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay_seconds = delay_seconds
        self._capacity_bytes = capacity_bytes
        self._under_way_bytes = 0
        self._early = b""
        self._reading = True
        self._transport: asyncio.Transport | None = None
        self.other: Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write what came before it was there."""
        self._transport = transport  # type: ignore[assignment]
        if self._early:
            self.arrive(self._early)

    def data_received(self, data: bytes) -> None:
        """Send it on its way."""
        self._under_way_bytes += len(data)
        self._loop.call_later(self._delay_seconds, self._deliver, bytes(data))
        self._look()

    def arrive(self, data: bytes) -> None:
        """Write what has come the long way."""
        if self._transport is None:
            self._early += data
        else:
            self._transport.write(data)

    def _deliver(self, data: bytes) -> None:
        if self.other is not None:
            self.other.arrive(data)
        # Until the acknowledgement has come back, a sender has to keep it.
        self._loop.call_later(self._delay_seconds, self._acknowledge, len(data))

    def _acknowledge(self, size: int) -> None:
        self._under_way_bytes -= size
        self._look()

    def _look(self) -> None:
        reading = self._under_way_bytes < self._capacity_bytes
        if self._transport is None or reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side learns of it as late as of everything."""
        self._loop.call_later(self._delay_seconds, self._close_other)

    def _close_other(self) -> None:
        if self.other is not None:
            self.other.close()

    def close(self) -> None:
        """Close this side, once all is written."""
        if self._transport is not None:
            self._transport.close()


async def forward(target_port: int, delay_seconds: float, capacity_bytes: int) -> None:
    """Forward for ever."""
    loop = asyncio.get_running_loop()
    dials: set[asyncio.Task[object]] = set()

    def accept() -> Half:
        near, far = Half(delay_seconds, capacity_bytes), Half(delay_seconds, capacity_bytes)
        near.other, far.other = far, near
        dial = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", target_port))
        dials.add(dial)
        dial.add_done_callback(dials.discard)
        return near

    server = await loop.create_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


@contextmanager
def far_away(target_port: int, delay_seconds: float = DELAY_SECONDS) -> Iterator[int]:
    """A port of this machine that stands for `target_port`, and is so far away each way."""
    command = [sys.executable, "-m", "bench.far", str(target_port), str(delay_seconds)]
    process = subprocess.Popen(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=10)


if __name__ == "__main__":
    largest_bytes = int(LARGEST_SEND_BUFFER.read_text().split()[2])
    run(lambda: forward(int(sys.argv[1]), float(sys.argv[2]), largest_bytes))
