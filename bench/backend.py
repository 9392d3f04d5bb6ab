"""The backend behind nginx: a TLS server that answers from memory. Run as `python -m bench.backend IDENTITY_FILE`.

It prints its port once it listens.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from bench.answers import BLOCK, HEAD_END, Request
from certs.identities import Identity
from certs.tls import ServerTls
from trunkline.runtime.loop import run


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._request: Request | None = None
        self._left = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take a request in, and answer it as soon as it is whole."""
        request = self._request
        if request is None:
            self._received += data
            end = self._received.find(HEAD_END)
            if end < 0:
                return
            end += len(HEAD_END)
            self._request = request = Request(self._received[:end])
            data, self._received = self._received[end:], b""
        if request.ended_by(data):
            self._request = None
            self._left = request.bulk_bytes
            self._transport.write(request.answer(close=False))
            self._write_bulk()

    def pause_writing(self) -> None:
        """The transport is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._paused = False
        self._write_bulk()

    def _write_bulk(self) -> None:
        while self._left and not self._paused:
            size = min(self._left, len(BLOCK))
            self._left -= size
            self._transport.write(BLOCK if size == len(BLOCK) else BLOCK[:size])


async def serve(identity: Identity) -> None:
    """Listen on a free port, and say which."""
    context = ServerTls(identity).context
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(lambda: serve(Identity.load(Path(sys.argv[1]))))
