"""A link's bytes inside a WebSocket: an asyncio transport between the TLS transport and the link.

The link writes to it and is fed by it as by any other transport, and knows nothing of frames. Each write becomes one
binary message (RFC 6455); message boundaries mean nothing, the mux brings its own, and so payload is passed on as it
comes (`websocket_payload`). What is sent, and what answers control frames, is of the `websockets` core. Text messages,
oversized messages and every breach of the RFC end the connection with the close code that belongs to it. Closing sends
a close frame and then closes what is below, without waiting for the echo: what has to be finished is finished by the
mux before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

from websockets.frames import CloseCode
from websockets.protocol import Protocol, Side, State

from trunkline.channel.errors import RemoteProtocolError
from trunkline.channel.unsent import unsent_bytes
from trunkline.channel.websocket_payload import PayloadReader

LARGEST_MESSAGE_BYTES: Final = 1_048_576
LARGEST_WRITE_BYTES: Final = 262_144
# A peer that sends pings and reads nothing is cut when this much of the answers waits.
LARGEST_UNREAD_BYTES: Final = 65_536


class WebSocketTransport(asyncio.Transport):
    """The transport of a link whose upgrade to a WebSocket has just been granted.

    Construct it, hand it to the link, then call `start` with the bytes that came behind the upgrade's head.

    Args:
        transport: the TLS transport below; its protocol is replaced.
        side: which end of the WebSocket this is; the client masks.
    """

    def __init__(self, transport: asyncio.Transport, side: Side) -> None:
        super().__init__()
        self._below = transport
        self._core = Protocol(side, state=State.OPEN)
        self._reader = PayloadReader(masked=side is Side.SERVER, largest_message_bytes=LARGEST_MESSAGE_BYTES)
        self._protocol: asyncio.Protocol = asyncio.Protocol()
        self._lost = False
        self._closing = False
        self._write_paused = False
        self._unread_bytes = 0

    def start(self, leftover: bytes = b"") -> None:
        """Take the transport below over, and read what was received beyond the upgrade's head."""
        self._below.set_protocol(_Below(self))
        if leftover:
            self.received(leftover)

    # What is below calls these.

    def received(self, data: bytes) -> None:
        """Bytes from below."""
        if self._lost or self._reader.over:
            return
        payload = self._reader.receive_data(data)
        self._take_controls()
        self._answer()
        if payload:
            self._protocol.data_received(payload)
        if self._core.close_expected():
            self._end()

    def received_eof(self) -> None:
        """The peer ended the connection below; a WebSocket has no half-close, so it is over."""
        self._core.receive_eof()
        self._end()

    def lost(self, error: Exception | None) -> None:
        """The connection below is gone."""
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(self._core.parser_exc if error is None else error)

    def write_paused(self) -> None:
        """Too much waits to be sent below."""
        self._write_paused = True
        self._protocol.pause_writing()

    def write_resumed(self) -> None:
        """What is below takes more."""
        self._write_paused = False
        self._unread_bytes = 0
        self._protocol.resume_writing()

    # The link calls these.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes as binary messages of at most 256 KiB; dropped once either side has said goodbye."""
        if self._closing or self._lost or self._core.state is not State.OPEN:
            return
        view = memoryview(data)
        for start in range(0, len(view), LARGEST_WRITE_BYTES):
            self._core.send_binary(view[start : start + LARGEST_WRITE_BYTES])
        self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send pieces that belong together in one message."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Say goodbye with a close frame and close what is below once everything is written."""
        if self._closing or self._lost:
            return
        if self._core.state is State.OPEN:
            self._core.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        self._end()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing or self._lost or self._below.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Name who receives the bytes."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who receives the bytes."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport below knows: addresses, the peer's certificate."""
        return self._below.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading below; what was read already still arrives."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._below.resume_reading()

    def is_reading(self) -> bool:
        """Whether the transport below is being read."""
        return self._below.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when writing pauses, in bytes that wait below."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait below."""
        return self._below.get_write_buffer_size()

    def get_local_write_buffer_size(self) -> int:
        """Bytes that wait below, those that are encrypted already among them; see `unsent_bytes`."""
        return unsent_bytes(self._below)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high mark at which writing resumes and pauses."""
        return self._below.get_write_buffer_limits()

    def can_write_eof(self) -> bool:
        """A WebSocket has no half-close."""
        return False

    def _take_controls(self) -> None:
        """Have the core answer control frames, and a breach of the protocol."""
        core = self._core
        for frame in self._reader.take_controls():
            core.receive_data(frame)
        core.events_received()  # nobody asks for them
        breach = self._reader.breach
        if breach is not None and core.state is State.OPEN:
            core.parser_exc = RemoteProtocolError(f"the peer broke the WebSocket: {breach}")
            core.fail(breach.code, str(breach))

    def _answer(self) -> None:
        """Send what the core answers to control frames, unless the peer never reads it."""
        sent_bytes = self._flush()
        if self._write_paused:
            self._unread_bytes += sent_bytes
        if self._unread_bytes > LARGEST_UNREAD_BYTES:
            self._core.parser_exc = RemoteProtocolError("the peer pings and does not read the answers")
            self.abort()

    def _flush(self) -> int:
        # The core's mark for a half-close is an empty piece; the transport is closed whole instead.
        pieces = [piece for piece in self._core.data_to_send() if piece]
        if not pieces or self._below.is_closing():
            return 0
        self._below.writelines(pieces)
        return sum(map(len, pieces))

    def _end(self) -> None:
        self._closing = True
        self._below.close()


class _Below(asyncio.Protocol):
    """Receives what comes from the TLS transport and passes it up."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.received(data)

    def eof_received(self) -> bool:
        self._transport.received_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.lost(exc)

    def pause_writing(self) -> None:
        self._transport.write_paused()

    def resume_writing(self) -> None:
        self._transport.write_resumed()
