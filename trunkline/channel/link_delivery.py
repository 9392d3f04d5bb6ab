"""The telling half of a link: the handlers of streams are called, and their exceptions kept from the others.

An exception that a handler lets out resets its stream, which costs nobody else anything, and is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trunkline.channel.errors import ChannelError, StreamReset
from trunkline.channel.flushing import Flusher
from trunkline.channel.link_output import LinkOutput
from trunkline.channel.link_stream import LinkStream


class LinkDelivery(LinkOutput):
    """What a link tells the handlers of its streams. `Link` adds the rest."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flusher: Flusher,
        on_handler_error: Callable[[LinkStream | None, Exception], None] | None,
    ) -> None:
        LinkOutput.__init__(self, flusher)
        self._loop = loop
        self._handler_error_sink = on_handler_error

    def _deliver_end(self, stream: LinkStream) -> None:
        handler = stream.handler
        if handler is None:
            return
        stream.end_delivered = True
        try:
            handler.end_received()
        except Exception as error:  # noqa: BLE001
            self._handler_failed(stream, error)
        if not stream.writable and not stream.lost:
            stream.handler = None

    def _deliver_room(self, stream: LinkStream) -> None:
        handler = stream.handler
        if handler is not None:
            try:
                handler.window_opened()
            except Exception as error:  # noqa: BLE001
                self._handler_failed(stream, error)

    def _deliver_loss(self, stream: LinkStream, error: ChannelError) -> None:
        handler = stream.handler
        stream.handler = None
        if handler is not None:
            try:
                handler.stream_lost(error)
            except Exception as failure:  # noqa: BLE001
                self._on_handler_error(stream, failure)

    def _handler_failed(self, stream: LinkStream, error: Exception) -> None:
        """Reset the stream whose handler let an exception out; its owner still learns that it is over."""
        self._on_handler_error(stream, error)
        self.session.reset_stream(stream)
        self.request_flush()
        self._deliver_loss(stream, StreamReset("the handler of the stream failed"))

    def _on_handler_error(self, stream: LinkStream | None, error: Exception) -> None:
        """Report it to whom the link was made with, or else to the loop."""
        if self._handler_error_sink is not None:
            self._handler_error_sink(stream, error)
            return
        self._loop.call_exception_handler({"message": f"a handler failed on {stream!r}", "exception": error})
