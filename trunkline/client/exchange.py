"""One HTTP exchange on a stream of its own, seen from the sender.

Theory of operation. `Exchange` is the handler of a link's stream: the link calls it synchronously, the caller's tasks
await on it. It goes HEAD → BODY → ENDED; a 2xx answer to CONNECT goes HEAD → RAW instead, where the caller takes the
stream over with `detach`; so does a 101 to the upgrade that was asked for. What arrives is kept until the caller takes
it, and only then is its credit given back, so that never more than the stream's window is held. No FIN is sent before
the response has ended, because some listeners take a FIN for the caller having gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import Self

from trunkline.channel.bodies import BodyError, BodyReader
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import Framing, HeadBuffer, HeadError, ResponseHead, parse_response_head
from trunkline.channel.link import Link, LinkStream
from trunkline.client.errors import BadResponse, CallInterrupted, TrunklineError

IDEMPOTENT_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_MOST_INTERIM_HEADS = 8


class _Phase(Enum):
    HEAD = "head"
    BODY = "body"
    RAW = "raw"
    ENDED = "ended"


class Exchange:
    """The state of one call, between the link that feeds it and the tasks that wait for it."""

    __slots__ = (
        "_body",
        "_chunks",
        "_error",
        "_head_buffer",
        "_interim_heads",
        "_loop",
        "_method",
        "_phase",
        "_request_sent",
        "_stream",
        "_upgrade",
        "_waiters",
        "head",
    )

    _body: BodyReader  # from the head on
    _stream: LinkStream

    def __init__(self, method: bytes, loop: asyncio.AbstractEventLoop, upgrade: bytes | None = None) -> None:
        self._method = method
        self._upgrade = upgrade
        self._loop = loop
        self._phase = _Phase.HEAD
        self._head_buffer = HeadBuffer()
        self._interim_heads = 0
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._error: TrunklineError | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._request_sent = False
        self.head: ResponseHead | None = None

    @classmethod
    def open(cls, link: Link, method: bytes, loop: asyncio.AbstractEventLoop, upgrade: bytes | None = None) -> Self:
        """A new exchange on a new stream of `link`, perhaps to be upgraded; raises what ``Link.open`` raises."""
        exchange = cls(method, loop, upgrade)
        exchange._stream = link.open(exchange)
        return exchange

    # What the caller's tasks use.

    @property
    def ended(self) -> bool:
        """Whether the response has ended, well or badly."""
        return self._phase is _Phase.ENDED

    def write_now(self, data: bytes) -> bool:
        """Send all of `data` if the stream has room for it, else nothing; returns whether it was sent."""
        if len(data) > self._stream.send_room_bytes:
            return False
        self._stream.write(data)
        return True

    async def write(self, data: bytes | memoryview) -> None:
        """Send request bytes as the stream's window allows; what is left is dropped once the response has ended.

        Raises:
            CallInterrupted: the stream or its link was lost.
        """
        view = memoryview(data)
        while view and not self.ended:
            room_bytes = self._stream.send_room_bytes
            if room_bytes == 0:
                await self._wait()
            else:
                self._stream.write(view[:room_bytes])
                view = view[room_bytes:]
        if self._error is not None:
            raise self._error

    def request_sent(self) -> None:
        """Record that the whole request was written, so that the stream can be ended with the response."""
        self._request_sent = True

    async def wait_for_head(self) -> ResponseHead:
        """The head of the final response.

        Raises:
            CallInterrupted: the stream or its link was lost.
            BadResponse: the answer is not HTTP.
        """
        while self.head is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self.head

    async def next_chunk(self) -> bytes:
        """The next piece of the body, or empty bytes at its end.

        Raises:
            CallInterrupted: the stream or its link was lost before the body had ended.
            BadResponse: the framing of the body is broken.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.ended:
                return b""
            await self._wait()
        chunk, credit_bytes = self._chunks.popleft()
        self._give_credit(credit_bytes)
        return chunk

    def cancel(self) -> None:
        """Reset the stream, which cancels the handler at the node; nothing happens after the end."""
        if not self.ended:
            self._fail(CallInterrupted("the call was cancelled by its caller"))

    def fail(self, error: TrunklineError) -> None:
        """End the exchange with `error`, for the caller's own reason, and reset the stream."""
        if not self.ended:
            self._fail(error)

    def detach(self) -> tuple[LinkStream, bytes]:
        """Hand the raw stream over with what already arrived on it; its next owner grants credit for those bytes."""
        arrived = b"".join(chunk for chunk, _ in self._chunks)
        self._chunks.clear()
        return self._stream, arrived

    # What the link calls.

    def data_received(self, data: bytes | memoryview) -> None:
        """Take bytes of the response."""
        if self._phase is _Phase.HEAD:
            self._receive_head(data)
        elif self._phase is _Phase.BODY:
            self._receive_body(data, len(data))
        elif self._phase is _Phase.RAW:
            self._keep_chunks([bytes(data)], len(data))
        else:
            self._give_credit(len(data))

    def end_received(self) -> None:
        """Take the peer's FIN: the end of a close-delimited body, and an error before any other end."""
        if self._phase is _Phase.BODY and self.head is not None and self.head.framing is Framing.CLOSE:
            self._end()
        elif self._phase in (_Phase.HEAD, _Phase.BODY):
            self._fail(self._interrupted("the node ended its answer too early"))

    def window_opened(self) -> None:
        """Let a waiting writer go on."""
        self._wake()

    def stream_lost(self, error: ChannelError) -> None:
        """Take the loss of the stream: reset by the peer, or with its link."""
        if self._phase is not _Phase.ENDED:
            self._phase = _Phase.ENDED
            if self._stream.refused:
                self._error = CallInterrupted("the relay takes no further calls on this link", never_sent=True)
            else:
                self._error = self._interrupted(f"the call was cut off: {error}")
            self._wake()

    # The response.

    def _receive_head(self, data: bytes | memoryview) -> None:
        try:
            while len(data) and self._phase is _Phase.HEAD:
                raw = self._head_buffer.receive_data(data)
                if raw is None:
                    return
                data = self._head_buffer.leftover
                self._give_credit(len(raw))
                self._take_head(parse_response_head(raw, request_method=self._method, upgrade=self._upgrade), data)
        except HeadError as error:
            self._fail(BadResponse(f"the answer is not HTTP: {error}"))

    def _take_head(self, head: ResponseHead, rest: bytes) -> None:
        if head.status < 200 and head.framing is not Framing.TUNNEL:
            self._interim_heads += 1
            if self._interim_heads > _MOST_INTERIM_HEADS:
                self._fail(BadResponse("too many interim answers came before the final one"))
            return
        self.head = head
        if head.framing is Framing.TUNNEL:
            self._phase = _Phase.RAW
            self._keep_chunks([rest] if rest else [], len(rest))
        else:
            self._phase = _Phase.BODY
            self._body = BodyReader(head.framing, head.content_length or 0)
            self._receive_body(rest, len(rest))
        self._wake()

    def _receive_body(self, data: bytes | memoryview, credit_bytes: int) -> None:
        try:
            chunks, ended, leftover = self._body.receive_data(data)
        except BodyError as error:
            self._fail(BadResponse(f"the body of the answer is broken: {error}"))
            return
        self._keep_chunks([bytes(chunk) for chunk in chunks if len(chunk)], credit_bytes)
        if len(leftover):
            self._fail(BadResponse("bytes followed the end of the answer"))
        elif ended:
            self._end()

    def _keep_chunks(self, chunks: list[bytes], credit_bytes: int) -> None:
        if not chunks:
            self._give_credit(credit_bytes)
            return
        for chunk in chunks[:-1]:
            self._chunks.append((chunk, 0))
        self._chunks.append((chunks[-1], credit_bytes))
        self._wake()

    # The end.

    def _end(self) -> None:
        self._phase = _Phase.ENDED
        if self._request_sent:
            self._stream.end()
        else:
            self._stream.reset()
        self._wake()

    def _fail(self, error: TrunklineError) -> None:
        self._phase = _Phase.ENDED
        self._error = error
        self._chunks.clear()
        self._stream.reset()
        self._wake()

    def _interrupted(self, message: str) -> CallInterrupted:
        return CallInterrupted(message, retry=self._method in IDEMPOTENT_METHODS)

    # Waiting.

    def _give_credit(self, size_bytes: int) -> None:
        if size_bytes and self._phase is not _Phase.ENDED:
            self._stream.consumed(size_bytes)

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:  # or else each wait that is given up would leave something behind
                self._waiters.remove(waiter)
            raise

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
