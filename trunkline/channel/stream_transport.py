"""A stream as an asyncio transport, so that any asyncio protocol or stream reader and writer runs on it unchanged.

Flow control goes through in both directions. Bytes count as consumed when the protocol has taken them, so while it has
paused reading the peer gets no credit, and at most one receive window waits here. What the stream has no room for is
kept, and beyond the high-water mark the protocol is told to pause writing.

The ends map so: FIN is `eof_received` and `write_eof`. A reset by the peer, or a lost link, is
`connection_lost(ConnectionResetError)`. `abort` resets the stream. `close` sends what is kept and then FIN, and tells
the protocol that the connection is gone; what the peer still sends is dropped until it has sent its own FIN: with
credit for `MOST_DROPPED_BYTES`, so that a peer that closes too comes to its end, and without beyond. A peer that for
`LINGER_SECONDS` takes nothing of what is kept, or does not end behind our FIN, is cut off by a reset. That also ends
what the peer has not passed on yet, so it comes late: as late as an agent gives up a service.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from trunkline.channel.errors import ChannelError
from trunkline.channel.link_stream import LinkStream

HIGH_WATER_BYTES = 64 * 1024
LINGER_SECONDS = 120.0
MOST_DROPPED_BYTES = 16 * 1024 * 1024


class StreamTransport(asyncio.Transport):
    """The transport of one protocol over one stream; it is the stream's handler."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stream: LinkStream,
        protocol: asyncio.BaseProtocol,
        *,
        arrived: bytes = b"",
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Become the handler of `stream`, and tell `protocol` that it is connected.

        Args:
            loop: the loop of the link.
            stream: an open stream.
            protocol: what runs on it.
            arrived: bytes that were delivered for the stream before, and not handed back yet.
            extra: what `get_extra_info` answers.
        """
        super().__init__(extra)
        self._loop = loop
        self._stream = stream
        self._protocol = protocol
        self._inbox: deque[bytes] = deque()
        self._reading = True
        self._peer_ended = False
        self._eof_delivered = False
        self._outbox: deque[bytes | memoryview] = deque()
        self._outbox_bytes = 0
        self._high_bytes = HIGH_WATER_BYTES
        self._low_bytes = HIGH_WATER_BYTES // 4
        self._protocol_paused = False
        self._eof_written = False
        self._closing = False
        self._finished = False
        self._dropped_bytes = 0
        self._linger: asyncio.TimerHandle | None = None
        ended = stream.end_delivered
        stream.handler = self
        protocol.connection_made(self)
        if stream.lost:
            self._finish(ConnectionResetError("the stream was lost"))
        elif arrived or ended:
            if arrived:
                self._inbox.append(arrived)
            self._peer_ended = ended
            loop.call_soon(self._deliver)

    # What the owner of a transport asks

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that runs on the stream."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream to another protocol; what was not delivered yet is delivered to that."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing

    # Reading

    def is_reading(self) -> bool:
        """Whether received bytes are passed on."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Pass nothing on; the peer gets no more credit."""
        self._reading = False

    def resume_reading(self) -> None:
        """Pass on again what comes, and what has come meanwhile."""
        if not self._reading:
            self._reading = True
            if self._inbox or self._peer_ended:
                self._loop.call_soon(self._deliver)

    def data_received(self, data: bytes | memoryview) -> None:
        """The stream has bytes."""
        if self._closing:
            self._drop(len(data))
            return
        # Protocols keep and join what they get, and not all of them can do that with views.
        data = bytes(data)
        if self._reading and not self._inbox:
            self._pass_on(data)
        else:
            self._inbox.append(data)

    def end_received(self) -> None:
        """The stream's other end sends no more."""
        self._peer_ended = True
        if self._closing:
            if not self._outbox:
                self._stop_lingering()
        elif self._reading and not self._inbox:
            self._pass_on_end()

    def _deliver(self) -> None:
        try:
            while self._inbox and self._reading and not self._closing:
                self._pass_on(self._inbox.popleft())
            if self._peer_ended and not self._inbox and self._reading and not self._closing:
                self._pass_on_end()
        except Exception as error:  # noqa: BLE001 - as asyncio does: reported, and the connection dropped
            message = "the protocol of a stream failed"
            self._loop.call_exception_handler({"message": message, "exception": error, "transport": self})
            self.abort()

    def _pass_on(self, data: bytes) -> None:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            _fill(protocol, data)
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)
        self._stream.consumed(len(data))

    def _pass_on_end(self) -> None:
        if self._eof_delivered:
            return
        self._eof_delivered = True
        protocol = self._protocol
        keep_open = isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol) and protocol.eof_received()
        if not keep_open:
            self.close()

    # Writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes, or keep what there is no room for.

        Raises:
            RuntimeError: after `write_eof`.
        """
        if self._closing or not data:
            return
        if self._eof_written:
            raise RuntimeError("cannot write after write_eof")
        rest = bytes(data)
        if not self._outbox:
            rest = self._write_now(rest)
        if rest:
            self._outbox.append(rest)
            self._outbox_bytes += len(rest)
            self._pause_protocol_if_full()

    def can_write_eof(self) -> bool:
        """A stream can be half-closed."""
        return True

    def write_eof(self) -> None:
        """Send no more after what is kept; receiving goes on."""
        if not self._eof_written and not self._closing:
            self._eof_written = True
            if not self._outbox:
                self._end_stream()

    def get_write_buffer_size(self) -> int:
        """Bytes kept, for which the stream had no room."""
        return self._outbox_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks (low, high), in bytes."""
        return self._low_bytes, self._high_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes: the protocol is paused above `high`, and resumed at `low`."""
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and that at least 0")
        self._high_bytes, self._low_bytes = high, low
        self._pause_protocol_if_full()

    def window_opened(self) -> None:
        """The stream has room: send what was kept."""
        if self._linger is not None:
            self._begin_lingering()
        outbox = self._outbox
        while outbox:
            piece = outbox.popleft()
            rest = self._write_now(piece)
            self._outbox_bytes -= len(piece) - len(rest)
            if rest:
                outbox.appendleft(rest)
                break
        if self._protocol_paused and self._outbox_bytes <= self._low_bytes:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if not outbox:
            self._emptied()

    def _write_now(self, data: bytes | memoryview) -> Any:
        """Write as much as there is room for; returns the rest."""
        stream = self._stream
        while data:
            room = stream.send_room_bytes
            if not room:
                break
            if len(data) <= room:
                stream.write(data)
                return b""
            data = memoryview(data)
            stream.write(data[:room])
            data = data[room:]
        return data

    def _pause_protocol_if_full(self) -> None:
        if self._outbox_bytes > self._high_bytes and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _emptied(self) -> None:
        if self._closing:
            self._end_stream()
            self._finish(None)
            if self._peer_ended:
                self._stop_lingering()
        elif self._eof_written:
            self._end_stream()

    def _end_stream(self) -> None:
        if self._stream.writable:
            self._stream.end()

    # The end

    def close(self) -> None:
        """Send what is kept, then FIN; nothing more is received."""
        if self._closing:
            return
        self._closing = True
        if self._inbox:
            self._drop(sum(map(len, self._inbox)))
            self._inbox.clear()
        if not self._outbox:
            self._end_stream()
            self._finish(None)
        if not self._stream.lost and (self._stream.writable or self._stream.readable):
            self._begin_lingering()

    def abort(self) -> None:
        """Cut the stream; what is kept is lost."""
        self._closing = True
        self._stream.reset()
        self._finish(None)
        self._stop_lingering()

    def stream_lost(self, error: ChannelError) -> None:
        """The stream was cut by the peer, or went down with its link."""
        self._closing = True
        self._stop_lingering()
        lost = ConnectionResetError(str(error))
        lost.__cause__ = error
        self._finish(lost)

    def _finish(self, error: Exception | None) -> None:
        """Tell the protocol, once, that the connection is gone."""
        if self._finished:
            return
        self._finished = self._closing = True
        self._outbox.clear()
        self._inbox.clear()
        self._outbox_bytes = 0
        self._loop.call_soon(self._protocol.connection_lost, error)

    def _drop(self, size_bytes: int) -> None:
        """Let the peer send on instead of what nobody reads any more, up to the bound."""
        self._dropped_bytes += size_bytes
        if self._dropped_bytes <= MOST_DROPPED_BYTES and not self._stream.lost:
            self._stream.consumed(size_bytes)

    def _begin_lingering(self) -> None:
        self._stop_lingering()
        self._linger = self._loop.call_later(LINGER_SECONDS, self.abort)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None


def _fill(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Copy bytes into the protocol's own buffer, in as many pieces as it takes."""
    view = memoryview(data)
    while view:
        buffer = memoryview(protocol.get_buffer(len(view))).cast("B")
        size = min(len(buffer), len(view))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]


def open_stream_pair(
    stream: LinkStream, *, limit_bytes: int = 64 * 1024
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Read and write a stream with asyncio's stream classes.

    Args:
        stream: a stream that was just opened or offered; for an offered one return `stream.handler` as its handler.
        limit_bytes: the reader keeps at most twice this before the peer gets no more credit.
    """
    return adopt_stream_pair(stream, b"", limit_bytes=limit_bytes)


def adopt_stream_pair(
    stream: LinkStream, arrived: bytes, *, limit_bytes: int = 64 * 1024
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Go on with a stream as reader and writer, after another handler has had it.

    Args:
        stream: an open stream.
        arrived: bytes that the other handler got and did not hand back; credit for them is granted here.
        limit_bytes: as in `open_stream_pair`.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit_bytes, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = StreamTransport(loop, stream, protocol, arrived=arrived)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
