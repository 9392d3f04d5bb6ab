"""Control exchanges that a listener opens: `PUT /v1/token` to `link.internal`, served on a stream of its link.

Everything is small and bounded: a head, a body of at most one token, a deadline for the whole exchange. An answer waits
for its turn on the link, and its exchange is not over before it has gone out: a listener that asks and takes no answers
soon has as many exchanges as it may.
"""

import asyncio
import json
from collections.abc import Callable

from certs.jose import MAX_TOKEN_BYTES
from relay.links.notices import CONTROL_HOST
from relay.trust.credentials import Refusal
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import Framing, HeadBuffer, HeadError, RequestHead, parse_request_head, write_response_head
from trunkline.channel.link import LinkStream

TOKEN_PATH = b"/v1/token"

Renew = Callable[[str], Refusal | None]


class ControlExchange:
    """One request of a listener to its relay, from its first byte to the answer.

    `renew` takes the text of a new listen token and returns why it is refused, or `None` when it has been taken;
    `ended` is called once, when nothing of the exchange is left.
    """

    __slots__ = (
        "_all_said",
        "_answer",
        "_body",
        "_deadline",
        "_ended",
        "_expected_bytes",
        "_head",
        "_renew",
        "_stream",
    )

    def __init__(self, stream: LinkStream, renew: Renew, ended: Callable[[], None], *, timeout_seconds: float) -> None:
        self._stream: LinkStream | None = stream
        self._renew = renew
        self._ended: Callable[[], None] | None = ended
        self._head: HeadBuffer | None = HeadBuffer()
        self._body = bytearray()
        self._expected_bytes = 0
        self._answer: bytes | None = None
        self._all_said = False
        self._deadline = asyncio.get_running_loop().call_later(timeout_seconds, self._reset)

    def data_received(self, data: bytes | memoryview) -> None:
        """Collect the head, then the body; answer when both are there."""
        if self._stream is None:
            return
        self._stream.consumed(len(data))
        if self._answer is not None:
            return
        if self._head is None:
            self._take_body(data)
            return
        try:
            raw = self._head.receive_data(data)
            if raw is None:
                return
            refused = self._read_head(parse_request_head(raw))
        except HeadError as error:
            self._reply(error.status, "BAD_REQUEST", str(error))
            return
        if refused is not None:
            self._reply(*refused)
            return
        leftover, self._head = self._head.leftover, None
        self._take_body(leftover)

    def end_received(self) -> None:
        """The listener has said all; without a whole request there is nothing to answer."""
        self._all_said = True
        if self._answer is None:
            self._reset()
        elif not self._answer:
            self._forget()

    def window_opened(self) -> None:
        """There is room for the answer, which is smaller than any first window."""
        stream, answer = self._stream, self._answer
        if stream is not None and answer and stream.send_room_bytes:
            self._answer = b""
            stream.write(answer, end=True)
            if self._all_said:
                self._forget()

    def stream_lost(self, error: ChannelError) -> None:
        """The listener gave up, or its link is gone."""
        self._forget()

    def _read_head(self, head: RequestHead) -> tuple[int, str, str] | None:
        if head.host != CONTROL_HOST or head.target_origin != TOKEN_PATH:
            return 404, "RESOURCE_DOES_NOT_EXIST", "a listener may only put /v1/token to link.internal"
        if head.method != b"PUT":
            return 405, "BAD_REQUEST", "use PUT"
        if head.framing is not Framing.LENGTH or not 0 < head.content_length <= MAX_TOKEN_BYTES:
            return (
                400,
                "BAD_REQUEST",
                f"the body is the token, at most {MAX_TOKEN_BYTES} bytes, with its Content-Length",
            )
        self._expected_bytes = head.content_length
        return None

    def _take_body(self, data: bytes | memoryview) -> None:
        self._body += data
        if len(self._body) < self._expected_bytes:
            return
        if len(self._body) > self._expected_bytes:
            self._reply(400, "BAD_REQUEST", "there are bytes behind the body")
            return
        refusal = self._renew(self._body.decode("latin-1"))
        if refusal is None:
            self._reply(204)
        else:
            self._reply(refusal.outcome.http_status, refusal.outcome.error_code, refusal.message)

    def _reply(self, status: int, error_code: str = "", message: str = "") -> None:
        body = json.dumps({"error_code": error_code, "message": message}).encode() if error_code else b""
        fields = [(b"Connection", b"close")]
        if body:
            fields += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        self._answer = write_response_head(status, fields) + body
        self.window_opened()

    def _reset(self) -> None:
        stream = self._stream
        self._forget()
        if stream is not None:
            stream.reset()

    def _forget(self) -> None:
        self._stream = None
        self._deadline.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
