"""A TCP forwarder in user space for tests that need a bad network: delay, stall, cut, and count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class TcpForwarder:
    """Forwards connections from a port of its own to `host:port`.

    `delay_seconds` holds every piece back in each direction; `stall` stops forwarding while connections stay up (what a
    dead path looks like), or with `answers` only what comes back; `cut` resets all connections; `refuse` makes new ones
    end at once.
    """

    def __init__(self, host: str, port: int, *, delay_seconds: float = 0.0) -> None:
        self.host = host
        self.target_port = port
        self.delay_seconds = delay_seconds
        self.refuse = False
        self.port = 0
        self.accepted = 0
        self.forwarded_bytes = 0
        self.joined = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stall(self, *, answers: bool = False) -> None:
        (self._answering if answers else self._flowing).clear()

    @property
    def stalled(self) -> bool:
        return not (self._flowing.is_set() and self._answering.is_set())

    def resume(self) -> None:
        self._flowing.set()
        self._answering.set()

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        try:
            if not self.refuse:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self.host, self.target_port)
        self._writers.add(far_writer)
        self.joined.set()
        try:
            await _together(self._pump(reader, far_writer), self._pump(far_reader, writer, self._answering))
        finally:
            self._writers.discard(far_writer)
            far_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event | None = None
    ) -> None:
        """Read and write apart, so that a delay adds latency and does not lower the throughput."""
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)

        async def read() -> None:
            data = b"-"
            while data:
                data = await reader.read(65_536)
                await held.put((loop.time() + self.delay_seconds, data))

        async def write() -> None:
            while True:
                due, data = await held.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._flowing.wait()
                if flowing is not None:
                    await flowing.wait()
                if not data:
                    writer.write_eof()
                    return
                self.forwarded_bytes += len(data)
                writer.write(data)
                await writer.drain()

        await _together(read(), write())


async def _together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run both; the first failure ends the other, and nothing is left running."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def tcp_forwarder(host: str, port: int, *, delay_seconds: float = 0.0) -> AsyncIterator[TcpForwarder]:
    """A running forwarder to `host:port`, stopped at the end."""
    forwarder = TcpForwarder(host, port, delay_seconds=delay_seconds)
    await forwarder.start()
    try:
        yield forwarder
    finally:
        await forwarder.stop()
