"""The pump between a session and an asyncio transport: it owns the transport, the timer and the turns of writing.

Theory of operation. What the transport receives goes to the session, and the events straight to the handlers of the
streams (`link_delivery`); writing is in `link_output`. One alarm serves all of a session's deadlines: when it rings the
session is asked again, so deadlines that only move away, as on a busy link, cost nothing. Thousands of links are idle
in a relay: what an idle link may never need is made when it is needed.

The end is in `link_end`, and how a burst is taken in by slices in `link_turns`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from trunkline.channel.alarms import NONE, Alarms
from trunkline.channel.errors import ConnectionLost, ErrorCode, StreamReset
from trunkline.channel.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    PongReceived,
    SessionFailed,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
    WindowOpened,
)
from trunkline.channel.flushing import Flusher
from trunkline.channel.frames import INITIAL_WINDOW_BYTES
from trunkline.channel.limits import CreditBudget, Held, Limits
from trunkline.channel.link_end import LinkEnd, LinkOwner
from trunkline.channel.link_output import TRANSPORT_HIGH_BYTES, TRANSPORT_LOW_BYTES
from trunkline.channel.link_session import LinkSession
from trunkline.channel.link_stream import LinkStream, StreamHandler
from trunkline.channel.link_turns import LinkTurns
from trunkline.channel.session import Role, Session
from trunkline.channel.unsent import keep_little_unsent

__all__ = ["Link", "LinkOwner", "LinkStream", "Role", "StreamHandler"]


class Link(LinkTurns):
    """One session on one asyncio transport. Give it to a loop as a protocol, or an open transport to `adopt`.

    It is an asyncio.Protocol in all but its bases, since a class that is compiled cannot derive from one that is not.
    """

    def __init__(
        self,
        role: Role,
        owner: LinkOwner,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits | None = None,
        send_window_bytes: int = INITIAL_WINDOW_BYTES,
        compact: bool = False,
        budget: CreditBudget | None = None,
        keepalive_seconds: float | None = 8.0,
        flusher: Flusher | None = None,
        alarms: Alarms | None = None,
        on_handler_error: Callable[[LinkStream | None, Exception], None] | None = None,
    ) -> None:
        """Prepare a link; it comes to life with `connection_made` or `adopt`.

        Args:
            role: the client opens odd stream ids, the server even ones.
            owner: is offered the peer's streams, and told of the end.
            loop: the loop that all calls come from.
            limits: the bounds; the first window in it is the one agreed with the peer.
            send_window_bytes: the peer's first window.
            compact: the peer is one of ours: SYN and FIN may ride on DATA.
            budget: the credit shared by all links of the process.
            keepalive_seconds: ping the peer after so long a silence; None for never. A peer is given up
                `limits.ping_timeout_seconds` later. The default is that of the end that dials.
            flusher: shared by the links of a loop; None for one of its own.
            alarms: the same.
            on_handler_error: is told of an exception that a handler or the owner let out; by default the loop's
                exception handler is.
        """
        LinkEnd.__init__(
            self,
            owner,
            loop=loop,
            flusher=flusher if flusher is not None else Flusher(loop),
            alarms=alarms if alarms is not None else Alarms(loop),
            on_handler_error=on_handler_error,
        )
        self._limits = limits if limits is not None else Limits()
        self._budget = budget
        self.now = self._alarms.now
        self.session: Session[LinkStream] = LinkSession(
            self,
            role,
            limits=self._limits,
            now=loop.time(),
            send_window_bytes=send_window_bytes,
            compact=compact,
            budget=budget,
            keepalive_seconds=keepalive_seconds,
        )

    # What the owner asks for

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self.session.streams)

    @property
    def stream_ids_left(self) -> int:
        """How many streams may be opened here until another link is needed."""
        return self.session.stream_ids_left

    @property
    def rtt_seconds(self) -> float | None:
        """The round trip of a way without a queue; None before the first ping has come back."""
        return self.session.rtt_seconds

    @property
    def openable(self) -> bool:
        """Whether `open` would succeed now."""
        return self.session.can_open

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport says of itself."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    def as_protocol(self) -> asyncio.Protocol:
        """The link, as what a loop takes for a protocol."""
        return cast(asyncio.Protocol, self)

    def adopt(self, transport: asyncio.Transport, leftover: bytes = b"") -> None:
        """Take over a transport that has just been upgraded, and the bytes received behind the upgrade."""
        transport.set_protocol(self.as_protocol())
        self.connection_made(transport)
        self._paused = self.blocked = self._paused or transport.get_write_buffer_size() > TRANSPORT_HIGH_BYTES
        if leftover:
            self.data_received(leftover)

    def open(self, handler: StreamHandler | None = None, sender: int = 0) -> LinkStream:
        """Open a stream, for a sender or for none; see `SendingSession.open_stream`.

        Without a handler, set `stream.handler` before returning to the loop.

        Raises:
            LimitExceeded: draining, too many streams, or too many unacknowledged (see `call_when_openable`).
            ConnectionLost: the link is over.
        """
        session = self.session
        stream = session.open_stream(sender)
        stream.handler = handler
        if len(session.streams) == 1:
            session.measure_quiet(self.now())
        if not self.flush_requested:
            self.request_flush()
        return stream

    async def ping(self) -> float:
        """Measure a round trip, in seconds.

        Raises:
            ConnectionLost: no answer within `Limits.ping_timeout_seconds`, or the link is over.
        """
        if self.lost:
            raise ConnectionLost("the link is over")
        ping_id = self.session.ping(self.now())
        pongs = self._pongs
        if pongs is None:
            pongs = self._pongs = {}
        pong = pongs[ping_id] = self._loop.create_future()
        self._arm()
        self.request_flush()
        try:
            async with asyncio.timeout(self._limits.ping_timeout_seconds):
                rtt_seconds: float = await pong
                return rtt_seconds
        except TimeoutError:
            raise ConnectionLost("the peer did not answer a ping", ErrorCode.PEER_SILENT) from None
        finally:
            pongs.pop(ping_id, None)

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Not every loop's transports derive from asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        if self.lost:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=TRANSPORT_HIGH_BYTES, low=TRANSPORT_LOW_BYTES)
        keep_little_unsent(transport)
        self._arm()
        self.flush_if_wanted()

    def eof_received(self) -> None:
        """The peer has closed; the transport closes with it."""

    # Events

    def _take_in(self, data: bytes) -> None:
        session = self.session
        for event in session.receive_data(data, self.now()):
            if type(event) is DataReceived:
                stream = event.stream
                handler = stream.handler
                if handler is not None:
                    try:
                        handler.data_received(event.data)
                    except Exception as error:  # noqa: BLE001 - one handler's mistake must not end the link
                        self._handler_failed(stream, error)
                        continue
                    if event.ended:
                        self._deliver_end(stream)
            else:
                self._handle(event)
        self._after_receiving()
        if session.unread:
            self._go_on()

    def _after_receiving(self) -> None:
        session = self.session
        if session.deadline_moved:
            self._arm()
        self.flush_if_wanted()
        if self._budget is not None and self._budget.overdrawn:
            self._shed(self._budget)
        if self._openers or self._drained is not None:
            self._settle()

    def _handle(self, event: Event[LinkStream]) -> None:
        if isinstance(event, StreamOpened):
            self._offer(event.stream)
        elif isinstance(event, StreamEnded):
            self._deliver_end(event.stream)
        elif isinstance(event, WindowOpened):
            if self.blocked or event.stream.waiting:
                self.wait(event.stream)
            else:
                self._deliver_room(event.stream)
        elif isinstance(event, StreamResetReceived):
            self._deliver_loss(event.stream, StreamReset("the peer reset the stream"))
        elif isinstance(event, SessionFailed):
            self._fail(event)
        else:
            self._handle_session_event(event)

    def _handle_session_event(self, event: Event[LinkStream]) -> None:
        if isinstance(event, PongReceived):
            pong = self._pongs.get(event.ping_id) if self._pongs is not None else None
            if pong is not None and not pong.done():
                pong.set_result(event.rtt_seconds)
        elif isinstance(event, GoAwayReceived) and not self.lost:
            try:
                self._owner.go_away_received(self, event.code)
            except Exception as error:  # noqa: BLE001 - reported; the link goes on
                self._on_handler_error(None, error)

    def _offer(self, stream: LinkStream) -> None:
        if stream.lost:
            return
        if len(self.session.streams) == 1:
            self.session.measure_quiet(self.now())
        try:
            handler = self._owner.stream_offered(stream)
        except Exception as error:  # noqa: BLE001 - reported; costs this stream only
            self._handler_failed(stream, error)
            return
        if handler is None:
            stream.reset()
        elif not stream.lost:
            stream.handler = handler

    def _shed(self, budget: CreditBudget) -> None:
        """Cut the streams that hold most, on whichever link, until the process holds a little less than it may."""
        for held in budget.largest_first():
            budget.streams_cut += 1
            try:
                cast(Held, held).cut(StreamReset("its reader stalled and memory was needed", ErrorCode.BUDGET_EXCEEDED))
            except Exception as error:  # noqa: BLE001 - reported; the stream is reset all the same
                self._on_handler_error(held if isinstance(held, LinkStream) else None, error)
            if budget.held_bytes <= budget.relieved_bytes:
                return

    # Time

    def _arm(self) -> None:
        """Set the alarm, unless it rings early enough already; when it rings it looks again."""
        self.session.deadline_moved = False
        deadline = self.session.next_deadline()
        if deadline is None or self.lost:
            return
        slot = self._alarms.slot_after(deadline)
        if self._alarm_slot != NONE:
            if self._alarm_slot <= slot:
                return
            self._alarms.leave(self, self._alarm_slot)
        self._alarm_slot = slot
        self._alarms.enter(self, slot)

    def wake(self) -> None:
        """The alarm rings: do what is due."""
        self._alarm_slot = NONE
        for event in self.session.handle_deadline(self.now()):
            self._handle(event)
        self.flush_if_wanted()
        self._arm()
