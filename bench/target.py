"""What is attacked, and called meanwhile: a relay's port, and a node behind it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from bench.credentials import NodeCredentials
from certs.tls import TlsContext

CONNECT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """A relay on this machine, and a node that it reaches; `source` is the address that connections come from."""

    port: int
    context: TlsContext
    node: NodeCredentials
    source: str = "127.0.0.1"

    def request(self, method: str, path: str, *fields: str) -> bytes:
        """The head of a request at the gateway door."""
        lines = [
            f"{method} {self.node.gateway}{path} HTTP/1.1",
            f"Host: localhost:{self.port}",
            f"Authorization: Bearer {self.node.call_token}",
            *fields,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def connect(
        self, *, tls: bool = True, receive_bytes: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; with `receive_bytes`, one whose kernel takes only so much that is not read."""
        connection = socket.socket()
        try:
            if receive_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.bind((self.source, 0))
            connection.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
                options = {"ssl": self.context, "server_hostname": "localhost"} if tls else {}
                return await asyncio.open_connection(sock=connection, limit=1024, **options)  # type: ignore[arg-type]
        except BaseException:
            connection.close()
            raise
