"""An HTTP proxy that knows CONNECT, for tests: plain or under TLS, open or with Basic authentication."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class HttpProxy:
    """What the proxy does and has seen. It connects to loopback whatever host it is asked for.

    One that is `silent` takes requests, and answers none.
    """

    authorization: str | None = None
    answer: bytes | None = None
    silent: bool = False
    port: int = 0
    requests: list[list[str]] = field(default_factory=list)
    _serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)
        far_writer = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            self.requests.append(head)
            if self.silent:
                await reader.read()
                return
            answer = self.answer or self._decide(head)
            writer.write(answer)
            if answer.startswith(b"HTTP/1.1 200"):
                port = int(head[0].split()[1].rpartition(":")[2])
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.wait(
                    [
                        asyncio.ensure_future(_pump(reader, far_writer)),
                        asyncio.ensure_future(_pump(far_reader, writer)),
                    ]
                )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for side in (writer, far_writer):
                if side is not None:
                    side.close()

    async def close(self) -> None:
        """Cut what is open, and wait for its end."""
        for writer in self._serving.values():
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(list(self._serving))

    def _decide(self, head: list[str]) -> bytes:
        if self.authorization is not None and f"Proxy-Authorization: {self.authorization}" not in head:
            return b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
        return b"HTTP/1.1 200 Connection established\r\n\r\n"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def http_proxy(
    context: ssl.SSLContext | None = None,
    **behaviour: object,
) -> AsyncIterator[HttpProxy]:
    """A running proxy; `behaviour` sets fields of `HttpProxy`."""
    proxy = HttpProxy(**behaviour)  # type: ignore[arg-type]
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
