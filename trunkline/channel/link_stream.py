"""A stream as its owner on the loop holds it: it writes at once, and is told of everything by its handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from trunkline.channel.errors import ChannelError
from trunkline.channel.streams import Stream

if TYPE_CHECKING:
    from trunkline.channel.link_output import LinkOutput

TURN_BYTES: Final = 65_024
"""A stream writes so much, then waits until the others that want to write have had their turn.

With its header and what TLS adds to its four records it stays below 64 KiB, the size of the transport's buffer: one
system call sends it.
"""
SKIPPING_BYTES: Final = 1024 * 1024
"""Once the link has collected so much, its peer hardly reads, and nothing skips the turns any more: what waits with its
stream instead is gone with it."""


class StreamHandler(Protocol):
    """What is told of one stream. All calls come from the loop and return at once; an exception resets the stream.

    When both directions have ended there is no further call, not even `stream_lost`.
    """

    def data_received(self, data: bytes | memoryview) -> None:
        """Bytes have come. Hand them back with `stream.consumed` once they are held no more, here or later."""
        ...

    def end_received(self) -> None:
        """The peer sends no more; writing goes on."""
        ...

    def window_opened(self) -> None:
        """`stream.send_room_bytes` was 0, or was used up, and there is room again."""
        ...

    def stream_lost(self, error: ChannelError) -> None:
        """The stream was cut by the peer, or went down with its link. This is the last call."""
        ...


class LinkStream(Stream):
    """One stream of a `Link`. Not for other threads.

    To write: read `send_room_bytes`, `write` at most that much, and if there is more wait for `window_opened`. Writing
    more is allowed up to `send_window`, for short heads while `may_skip` says so; it skips the turns, so no bulk writer
    may do it.
    """

    __slots__ = ("end_delivered", "handler", "link", "turn_bytes", "waiting")

    def __init__(
        self, link: LinkOutput, stream_id: int, send_window_bytes: int, receive_window_bytes: int, first_flags: int
    ) -> None:
        Stream.__init__(self, stream_id, send_window_bytes, receive_window_bytes, first_flags)
        self.link = link
        self.handler: StreamHandler | None = None
        """Told of what happens; None once nothing can happen any more."""
        self.turn_bytes = TURN_BYTES
        self.waiting = False
        self.end_delivered = False

    @property
    def may_skip(self) -> bool:
        """Whether a short head may be written at once, though it is not the stream's turn."""
        return self.link.queued_bytes < SKIPPING_BYTES

    @property
    def send_room_bytes(self) -> int:
        """How much to write now. If it is 0 on a writable stream, `window_opened` will be called."""
        if not self.writable:
            return 0
        link = self.link
        if link.blocked:
            link.wait(self)
            return 0
        turn = self.turn_bytes
        room = self.send_window
        return room if room < turn else max(turn, 0)

    def write(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Send bytes with the next flush of the link; with `end` they are the last ones.

        They are not copied and must not change. On a stream that is lost they are dropped.

        Raises:
            LocalProtocolError: more than `send_window`, or the stream was already ended here.
        """
        link = self.link
        size = len(data)
        link.session.send_data(self, data, end=end)
        turn = self.turn_bytes = self.turn_bytes - size
        if turn <= 0:
            link.wait(self)
        queued = link.queued_bytes = link.queued_bytes + size
        if queued >= link.output_bytes:
            link.blocked = True
        if not link.flush_requested:
            link.request_flush()
        if end and self.end_delivered:
            self.handler = None

    def end(self) -> None:
        """Send no more (FIN); receiving goes on.

        Raises:
            LocalProtocolError: it was already ended here.
        """
        self.link.session.end_stream(self)
        self.link.request_flush()
        if self.end_delivered:
            self.handler = None

    def end_late(self) -> None:
        """As `end`, for a FIN that nobody waits for: it goes with other output, within `2 * LATE_SECONDS`.

        Until then the stream counts as writable; nothing more may be written.
        """
        self.link.end_late(self)

    def reset(self) -> None:
        """Cut the stream in both directions at once. The handler is not called again."""
        self.handler = None
        self.link.session.reset_stream(self)
        self.link.request_flush()

    def cut(self, error: ChannelError) -> None:
        """Reset the stream, and tell its handler why."""
        handler = self.handler
        self.reset()
        if handler is not None:
            handler.stream_lost(error)

    def consumed(self, size_bytes: int) -> None:
        """Hand back delivered bytes, so that the peer may send as many again.

        Raises:
            LocalProtocolError: more than was delivered.
        """
        link = self.link
        link.session.consumed(self, size_bytes, link.now())
        link.flush_if_wanted()

    def withhold(self, size_bytes: int) -> None:
        """Hand back delivered bytes, which are held no more, and have the peer wait for the credit until `give`.

        Raises:
            LocalProtocolError: more than was delivered.
        """
        self.link.session.withhold(self, size_bytes)

    def give(self, size_bytes: int) -> None:
        """Let the peer send so many bytes of those for which credit was withheld.

        Raises:
            LocalProtocolError: more than was withheld.
        """
        link = self.link
        link.session.give(self, size_bytes, link.now())
        link.flush_if_wanted()
