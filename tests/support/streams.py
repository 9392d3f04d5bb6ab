"""Many raw streams to a port of a node under one token, each watched for its end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from certs.tls import client_context
from tests.support.sandboxes import Sandbox
from trunkline.client.node_sender import NodeSender

OPENED_AT_ONCE = 50
WORD = b"alive\n"


class Streams:
    """Open streams; `ended_at` has the monotonic time of each end."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._watching: list[asyncio.Task[None]] = []

    async def open(self, sender: NodeSender, host: str, port: int, token: str, count: int) -> None:
        """Open so many, and see that each of them echoes."""
        room = asyncio.Semaphore(OPENED_AT_ONCE)

        async def one() -> None:
            async with room:
                reader, writer = await sender.open_connection(host, port, token=token, timeout_seconds=60)
                writer.write(WORD)
                assert await reader.readexactly(len(WORD)) == WORD
            self._streams.append((reader, writer))

        await asyncio.gather(*(one() for _ in range(count)))

    def watch(self) -> None:
        """Note from now on when each of them ends."""
        self._watching = [asyncio.ensure_future(self._await_end(reader)) for reader, _ in self._streams]

    async def all_ended(self, timeout_seconds: float) -> None:
        async with asyncio.timeout(timeout_seconds):
            await asyncio.gather(*self._watching)

    async def echoing(self) -> int:
        """How many of them still carry bytes both ways; not for streams that are watched."""

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            try:
                writer.write(WORD)
                async with asyncio.timeout(30):
                    return await reader.readexactly(len(WORD)) == WORD
            except (OSError, EOFError):
                return False

        return sum(await asyncio.gather(*(one(*stream) for stream in self._streams)))

    async def close(self) -> None:
        for task in self._watching:
            task.cancel()
        for _, writer in self._streams:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _await_end(self, reader: asyncio.StreamReader) -> None:
        try:
            await reader.read()
        except OSError:
            pass
        finally:
            self.ended_at.append(time.monotonic())


@asynccontextmanager
async def open_streams(sandbox: Sandbox, token: dict[str, str], port: int, count: int) -> AsyncIterator[Streams]:
    """So many streams to a node's port, over a link that stands on the same token."""
    description, streams = sandbox.description, Streams()
    context = client_context(ca_file=Path(description["ca_file"]))
    async with NodeSender(description["relay_url"], ssl_context=context) as sender:
        await streams.open(sender, token["host"], port, token["token"], count)
        try:
            yield streams
        finally:
            await streams.close()
