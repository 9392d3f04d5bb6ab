"""The sender: many calls at once to nodes through one relay, over one link.

Each call is one stream with its own token. The sender keeps the link (see `link_keeper`), writes canonical request
heads, and hands back the node's answer; what the relay answered instead of the node is raised as a typed error. It
repeats nothing by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Self

from certs.tls import TlsContext
from trunkline.channel.bodies import LAST_CHUNK, encode_chunk
from trunkline.channel.closing import LONGEST_SECONDS
from trunkline.channel.errors import ChannelError, ErrorCode, LimitExceeded
from trunkline.channel.heads import Framing, ResponseHead, write_request_head
from trunkline.channel.link import Link
from trunkline.channel.stream_transport import adopt_stream_pair
from trunkline.client.errors import CallInterrupted, DeadlineExceeded, TrunklineError
from trunkline.client.exchange import IDEMPOTENT_METHODS, Exchange
from trunkline.client.link_keeper import Dial, LinkKeeper, tls_dial
from trunkline.client.node_response import NodeResponse, read_error
from trunkline.client.refusals import LARGEST_REFUSAL_BYTES, is_relay_made, refused_call
from trunkline.client.sized_body import SizedBody
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock, SystemClock

Body = bytes | AsyncIterable[bytes] | SizedBody | None
Fields = Iterable[tuple[str, str]]

LINK_TIMEOUT_SECONDS = 10.0
HEAD_TIMEOUT_SECONDS = 60.0
_METHODS_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
_OWN_FIELDS = frozenset(
    {"host", "connection", "proxy-authorization", "proxy-connection", "content-length", "transfer-encoding", "te",
     "upgrade", "keep-alive", "trailer", "expect"}
)  # fmt: skip
_FULL = frozenset({ErrorCode.TOO_MANY_UNACKED, ErrorCode.TOO_MANY_STREAMS})
_MOST_OPENINGS = 1000
"""A call that finds the link full so often, each time it was told that there is room, gives up."""


class NodeSender:
    """Calls nodes through one relay; one per relay and process is enough for thousands of calls at once."""

    def __init__(
        self,
        relay_url: str,
        *,
        ssl_context: TlsContext | Callable[[], TlsContext],
        link_token: str | None = None,
        dial: Dial | None = None,
        link_timeout_seconds: float = LINK_TIMEOUT_SECONDS,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Make a sender that has no link yet; it dials when it is first used.

        Args:
            relay_url: ``https://host:port``.
            ssl_context: verifies the relay. Whoever has an SVID gives a function: it is called for each new link, so
                that renewed certificates are used, and then the certificate authorises the link.
            link_token: authorises the link; with neither it nor an SVID, the token of the call that needs the link
                does.
            dial: opens a link in place of a TLS connection to `relay_url`.
            link_timeout_seconds: how long a call waits for a link before it fails with `Unreachable`.
            clock: where the time is read.
            rng: the randomness of the back-off.
        """
        self._link_token = link_token
        self._has_certificate = not isinstance(ssl_context, TlsContext)
        self._link_timeout_seconds = link_timeout_seconds
        self._keeper = LinkKeeper(
            relay_url,
            dial or tls_dial(relay_url, ssl_context),
            clock=clock or SystemClock(),
            backoff=Backoff(rng or random.SystemRandom()),
        )

    @property
    def linked(self) -> bool:
        """Whether there is a link that takes calls."""
        return self._keeper.linked

    @property
    def linking(self) -> bool:
        """Whether there is such a link, or one is being dialled."""
        return self._keeper.linked or self._keeper.dialling

    @property
    def failing(self) -> bool:
        """Whether there is no link since it was lost, or could not be made, and no attempt has succeeded yet."""
        return self._keeper.failing

    async def connect(self, token: str | None = None, *, timeout_seconds: float | None = None) -> None:
        """Open the link now instead of at the first call; raises what a call raises.

        `timeout_seconds` bounds the wait instead of the sender's own `link_timeout_seconds`.
        """
        await self._acquire(token, timeout_seconds)

    async def request(
        self,
        method: str,
        host: str,
        path: str,
        *,
        token: str | None = None,
        fields: Fields = (),
        body: Body = None,
        timeout_seconds: float | None = HEAD_TIMEOUT_SECONDS,
    ) -> NodeResponse:
        """Make one call and return as soon as the head of the answer is there.

        Args:
            method: the HTTP method.
            host: ``node.workspace.suffix``, with ``:port`` for another port than the agent's 80.
            path: the path with its query, in origin-form.
            token: the call token of this stream; an SVID alone authorises nothing at a node.
            fields: further header fields; those that frame, route or authorise the stream are the sender's own.
            body: bytes or a `SizedBody`, sent with their length, or an iterable of pieces, sent in chunks; as credit
                allows.
            timeout_seconds: bound for the link, the request and the head of the answer together; None waits for ever.

        Raises:
            Unreachable: there is no link to the relay.
            RelayRefused: the relay answered instead of the node; the subclass says why.
            DeadlineExceeded: no answer in time; the stream was reset, so the node's handler is cancelled.
            CallInterrupted: the stream or its link was lost before the head.
            BadResponse: the answer is not HTTP.
            ValueError: method, host, path or a field could not be written as one line.
        """
        head = _request_head(method.encode("ascii"), host, path, token, fields, body)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._call(method.encode(), head, body, token)
        except TimeoutError:
            raise DeadlineExceeded(f"{host} did not answer within {timeout_seconds:g} s") from None

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        token: str | None = None,
        timeout_seconds: float | None = HEAD_TIMEOUT_SECONDS,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open raw bytes to a port of a node with CONNECT; half-close works in both directions.

        Port 80 is the agent's own API. Closing the writer ends the stream, and aborting its transport resets it.

        Raises:
            ApiError: the node's agent refuses the port, or cannot reach it.
            TrunklineError: as `request`.
        """
        authority = f"{host}:{port}"
        head = _request_head(b"CONNECT", authority, authority, token, (), None)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._become_raw(b"CONNECT", authority, head, token)
        except TimeoutError:
            raise DeadlineExceeded(f"{authority} was not opened within {timeout_seconds:g} s") from None

    async def open_upgraded(
        self,
        host: str,
        path: str,
        protocol: bytes,
        *,
        token: str | None = None,
        timeout_seconds: float | None = HEAD_TIMEOUT_SECONDS,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open raw bytes with GET and an Upgrade to `protocol` (RFC 9110 section 7.8).

        Raises:
            ApiError: whoever answers does not agree to it.
            TrunklineError: as `request`.
        """
        asked = (b"Connection", b"Upgrade"), (b"Upgrade", protocol)
        head = write_request_head(b"GET", path.encode("ascii"), [*_routing_fields(host, token), *asked])
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._become_raw(b"GET", f"{host}{path}", head, token, protocol)
        except TimeoutError:
            raise DeadlineExceeded(f"{host} did not answer within {timeout_seconds:g} s") from None

    async def close(self, *, timeout_seconds: float = LONGEST_SECONDS) -> None:
        """Close the link, once the relay has what was written, or the time has passed, when it is cut.

        Calls under way end with `CallInterrupted`.
        """
        await self._keeper.close(timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self, method: bytes, token: str | None, upgrade: bytes | None = None) -> Exchange:
        loop = asyncio.get_running_loop()
        for _ in range(_MOST_OPENINGS):
            link = await self._acquire(token)
            try:
                return Exchange.open(link, method, loop, upgrade)
            except LimitExceeded as error:
                if error.code in _FULL:
                    await _wait_until_openable(link, loop)
                else:
                    self._keeper.discard(link)
            except ChannelError:
                self._keeper.discard(link)  # it ended in this very moment
        raise CallInterrupted("the relay takes no further calls at present", never_sent=True)

    async def _acquire(self, token: str | None, timeout_seconds: float | None = None) -> Link:
        link_token = self._link_token or (None if self._has_certificate else token)
        return await self._keeper.acquire(link_token, timeout_seconds or self._link_timeout_seconds)

    async def _call(self, method: bytes, head: bytes, body: Body, token: str | None) -> NodeResponse:
        exchange = await self._open(method, token)
        upload: asyncio.Task[None] | None = None
        try:
            if body is None or isinstance(body, bytes):
                upload = await _send_whole(exchange, head + (body or b""))
            else:
                upload = asyncio.create_task(_send_pieces(exchange, head, body), name="trunkline-upload")
            answer = await exchange.wait_for_head()
            response = NodeResponse(answer.status, _decoded_fields(answer), exchange, upload)
        except BaseException:
            await _give_up(exchange, upload)
            raise
        await _raise_if_refused(response, method)
        return response

    async def _become_raw(
        self, method: bytes, what: str, head: bytes, token: str | None, upgrade: bytes | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        exchange = await self._open(method, token, upgrade)
        try:
            await exchange.write(head)
            answer = await exchange.wait_for_head()
        except BaseException:
            exchange.cancel()
            raise
        if answer.framing is Framing.TUNNEL:
            return adopt_stream_pair(*exchange.detach())
        response = NodeResponse(answer.status, _decoded_fields(answer), exchange)
        await _raise_if_refused(response, method)
        raise await read_error(response, f"the node refused {what}")


def _request_head(method: bytes, host: str, path: str, token: str | None, fields: Fields, body: Body) -> bytes:
    lines = [*_routing_fields(host, token), (b"Connection", b"close")]
    lines += [
        (name.encode("ascii"), value.encode("latin-1")) for name, value in fields if name.lower() not in _OWN_FIELDS
    ]
    length_bytes = _length_bytes(method, body)
    if length_bytes is not None:
        lines.append((b"Content-Length", b"%d" % length_bytes))
    elif body is not None:
        lines.append((b"Transfer-Encoding", b"chunked"))
    return write_request_head(method, path.encode("ascii"), lines)


def _length_bytes(method: bytes, body: Body) -> int | None:
    """The content's length to be named; None where there is no content, or it goes in chunks."""
    if body is None:
        return 0 if method in _METHODS_WITH_BODY else None
    if isinstance(body, SizedBody):
        return body.length_bytes
    return len(body) if isinstance(body, bytes) else None


def _routing_fields(host: str, token: str | None) -> list[tuple[bytes, bytes]]:
    fields = [(b"Host", host.encode("ascii"))]
    if token is not None:
        fields.append((b"Proxy-Authorization", b"Bearer " + token.encode("ascii")))
    return fields


async def _wait_until_openable(link: Link, loop: asyncio.AbstractEventLoop) -> None:
    """Queue behind the others who wait for the relay to acknowledge streams."""
    openable = loop.create_future()
    link.call_when_openable(lambda: None if openable.done() else openable.set_result(None))
    await openable


async def _send_whole(exchange: Exchange, request: bytes) -> asyncio.Task[None] | None:
    """Write a request at once if the stream has room for it, which is the rule; else return the task that writes it."""
    if exchange.write_now(request):
        exchange.request_sent()
        return None
    return asyncio.create_task(_send_slowly(exchange, request), name="trunkline-upload")


async def _send_slowly(exchange: Exchange, request: bytes) -> None:
    try:
        await exchange.write(request)
    except TrunklineError:
        return  # the reader of the answer meets the same error
    exchange.request_sent()


async def _send_chunked(exchange: Exchange, body: AsyncIterable[bytes]) -> None:
    async for piece in body:
        if piece:
            await exchange.write(encode_chunk(piece))
    await exchange.write(LAST_CHUNK)


async def _send_counted(exchange: Exchange, body: SizedBody) -> None:
    left_bytes = body.length_bytes
    async for piece in body.pieces:
        left_bytes -= len(piece)
        if left_bytes < 0:
            break
        await exchange.write(piece)
    if left_bytes:
        raise ValueError(f"it has not the {body.length_bytes} bytes that were announced")


async def _send_pieces(exchange: Exchange, head: bytes, body: AsyncIterable[bytes] | SizedBody) -> None:
    try:
        await exchange.write(head)
        if isinstance(body, SizedBody):
            await _send_counted(exchange, body)
        else:
            await _send_chunked(exchange, body)
    except TrunklineError as error:
        exchange.fail(error)
    except Exception as error:  # noqa: BLE001 - whatever the caller's own iterable raises ends the call
        exchange.fail(CallInterrupted(f"the request body failed: {type(error).__name__}: {error}"))
    else:
        exchange.request_sent()


async def _give_up(exchange: Exchange, upload: asyncio.Task[None] | None) -> None:
    exchange.cancel()
    if upload is not None and not upload.done():
        upload.cancel()
        await asyncio.wait([upload])


async def _raise_if_refused(response: NodeResponse, method: bytes) -> None:
    proxy_status = response.get("proxy-status")
    if not is_relay_made(proxy_status):
        return
    body = await response.read(limit_bytes=LARGEST_REFUSAL_BYTES)
    raise refused_call(response, body, repeatable=method in IDEMPOTENT_METHODS)


def _decoded_fields(head: ResponseHead) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.fields]
