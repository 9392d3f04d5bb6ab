import pytest

from relay.calls.response_content import content_of
from tests.relay.calls.test_exchange import begin
from tests.relay.doors.test_forwarding import answered, forwarded
from tests.support.small_relay import SmallRelay, on_relay, settle
from trunkline.channel.bodies import LARGE_CHUNK_BYTES, BodyError, Chunk
from trunkline.channel.outcomes import Outcome


class Taken:
    """A sender that takes everything."""

    congested = closing = False

    def __init__(self) -> None:
        self.received = b""

    def deliver(self, data: Chunk) -> None:
        self.received += data

    def deliver_pieces(self, pieces: list[Chunk]) -> None:
        self.received += b"".join(pieces)

    def call_ended(self, *, keep_alive: bool) -> None:
        raise AssertionError

    def call_refused(self, outcome: Outcome, message: str) -> None:
        raise AssertionError

    def call_broken(self) -> None:
        raise AssertionError

    def request_passed(self) -> None:
        raise AssertionError

    def request_taken(self) -> None:
        raise AssertionError

    def became_raw(self) -> None:
        raise AssertionError

    def raw_ended(self) -> None:
        raise AssertionError


COUNTED = answered(b"Content-Length: 10")
CHUNKED = answered(b"Transfer-Encoding: chunked")
CLOSED = answered()
CLOSED_OUT = answered(b"Transfer-Encoding: chunked", request=forwarded(start=b"GET /a HTTP/1.0"))
TEN_IN_CHUNKS = b"4\r\n0123\r\n6\r\n456789\r\n0\r\n"


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("response", "data", "wanted"),
    [
        (COUNTED, b"0123456789", b"0123456789"),
        (COUNTED, b"0123456789late", b"0123456789"),
        (CHUNKED, TEN_IN_CHUNKS + b"\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"),
        (CHUNKED, TEN_IN_CHUNKS + b"\r\nlate", b"a\r\n0123456789\r\n0\r\n\r\n"),
        (CHUNKED, TEN_IN_CHUNKS + b"A: b\r\n\r\n", b"a\r\n0123456789\r\n0\r\nA: b\r\n\r\n"),
        (CLOSED_OUT, TEN_IN_CHUNKS + b"A: b\r\n\r\n", b"0123456789"),
    ],
)
def test_content_ends_once_in_the_senders_framing(response, data: bytes, wanted: bytes, step: int) -> None:
    content, sender, size = content_of(response, forwarded().door), Taken(), 0
    for start in range(0, len(data), step):
        size += content.pass_on(data[start : start + step], sender)
        if content.ended:
            break
    assert size == 10
    assert content.ended
    behind = data[start + step :] + (data[start : start + step] if content.late else b"")
    assert bool(behind) == data.endswith(b"late")
    if step > len(data):
        assert sender.received == wanted
    else:
        assert sender.received.endswith(wanted[-4:])
    with pytest.raises(BodyError):
        content_of(response, forwarded().door).receive_end(sender)


def test_the_streams_end_is_the_end_of_content_that_has_no_other() -> None:
    content, sender = content_of(CLOSED, forwarded().door), Taken()
    assert content.pass_on(b"hello", sender) == 5
    assert not content.ended
    content.receive_end(sender)
    assert content.ended
    assert sender.received == b"5\r\nhello\r\n0\r\n\r\n"


def test_large_content_is_one_chunk_in_pieces() -> None:
    content, sender = content_of(CLOSED, forwarded().door), Taken()
    assert content.pass_on(b"x" * LARGE_CHUNK_BYTES, sender) == LARGE_CHUNK_BYTES
    assert sender.received == b"4000\r\n" + b"x" * LARGE_CHUNK_BYTES + b"\r\n"


def test_what_breaks_its_framing_is_not_passed_on() -> None:
    content, sender = content_of(CHUNKED, forwarded().door), Taken()
    with pytest.raises(BodyError):
        content.pass_on(b"3\r\nabcd\r\n", sender)
    assert sender.received == b""


CUT_SHORT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "chunked_garbage": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;x\r\nabc\r\n",
    "chunked_framing_trailer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 1\r\n\r\n"
    ),
}


@pytest.mark.parametrize("answer", CUT_SHORT.values(), ids=CUT_SHORT.keys())
@on_relay()
async def test_response_cut_short_is_never_a_success(relay: SmallRelay, answer: bytes) -> None:
    call, sender = await begin(relay)
    call.answer(answer)
    await settle()
    assert isinstance(sender.error, ConnectionResetError)
    assert b"0\r\n\r\n" not in bytes(sender.received)
