"""The dialling end of a link upgrade on a TLS connection: ask, read the answer, let the link take over."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from websockets.protocol import Side

from trunkline.channel.errors import ChannelError, ConnectionLost, HandshakeFailed
from trunkline.channel.fields import Framing, HeadError
from trunkline.channel.heads import ResponseHead, parse_response_head
from trunkline.channel.link import Link
from trunkline.channel.terms import LinkTerms
from trunkline.channel.upgrade import (
    MOST_REFUSAL_BYTES,
    Carrier,
    LinkRequest,
    read_link_response,
    read_refusal,
    write_link_request,
)
from trunkline.channel.websocket import WebSocketTransport

PeerRefusal = Callable[[asyncio.BaseTransport], str | None]
"""Why the peer of a connection, whose certificate TLS has verified, is not to be spoken to; None: it is."""

MOST_HEAD_BYTES: Final = 32_768
_SWITCHING_PROTOCOLS: Final = 101
_HEAD_END: Final = b"\r\n\r\n"


class UpgradeBroken(ConnectionLost):
    """TLS came up and the connection ended before the relay answered: what a middlebox does to an unknown upgrade."""


class CutBeforeTls(ConnectionLost):
    """The relay's port took the connection and cut it before TLS was up: the relay has more to set up than it may."""


class UpgradeProtocol(asyncio.Protocol):
    """Sends the request, reads the answer, and hands the transport to a new link."""

    def __init__(
        self,
        request: LinkRequest,
        make_link: Callable[[LinkTerms], Link],
        loop: asyncio.AbstractEventLoop,
        refuse_peer: PeerRefusal | None = None,
        is_first: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare; where several connections are made for one link, `is_first` tells which of them asks for it."""
        self._request = request
        self._make_link = make_link
        self._refuse_peer = refuse_peer
        self._is_first = is_first
        self._received = bytearray()
        self._refusal: ResponseHead | None = None
        self._transport: asyncio.Transport | None = None
        self._link: Link | None = None
        self._taken = False
        self._done: asyncio.Future[Link] = loop.create_future()

    async def link(self) -> Link:
        """Wait for the link, which from then on is the caller's.

        Raises:
            ChannelError: why there is none.
        """
        link = await self._done
        self._taken = True
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up: ask for the link, unless this relay is not to be spoken to; then it is not given the token.

        Nor is one that was too late.
        """
        # Not asked whether it is one: the faster loop's transports only look like asyncio.Transport.
        self._transport = transport = cast(asyncio.Transport, transport)
        if not self._is_first():
            transport.abort()
            return
        refusal = None if self._refuse_peer is None else self._refuse_peer(transport)
        if refusal is not None:
            self._fail(HandshakeFailed(refusal))
            transport.abort()
            return
        transport.write(write_link_request(self._request))

    def data_received(self, data: bytes) -> None:
        """Collect the answer's head, then act on it."""
        if self._done.done():
            return
        self._received += data
        try:
            self._read()
        except HeadError as error:
            self._fail(HandshakeFailed(f"the relay answered with something that is not HTTP/1.1: {error}"))
        except ChannelError as error:
            self._fail(error)

    def eof_received(self) -> None:
        """The answer ends with the connection."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended before the link had it."""
        self._end(exc)

    def abandon(self) -> None:
        """Drop the connection, and the link if there is one already, unless `link` has handed it over."""
        if self._taken:
            return
        if not self._done.cancel() and not self._done.cancelled():
            self._done.exception()  # marks it as seen; another error came first
        if self._link is not None:
            self._link.abort()
        elif self._transport is not None:
            self._transport.abort()

    def _read(self) -> None:
        if self._refusal is not None:
            self._read_body(self._refusal)
            return
        end = self._received.find(_HEAD_END)
        if end < 0:
            if len(self._received) > MOST_HEAD_BYTES:
                raise HandshakeFailed("the relay's answer is too large")
            return
        end += len(_HEAD_END)
        asked = self._request.carrier.value
        head = parse_response_head(bytes(self._received[:end]), request_method=b"GET", upgrade=asked)
        del self._received[:end]
        if head.status == _SWITCHING_PROTOCOLS:
            self._hand_over(read_link_response(head, self._request))
        else:
            self._refusal = head
            self._read_body(head)

    def _read_body(self, head: ResponseHead) -> None:
        """Refuse as soon as the refusal's body is there; one of unknown or great length is not waited for."""
        expected_bytes = head.content_length if head.framing is Framing.LENGTH and head.content_length else 0
        if len(self._received) >= expected_bytes or expected_bytes > MOST_REFUSAL_BYTES:
            self._fail(read_refusal(head, bytes(self._received[:MOST_REFUSAL_BYTES])))

    def _hand_over(self, terms: LinkTerms) -> None:
        assert self._transport is not None  # noqa: S101  # connection_made comes first
        leftover = bytes(self._received)
        self._link = link = self._make_link(terms)
        if self._request.carrier is Carrier.WEBSOCKET:
            carrier = WebSocketTransport(self._transport, Side.CLIENT)
            link.adopt(carrier, b"")
            carrier.start(leftover)
        else:
            link.adopt(self._transport, leftover)
        self._done.set_result(link)

    def _end(self, exc: Exception | None) -> None:
        if self._done.done():
            return
        if self._refusal is not None:
            self._fail(read_refusal(self._refusal, bytes(self._received[:MOST_REFUSAL_BYTES])))
        elif isinstance(exc, ssl.SSLError):
            self._fail(HandshakeFailed(f"the relay ended TLS: {exc.reason or exc}"))
        else:
            self._fail(UpgradeBroken("the relay closed the connection without an answer to the upgrade"))

    def _fail(self, error: ChannelError) -> None:
        if not self._done.done():
            self._done.set_exception(error)
