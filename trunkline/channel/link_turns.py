"""The turns of a link: a burst is taken in by slices, between which everybody else on the loop has a turn.

Theory of operation. Of what the transport brings, a link takes in `TURN_FRAMES` frames at once, and goes on with the
rest in the next turn of the loop. Until nothing is left the transport is not read, so that what waits is no more than
it had read in one turn; what it brings before it can be paused waits behind the rest, in order.

A connection that ends meanwhile ends for the link once the rest is taken in: bytes that a peer sent before its goodbye
are not lost. A link that ends by itself, or is ended here, drops them.
"""

from __future__ import annotations

from typing import Final

from trunkline.channel.closing import Patience
from trunkline.channel.link_end import LinkEnd

MAX_BEHIND_BYTES: Final = 1024 * 1024
"""A transport that brings so much before the next turn of the loop is paused at once."""


class LinkTurns(LinkEnd):
    """A link as far as it shares the loop with others. `Link` adds the rest."""

    _going_on: bool = False
    _reading: bool = True
    _behind: bytes = b""
    _ended: bool = False
    _ended_by: Exception | None = None

    def data_received(self, data: bytes) -> None:
        """Take in bytes and tell the handlers what they mean, now or in turns to come."""
        if type(data) is not bytes:
            data = bytes(data)
        if self._going_on:
            self._behind += data
            if len(self._behind) > MAX_BEHIND_BYTES:
                self._stop_reading()
        else:
            self._take_in(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone; the link is, once it has taken in what came."""
        if self._going_on and not self.lost:
            self._transport = None
            self._ended, self._ended_by = True, exc
        else:
            super().connection_lost(exc)

    def _take_in(self, data: bytes) -> None:
        """Take in what a turn may, and call `_go_on` if that was not all."""
        raise NotImplementedError

    def _go_on(self) -> None:
        self._going_on = True
        self._loop.call_soon(self._take_rest)

    def _take_rest(self) -> None:
        self._going_on = False
        behind, self._behind = self._behind, b""
        if not self.lost:
            self._stop_reading()
            self._take_in(behind)
        if self._going_on:
            return
        if self._ended:
            super().connection_lost(self._ended_by)
        else:
            self._read_on()

    def _stop_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            if self._transport is not None:
                self._transport.resume_reading()

    def _close_transport(self, patience: Patience) -> None:
        self._read_on()  # a transport that does not read would wait in vain for the peer's own goodbye
        super()._close_transport(patience)
