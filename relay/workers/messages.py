"""The channel between the parent and a worker: messages as JSON, each behind its length in four bytes.

Both ends are the same program, and nobody else has one: what breaks the form is a mistake of our own, and ends the
channel. A message has a `type`, and members by name.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, cast

_LENGTH: Final = struct.Struct("!I")
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
OTHER_RELEASE_STATUS: Final = 76
"""The exit status of a worker that is of another release than its parent, installed since that was started."""
MAX_UNSENT_BYTES: Final = 256 * 1024 * 1024
"""What may wait for an end that does not read; beyond that the channel is given up."""


class Channel(asyncio.Protocol):
    """One end. `take` gets each message, its type and its members; `lost` is called once, at the end.

    What `take` lets out ends the channel, as it does with any asyncio protocol.
    """

    def __init__(self, take: Callable[[str, dict[str, Any]], None], lost: Callable[[], None]) -> None:
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()
        self._buffer = bytearray()

    def send(self, kind: str, **members: Any) -> None:
        """Send a message; to an end that is gone, or takes nothing, it is dropped."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        body = json.dumps({"type": kind, **members}, separators=(",", ":")).encode()
        transport.write(_LENGTH.pack(len(body)) + body)
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            transport.abort()

    @staticmethod
    def read_first(sock: socket.socket) -> dict[str, Any]:
        """Wait for the first message on a socket that blocks, and return its members.

        Raises:
            EOFError: the other end is gone.
        """
        (size,) = _LENGTH.unpack(_read_whole(sock, _LENGTH.size))
        message: dict[str, Any] = json.loads(_read_whole(sock, size))
        return message

    async def flush(self, timeout_seconds: float) -> None:
        """Close, once what waits is sent."""
        if self._transport is not None:
            self._transport.close()
            async with asyncio.timeout(timeout_seconds):
                await self._gone.wait()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and hand on the messages that are whole."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > MAX_MESSAGE_BYTES:
                self.close()
                return
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            message = json.loads(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
            self._take(message.pop("type"), message)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        self._transport = None
        self._gone.set()
        self._lost()


def _read_whole(sock: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = sock.recv(size - len(content))
        if not piece:
            raise EOFError("the parent is gone")
        content += piece
    return content
