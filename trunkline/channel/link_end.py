"""The end of a link: who asks for it, who brings it about, and in which order everybody is told.

Theory of operation. A link ends once, for good, and in one of four ways: its owner closes it, which says goodbye and
sends what is queued; or aborts it, which sends nothing more; its session fails over what the peer did; or its transport
is lost. Whichever is first is the reason that all are told: `stream_lost` to every handler at once, `link_lost` to the
owner one tick later, and `closed` is done when the transport is gone. What was written before the end, of streams that
were complete, is still the peer's to take: how long it has for that says `closing`.

A drain comes before the end: no new streams, and a wait for the last of those that are open. Who waits for room to open
one is called when there is, and also when there never will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from trunkline.channel.alarms import NONE, Alarms
from trunkline.channel.closing import LONGEST_SECONDS, Closing, Patience
from trunkline.channel.errors import ChannelError, ConnectionLost, ErrorCode
from trunkline.channel.events import SessionFailed
from trunkline.channel.flushing import Flusher
from trunkline.channel.link_delivery import LinkDelivery
from trunkline.channel.link_stream import LinkStream, StreamHandler
from trunkline.channel.unsent import reset_at_close

if TYPE_CHECKING:
    from trunkline.channel.link import Link

GOODBYE_SECONDS: Final = 5.0
PATIENCE: Final = Patience(
    taking_seconds=15.0,  # within which pings find out whether a peer is gone
    goodbye_seconds=GOODBYE_SECONDS,
    longest_seconds=LONGEST_SECONDS,
    goodbye_bytes=4096,  # what goodbyes, resets and answers to pings come to, at most
)
NO_PATIENCE: Final = Patience(GOODBYE_SECONDS, GOODBYE_SECONDS, GOODBYE_SECONDS)
"""With a peer that has broken the protocol: it is told so, if it still listens."""


class LinkOwner(Protocol):
    """What is told of a link. All calls come from the loop and return at once."""

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        """The peer opens a stream: return its handler, or None to reset it."""
        ...

    def go_away_received(self, link: Link, code: int) -> None:
        """The peer takes no new streams."""
        ...

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """The link is over; the error is None if it was closed here. This is the last call."""
        ...


class LinkEnd(LinkDelivery):
    """A link as far as it ends. `Link` adds the rest."""

    def __init__(
        self,
        owner: LinkOwner,
        *,
        loop: asyncio.AbstractEventLoop,
        flusher: Flusher,
        alarms: Alarms,
        on_handler_error: Callable[[LinkStream | None, Exception], None] | None,
    ) -> None:
        LinkDelivery.__init__(self, loop, flusher, on_handler_error)
        self._owner = owner
        self._alarms = alarms
        self._alarm_slot = NONE
        self._closing: Closing | None = None
        self.lost = False
        """Whether the link is over."""
        self._openers: dict[Callable[[], None], None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._pongs: dict[int, asyncio.Future[float]] | None = None
        self._transport_gone = False
        self._closed: asyncio.Future[None] | None = None

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done, without an exception, when the transport is gone."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            if self._transport_gone:
                self._closed.set_result(None)
        return self._closed

    @property
    def draining(self) -> bool:
        """Whether a GoAway was sent or received: no new streams, the open ones finish."""
        return self.session.go_away_sent or self.session.go_away_received

    def call_when_openable(self, callback: Callable[[], None]) -> None:
        """Call back once when `open` may succeed again, in the order of asking, or when it never will.

        The callback tries `open` at once; what it leaves is the next one's. It is hashable, and asks once.
        """
        if self._openers is None:
            self._openers = {}
        self._openers[callback] = None
        self.request_flush()

    def call_no_more(self, callback: Callable[[], None]) -> None:
        """Forget a callback that `call_when_openable` was given, and what it holds: nobody waits for it any more."""
        if self._openers is not None:
            self._openers.pop(callback, None)

    def go_away(self) -> None:
        """Tell the peer that no new streams are taken. Open ones finish."""
        self.session.go_away()
        self.request_flush()

    async def drain(self, timeout_seconds: float) -> bool:
        """Refuse new streams, let the open ones finish for at most the time given, then close.

        The peer has what is left of that time to take the last bytes, and `GOODBYE_SECONDS` at least.

        Returns:
            Whether all streams finished, and the peer has taken what was sent on them.
        """
        deadline = self._loop.time() + timeout_seconds
        self.go_away()
        if self.session.streams and not self.lost:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.wait([self._drained], timeout=timeout_seconds)
        finished = not self.session.streams and not self.lost
        return await self.end(max(deadline - self._loop.time(), GOODBYE_SECONDS)) and finished

    async def end(self, timeout_seconds: float = GOODBYE_SECONDS) -> bool:
        """Close, and wait until the link is gone; cut it if the peer has not taken everything in the time given.

        Returns:
            Whether the peer has taken what was sent.
        """
        self.close()
        _, late = await asyncio.wait([self.closed], timeout=timeout_seconds)
        if late:
            self.abort()
            await asyncio.wait([self.closed])
        return not late and not (self._closing is not None and self._closing.given_up)

    def close(self) -> None:
        """Say goodbye, send what is queued, and close once the peer has taken it; open streams are lost."""
        if not self.lost:
            self.session.go_away()
            self._write_out()
        self._lose(None)
        self._close_transport(PATIENCE)

    def abort(self) -> None:
        """Close without sending anything more; open streams are lost."""
        self._lose(None)
        if self._transport is not None:
            self._transport.abort()
        else:
            self._note_closed()

    def wake(self) -> None:
        """The alarm rings: do what is due."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        if self._closing is not None:
            self._closing.end()
        why = f"the connection was lost: {exc}" if exc is not None else "the peer closed the connection"
        self._lose(ConnectionLost(why))
        self._transport = None
        self._note_closed()

    def _fail(self, event: SessionFailed[LinkStream]) -> None:
        """The session is over by itself: send the GoAway if the transport takes it at once, and close."""
        if not self._paused and event.error.code is not ErrorCode.PEER_SILENT:
            self._write_out()
            self._lose(event.error, event.streams)
            self._close_transport(NO_PATIENCE)
        else:
            self._lose(event.error, event.streams)
            if self._transport is not None:
                if event.error.code is ErrorCode.PEER_SILENT:
                    reset_at_close(self._transport)
                self._transport.abort()

    def _lose(self, error: ChannelError | None, streams: list[LinkStream] | None = None) -> None:
        if self.lost:
            return
        self.lost = True
        self.blocked = True
        if self._alarm_slot != NONE:
            self._alarms.leave(self, self._alarm_slot)
            self._alarm_slot = NONE
        stream_error = error if error is not None else ConnectionLost("the link was closed")
        for stream in (*self.session.end(stream_error), *(streams or ())):
            self._deliver_loss(stream, stream_error)
        if self._waiting is not None:
            self._waiting.clear()
        for pong in (self._pongs or {}).values():
            if not pong.done():
                pong.set_exception(ConnectionLost(str(stream_error)))
        self._settle()
        self._loop.call_soon(self._tell_owner, error)

    def _tell_owner(self, error: ChannelError | None) -> None:
        try:
            self._owner.link_lost(cast("Link", self), error)
        except Exception as failure:  # noqa: BLE001 - reported; there is nobody else to tell
            self._on_handler_error(None, failure)

    def _close_transport(self, patience: Patience) -> None:
        if self._transport is None:
            self._note_closed()
        elif self._closing is None:
            self._closing = Closing(self._transport, self._loop, patience)
            self._closing.begin()

    def _note_closed(self) -> None:
        self._transport_gone = True
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _settle(self) -> None:
        """Tell those who wait for room to open a stream, or for the last stream to end."""
        while self._openers and (self.session.can_open or self.draining or self.lost):
            callback = next(iter(self._openers))
            del self._openers[callback]
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - reported; the others go on
                self._on_handler_error(None, error)
        if self._drained is not None and not self.session.streams and not self._drained.done():
            self._drained.set_result(None)
