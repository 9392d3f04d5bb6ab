"""Control exchanges: what the relay and this agent tell each other, as ordinary exchanges with `link.internal`."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from certs.trust import MAX_DOCUMENT_BYTES
from node_agent.exchanges.deadlines import Deadlines
from node_agent.exchanges.refusing import Unwanted, write_refusal
from trunkline.channel.bodies import BodyError, BodyReader
from trunkline.channel.errors import ChannelError, ConnectionLost
from trunkline.channel.heads import (
    HeadBuffer,
    HeadError,
    RequestHead,
    parse_response_head,
    write_request_head,
    write_response_head,
)
from trunkline.channel.link import Link, LinkStream

CONTROL_HOST = b"link.internal"
NOTICE_PATH = b"/v1/notice"
TOKEN_PATH = b"/v1/token"
MAX_NOTICE_BYTES = MAX_DOCUMENT_BYTES + 65_536
MOST_NOTICES = 4
"""Of one link at a time; a relay sends trust documents one after the other, and what else it says is short."""

NoticeReceiver = Callable[[dict[str, Any]], None]


class NoticeExchange:
    """A notice of the relay's, read to its end, handed on and acknowledged."""

    def __init__(
        self, stream: LinkStream, head: RequestHead, receiver: NoticeReceiver, lingering: Deadlines[LinkStream]
    ) -> None:
        self._stream = stream
        self._receiver = receiver
        self._lingering = lingering
        self._body = BodyReader(head.framing, head.content_length)
        self._content = bytearray()
        lingering.add(stream)

    def comes_by(self, link: object) -> bool:
        """Whether it is still on its way, by this link."""
        return self._stream.link is link and self._stream.handler is self

    def data_received(self, data: bytes | memoryview) -> None:
        """Collect the body; when it is whole, hand it on."""
        try:
            piece = self._body.receive_data(data)
        except BodyError:
            self._stream.reset()
            return
        for chunk in piece.chunks:
            self._content += chunk
        self._stream.consumed(len(data))
        if len(self._content) > MAX_NOTICE_BYTES:
            self._answer(write_refusal(413, "BAD_REQUEST", "the notice is too long"))
        elif piece.ended:
            self._deliver()

    def end_received(self) -> None:
        """A notice that ends before its body does is dropped; the relay says it again."""
        self._lingering.discard(self._stream)
        self._stream.reset()

    def window_opened(self) -> None:
        """Nothing waits."""

    def stream_lost(self, error: ChannelError) -> None:
        """The relay gave it up."""
        self._lingering.discard(self._stream)

    def _deliver(self) -> None:
        try:
            notice = json.loads(bytes(self._content))
        except (ValueError, RecursionError):
            notice = None
        if not isinstance(notice, dict) or not isinstance(notice.get("type"), str):
            self._answer(write_refusal(400, "BAD_REQUEST", "a notice is a JSON object with a type"))
            return
        self._answer(write_response_head(204, [(b"Connection", b"close")]))
        self._receiver(notice)

    def _answer(self, response: bytes) -> None:
        self._stream.handler = Unwanted(self._stream, self._lingering)
        self._stream.write(response, end=True)


class OpenNotices:
    """The notices that are on their way; each is collected whole, so that each link may have a few only."""

    def __init__(self) -> None:
        self._open: WeakSet[NoticeExchange] = WeakSet()

    def has_room(self, stream: LinkStream) -> bool:
        """Whether one more may come by the stream's link."""
        return sum(notice.comes_by(stream.link) for notice in self._open) < MOST_NOTICES

    def add(self, notice: NoticeExchange) -> None:
        """Count one, until it is over."""
        self._open.add(notice)


def offers_notice(head: RequestHead) -> bool:
    """Whether a control exchange of the relay's is a notice, which is all that there is."""
    return head.method == b"POST" and head.target_origin == NOTICE_PATH


async def put_token(link: Link, token: str, *, timeout_seconds: float = 10.0) -> int:
    """Give the relay at the other end a new listen token; return the HTTP status of its answer.

    Raises:
        ChannelError: the link is gone or going, or there is no answer in time.
    """
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stream = link.open()
    stream.handler = _AwaitedAnswer(stream, answered)
    content = token.encode("ascii")
    head = write_request_head(
        b"PUT",
        TOKEN_PATH,
        [
            (b"Host", CONTROL_HOST),
            (b"Content-Type", b"text/plain"),
            (b"Content-Length", b"%d" % len(content)),
            (b"Connection", b"close"),
        ],
    )
    stream.write(head + content)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await answered
    except TimeoutError:
        raise ConnectionLost("the relay did not answer a new listen token") from None
    finally:
        if answered.cancelled() or answered.exception() is not None:
            stream.reset()
        elif stream.writable:
            stream.end()


class _AwaitedAnswer:
    """Waits for the head of an answer; the body is of no interest."""

    def __init__(self, stream: LinkStream, answered: asyncio.Future[int]) -> None:
        self._stream = stream
        self._answered = answered
        self._buffer = HeadBuffer()

    def data_received(self, data: bytes | memoryview) -> None:
        self._stream.consumed(len(data))
        if self._answered.done():
            return
        try:
            raw = self._buffer.receive_data(data)
            if raw is not None:
                self._answered.set_result(parse_response_head(raw, request_method=b"PUT").status)
        except HeadError:
            self._answered.set_exception(ConnectionLost("the relay's answer cannot be read"))

    def end_received(self) -> None:
        self.stream_lost(ConnectionLost("the relay ended the exchange without an answer"))

    def window_opened(self) -> None:
        pass

    def stream_lost(self, error: ChannelError) -> None:
        if not self._answered.done():
            self._answered.set_exception(error)
