"""One forwarded exchange: a stream on one side, a connection to a service on the node's loopback on the other.

Theory of operation. Until the connection is there, what arrives is held back, and bounded by the stream's window since
no credit is granted. Then bytes go both ways, each direction on its own:

* caller to service: through `ServiceBody` (HTTP) or as they are (CONNECT, and an upgrade after the service's 101).
  While the service's transport is full, no credit is granted.
* service to caller: as they are, since the relay reads the response strictly. While the stream has no room the
  service's transport is not read; at most one read of it is held here.

The end: in raw mode each direction ends on its own. In HTTP mode the service's end is the end of the response, and the
caller's end means that it wants no more. Whoever breaks off is passed on as a reset, never as a clean end, so that
neither side takes a part for the whole.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Protocol, cast

from node_agent.exchanges.caller_output import CallerOutput
from node_agent.exchanges.refusing import write_refusal
from node_agent.exchanges.service_requests import ServiceBody, service_head
from node_agent.exchanges.unread import unread_pieces
from node_agent.exchanges.upgrade_answer import UpgradeAnswer
from trunkline.channel.bodies import BodyError
from trunkline.channel.closing import Closing, Patience
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import HeadError, RequestHead
from trunkline.channel.link import LinkStream

CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
# When a service's buffer is full, and when it has room again.
HIGH_BYTES = 64 * 1024
LOW_BYTES = 16 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger, socket(7): on, for 0 seconds


class ExchangeOwner(Protocol):
    """What is told of a forwarded exchange.

    Attributes:
        patience: with a service that has still to take the last of what the caller sent.
    """

    patience: Patience

    def progressed(self, exchange: "ForwardedExchange", *, waiting: bool) -> None:
        """Bytes have moved, or have begun to wait; `waiting` says whether some still wait for either side."""
        ...

    def passed(self, *, to_service: int = 0, from_service: int = 0) -> None:
        """Count bytes."""
        ...

    def ended(self, exchange: "ForwardedExchange", stream: LinkStream, *, peer_ended: bool) -> None:
        """Nothing more is done here; what still comes on the stream is unwanted. Called once."""
        ...


class ForwardedExchange:
    """The handler of the stream; `ServiceConnection` is its other side."""

    def __init__(self, stream: LinkStream, head: RequestHead, owner: ExchangeOwner) -> None:
        self._stream = stream
        self._head = head
        self._owner = owner
        self._raw = head.method == b"CONNECT"
        self._upgrade = UpgradeAnswer(head.method, head.upgrade) if head.upgrade is not None else None
        self._body = ServiceBody(head)
        self._output = CallerOutput(stream, self._output_changed)
        self._transport: asyncio.Transport | None = None
        self._closing: Closing | None = None
        self._held: list[bytes] = []
        self._uncredited_bytes = 0
        self._service_full = False
        self._caller_ended = False
        self._answered = False
        self._refused = False
        self._over = False

    # From the agent

    @property
    def is_stream(self) -> bool:
        """Whether bytes pass as they are."""
        return self._raw

    def refuse(self, status: int, error_code: str, message: str) -> None:
        """Answer in place of the service, unless it has begun to answer itself."""
        if not self._over and not self._answered:
            self._answered = self._refused = True
            self._raw = False
            self._output.write(write_refusal(status, error_code, message, head_only=self._head.method == b"HEAD"))
            self._end_output()

    def cut(self) -> None:
        """Break the exchange off at once, in both directions."""
        self._stream.reset()
        self._finish(abort=True)

    # From the stream

    def data_received(self, data: bytes | memoryview) -> None:
        """Take bytes of the caller."""
        if self._over or self._refused:
            self._stream.consumed(len(data))
        elif self._transport is None or self._upgrade is not None:
            self._held.append(bytes(data))
        else:
            self._to_service(self._transport, data)

    def end_received(self) -> None:
        """The caller sends no more."""
        self._caller_ended = True
        if not self._raw or self._output.ended:
            self._finish(abort=not self._raw)
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def window_opened(self) -> None:
        """There is room towards the caller."""
        self._output.drain()
        self._finish_if_ended()

    def stream_lost(self, error: ChannelError) -> None:
        """The caller is gone."""
        self._finish(abort=True)

    # From the connection to the service

    def connected(self, transport: asyncio.Transport) -> None:
        """The service is there: send it the request, and what was held back of it."""
        if self._over or self._refused:
            _break_off(transport)
            return
        self._transport = transport
        if self._raw:
            self._answered = True
            self._output.write(CONNECTED)
        else:
            transport.write(service_head(self._head))
        if self._upgrade is None:
            self._release_held(transport)

    def service_data(self, data: bytes) -> None:
        """Take bytes of the service."""
        if self._over or self._transport is None:
            return
        self._owner.passed(from_service=len(data))
        if self._upgrade is not None:
            self._read_upgrade_answer(self._upgrade, self._transport, data)
        else:
            self._answered = True
            self._output.write(data)

    def service_ended(self) -> bool:
        """The service sends no more; return whether it may still be sent to."""
        if not self._answered:
            self.refuse(502, "SERVICE_UNREACHABLE", "the service closed the connection without an answer")
        else:
            self._end_output()
        return self._raw and not self._over

    def service_lost(self, error: Exception | None) -> None:
        """The connection to the service is gone."""
        self._transport = None
        if self._closing is not None:
            self._closing.end()
        if not self._answered:
            self.refuse(502, "SERVICE_UNREACHABLE", "the service broke the connection off without an answer")
        elif not self._over and (error is not None or not self._output.ending):
            self.cut()

    def service_full(self, full: bool) -> None:
        """The service takes no more for now, or takes some again."""
        self._service_full = full
        if self._over:
            return  # what is still on its way to the service has been handed back
        if not full:
            self._stream.consumed(self._uncredited_bytes)
            self._uncredited_bytes = 0
        self._owner.progressed(self, waiting=full or self._output.waiting)

    # The two directions

    def _to_service(self, transport: asyncio.Transport, data: bytes | memoryview) -> None:
        try:
            pieces = [data] if self._raw else self._body.receive_data(data)
        except BodyError:
            self.cut()
            return
        for piece in pieces:
            transport.write(piece)
        self._owner.passed(to_service=len(data))
        if self._service_full:
            self._uncredited_bytes += len(data)
        else:
            self._stream.consumed(len(data))

    def _release_held(self, transport: asyncio.Transport) -> None:
        held, self._held = self._held, []
        for data in held:
            if not self._over:
                self._to_service(transport, data)
        if self._caller_ended and self._raw and not self._over:
            transport.write_eof()

    def _read_upgrade_answer(self, upgrade: UpgradeAnswer, transport: asyncio.Transport, data: bytes) -> None:
        try:
            passed = upgrade.receive_data(data)
        except HeadError:
            self.refuse(502, "BAD_SERVICE_RESPONSE", "the service's answer is not HTTP/1.1")
            return
        self._answered = self._answered or bool(passed)
        if upgrade.accepted is not None:
            self._upgrade = None
            self._raw = upgrade.accepted
            self._refused = not self._raw
        self._output.write(passed)
        if self._raw:
            self._release_held(transport)

    def _output_changed(self) -> None:
        """Read the service only while what it has sent before has gone on."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if self._output.waiting else self._transport.resume_reading)()
        self._owner.progressed(self, waiting=self._output.waiting or self._service_full)

    # The end

    def _end_output(self) -> None:
        self._output.end()
        self._finish_if_ended()

    def _finish_if_ended(self) -> None:
        if self._output.ended and (self._caller_ended or not self._raw):
            self._finish(abort=False)

    def _finish(self, *, abort: bool) -> None:
        if self._over:
            return
        self._over = True
        self._output.drop()
        self._stream.consumed(sum(map(len, self._held)) + self._uncredited_bytes)
        self._held.clear()
        if self._transport is not None:
            if abort:
                _break_off(self._transport)
            else:
                self._closing = Closing(self._transport, asyncio.get_running_loop(), self._owner.patience)
                self._closing.close()
        if self._stream.writable:
            self._stream.end()
        self._owner.ended(self, self._stream, peer_ended=self._caller_ended)


def _break_off(transport: asyncio.Transport) -> None:
    """End the connection to a service by a reset; closing alone would look like the end of what was sent."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class ServiceConnection(asyncio.Protocol):
    """The connection to the service, as the protocol of its transport."""

    _transport: asyncio.Transport

    def __init__(self, exchange: ForwardedExchange) -> None:
        self._exchange = exchange

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the exchange."""
        self._transport = stream_transport = cast(asyncio.Transport, transport)
        stream_transport.set_write_buffer_limits(high=HIGH_BYTES, low=LOW_BYTES)
        self._exchange.connected(stream_transport)

    def data_received(self, data: bytes) -> None:
        """Hand on."""
        self._exchange.service_data(data)

    def eof_received(self) -> bool:
        """Hand on; True keeps the other direction open."""
        return self._exchange.service_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on, behind what the service had said before the connection broke."""
        if exc is not None:
            for piece in unread_pieces(self._transport):
                self._exchange.service_data(piece)
        self._exchange.service_lost(exc)

    def pause_writing(self) -> None:
        """The buffer towards the service is full."""
        self._exchange.service_full(True)

    def resume_writing(self) -> None:
        """The buffer towards the service has room."""
        self._exchange.service_full(False)
