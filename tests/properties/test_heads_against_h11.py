"""Whatever the strict codec accepts, h11 reads the same way."""

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from trunkline.channel.bodies import BodyError, BodyReader
from trunkline.channel.fields import Framing
from trunkline.channel.heads import HeadError, parse_request_head, parse_response_head

NAMES = [
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"Expect",
    b"X",
    b"TE",
    b"Trailer",
]
VALUES = [
    b"a", b"a:80", b"3", b"03", b"+3", b"3, 3", b"chunked", b"Chunked", b"gzip, chunked", b"close", b"upgrade, close",
    b"websocket", b"100-continue", b"", b" a ", b"a\tb", b"\x0b", b"a\r", b"a\n b", b"\xff",
]  # fmt: skip
STARTS = [
    b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET http://a/ HTTP/1.1", b"CONNECT a:80 HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET / HTTP/1.0", b"HEAD / HTTP/1.1", b"GET / HTTP/1.2", b"GET /", b"GET  / HTTP/1.1",
]  # fmt: skip
STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Same", b"HTTP/1.0 200 OK", b"HTTP/1.1 404",
    b"HTTP/1.1 100 C",
    b"HTTP/1.1 099 X", b"HTTP/1.1 600 X",
]  # fmt: skip
SEPARATORS = [b": ", b":", b":  ", b" :", b":\t"]
LINE_ENDS = [b"\r\n"] * 12 + [b"\n", b"\r"]

lines = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(SEPARATORS), st.sampled_from(VALUES), st.sampled_from(LINE_ENDS)),
    max_size=5,
)


def joined(start: bytes, fields) -> bytes:
    return start + b"\r\n" + b"".join(b"".join(line) for line in fields) + b"\r\n"


def mutated(raw: bytes, position: int, byte: int | None) -> bytes:
    if byte is None or not raw:
        return raw
    position %= len(raw)
    return raw[:position] + bytes([byte]) + raw[position + 1 :]


mutations = st.tuples(st.integers(0, 400), st.none() | st.integers(0, 255))


def lowered(fields):
    return [(name.lower(), value) for name, value in fields]


@given(st.sampled_from(STARTS), lines, mutations)
@example(b"GET / HTTP/1.1", [(b"Host", b": ", b"a", b"\r\n")], (0, None))
def test_accepted_requests_are_read_alike(start, fields, mutation) -> None:
    raw = mutated(joined(start, fields), *mutation)
    try:
        head = parse_request_head(raw)
    except HeadError:
        return
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    server.receive_data(raw)
    event = server.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, event.http_version) == (head.method, head.target, b"1.%d" % head.minor_version)
    # h11 folds the case of the coding; apart from that it keeps the values.
    assert [name for name, _ in event.headers] == [name for name, _ in lowered(head.fields)]
    for (name, theirs), (_, ours) in zip(event.headers, head.fields, strict=True):
        assert theirs == (ours.lower() if name == b"transfer-encoding" else ours)
    follows = server.next_event()
    if head.framing in (Framing.NONE, Framing.TUNNEL) or (head.framing is Framing.LENGTH and head.content_length == 0):
        assert isinstance(follows, h11.EndOfMessage)
    else:
        assert follows is h11.NEED_DATA


@given(st.sampled_from(STATUS_LINES), lines, mutations, st.sampled_from([b"GET", b"HEAD", b"CONNECT"]))
def test_accepted_responses_are_read_alike(start, fields, mutation, method) -> None:
    raw = mutated(joined(start, fields), *mutation)
    try:
        head = parse_response_head(raw, request_method=method)
    except HeadError:
        return
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=100_000)
    client.send(h11.Request(method=method, target="a:1" if method == b"CONNECT" else "/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    event = client.next_event()
    assert isinstance(event, h11.InformationalResponse if head.status < 200 else h11.Response)
    assert event.status_code == head.status
    assert [name for name, _ in event.headers] == [name for name, _ in lowered(head.fields)]
    if head.status < 200:
        return
    if head.framing is Framing.TUNNEL:
        assert client.their_state is h11.SWITCHED_PROTOCOL
    elif head.framing is Framing.NONE or (head.framing is Framing.LENGTH and head.content_length == 0):
        assert isinstance(client.next_event(), h11.EndOfMessage)
    else:
        assert client.next_event() is h11.NEED_DATA


chunk_pieces = st.lists(
    st.sampled_from(
        [b"0\r\n", b"\r\n", b"1\r\n", b"a\r\n", b"x", b"5\r\nhello\r\n", b"3;e\r\n", b"A: b\r\n", b"\n", b"1 "]
    ),
    max_size=12,
).map(b"".join)


def read_by_h11(data: bytes):
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    server.next_event()
    content = b""
    while isinstance(event := server.next_event(), h11.Data):
        content += bytes(event.data)
    ended = isinstance(event, h11.EndOfMessage)
    trailers = list(event.headers) if ended else []
    return content, ended, trailers, bytes(server.trailing_data[0]) if ended else b""


@given(chunk_pieces, st.integers(1, 9))
def test_accepted_chunked_bodies_are_read_alike(data: bytes, step: int) -> None:
    reader = BodyReader(Framing.CHUNKED)
    content, leftover = b"", b""
    try:
        for start in range(0, len(data), step):
            piece = reader.receive_data(data[start : start + step])
            content += b"".join(piece.chunks)
            leftover += piece.leftover
    except BodyError:
        return
    assert (content, reader.ended, lowered(reader.trailers), leftover) == read_by_h11(data)
