"""What is fuzzed: one function for each parser that bytes of strangers reach, with what no input may break.

A target returns nothing and raises only when something is wrong: an error that the parser does not document, another
result for the same bytes in other pieces, or something accepted that does not mean one thing only.
"""

from collections.abc import Callable

from certs.errors import TokenError
from certs.jose import parse_compact
from tests.support.session_pair import SessionPair
from tests.support.websocket_core import MOST_MESSAGE_BYTES, read_by_core
from trunkline.channel.bodies import BodyError, BodyReader
from trunkline.channel.errors import RemoteProtocolError
from trunkline.channel.fields import Framing, HeadError
from trunkline.channel.frames import CONTINUED, HEADER_BYTES, FrameDecoder, encode_header
from trunkline.channel.heads import (
    HeadBuffer,
    parse_request_head,
    parse_response_head,
    write_request_head,
    write_response_head,
)
from trunkline.channel.shell_frames import HEADER_BYTES as SHELL_HEADER_BYTES
from trunkline.channel.shell_frames import MAX_PAYLOAD_BYTES, ShellFrameDecoder, encode_frame
from trunkline.channel.websocket_payload import PayloadReader

WINDOWS = (64, 256, 1000)
REFUSALS = (400, 414, 417, 431, 501, 505)
STEP_BYTES = 3
MOST_STEPS = 200


def codec(data: bytes) -> None:
    """Frames: what was decoded is what came, whatever the cuts; nothing but an unfinished header is kept."""
    decoder = FrameDecoder()
    whole = _written(decoder.receive_data(data))
    assert data.startswith(whole)
    assert decoder.failure is not None or len(data) - len(whole) < HEADER_BYTES
    if data:
        _split_codec(data, data[0] % len(data), whole)


def _split_codec(data: bytes, cut: int, whole: bytes) -> None:
    decoder = FrameDecoder()
    pieces = _written(decoder.receive_data(data[:cut]))
    if decoder.failure is None:
        pieces += _written(decoder.receive_data(data[cut:]))
    assert pieces == whole


def _written(frames: list[tuple[int, int, int, bytes | memoryview]]) -> bytes:
    return b"".join(
        bytes(payload) if word == CONTINUED else encode_header(word, stream_id, length) + payload
        for word, stream_id, length, payload in frames
    )


def request_head(data: bytes) -> None:
    """A request's head: refused as documented, or read, and then the same when it is written and read again."""
    raw = _head_in_pieces(data)
    if raw is None:
        return
    try:
        head = parse_request_head(raw)
    except HeadError as error:
        if error.status not in REFUSALS:
            raise
        return
    _read_content(data[len(raw) :], head.framing, head.content_length)
    if head.minor_version == 0:
        return  # it is written as HTTP/1.1, which asks for more
    again = parse_request_head(write_request_head(head.method, head.target, head.fields))
    assert (again.method, again.target, again.host, again.port) == (head.method, head.target, head.host, head.port)
    assert again.fields == head.fields


def response_head(data: bytes) -> None:
    """A response's head, likewise; the first byte says what was asked."""
    method = (b"GET", b"HEAD", b"CONNECT", b"POST")[data[0] % 4] if data else b"GET"
    raw = _head_in_pieces(data[1:])
    if raw is None:
        return
    try:
        head = parse_response_head(raw, request_method=method, upgrade=b"websocket")
    except HeadError:
        return
    again = parse_response_head(
        write_response_head(head.status, head.fields), request_method=method, upgrade=b"websocket"
    )
    assert (again.status, again.fields, again.content_length) == (head.status, head.fields, head.content_length)


def _head_in_pieces(data: bytes) -> bytes | None:
    """The head in `data`; in one piece, in two, and byte by byte it is the same, or refused."""
    cut = len(data) // 2
    results = {_collected([data]), _collected([data[:cut], data[cut:]])}
    if len(data) < 64:
        results.add(_collected([data[at : at + 1] for at in range(len(data))]))
    assert len(results) == 1, results
    (result,) = results
    return None if result is None or isinstance(result, int) else result


def _collected(pieces: list[bytes]) -> bytes | int | None:
    buffer = HeadBuffer()
    for at, piece in enumerate(pieces):
        try:
            head = buffer.receive_data(piece)
        except HeadError as error:
            return error.status
        if head is not None:
            return head if buffer.leftover + b"".join(pieces[at + 1 :]) else head + b""
    return None


def _read_content(data: bytes, framing: Framing, content_length: int | None) -> None:
    """Content gives the same bytes, end and leftover whether it comes at once or byte by byte."""
    whole = _content([data], framing, content_length)
    assert whole == _content([data[at : at + 1] for at in range(len(data))], framing, content_length)


def _content(pieces: list[bytes], framing: Framing, content_length: int | None) -> object:
    reader, content, leftover = BodyReader(framing, content_length or 0), b"", b""
    for piece in pieces:
        try:
            got = reader.receive_data(piece)
        except BodyError:
            return None
        content += b"".join(bytes(chunk) for chunk in got.chunks)
        leftover += bytes(got.leftover)
    return content, leftover, reader.ended, reader.trailers


def body(data: bytes) -> None:
    """Chunked content in whole and byte by byte."""
    _read_content(data, Framing.CHUNKED, None)


def websocket(data: bytes) -> None:
    """A WebSocket's frames: the same in any pieces, and what the `websockets` core reads; the first byte says whose."""
    masked, data = bool(data[:1] and data[0] & 1), data[1:]
    whole = _payload([data], masked=masked)
    cut = len(data) // 2
    assert whole == _payload([data[:cut], data[cut:]], masked=masked)
    assert whole == _payload([data[at : at + 1] for at in range(len(data))], masked=masked)
    payload, _, breach = whole
    expected, _ = read_by_core(data, masked=masked)
    # The core waits for whole frames; it takes a control frame whose length is written in more octets than it may be.
    assert payload.startswith(expected) or (breach is not None and expected.startswith(payload))


def _payload(pieces: list[bytes], *, masked: bool) -> tuple[bytes, list[bytes], int | None]:
    reader = PayloadReader(masked=masked, largest_message_bytes=MOST_MESSAGE_BYTES)
    payload = b"".join([reader.receive_data(piece) for piece in pieces])
    return payload, reader.take_controls(), None if reader.breach is None else reader.breach.code


def shell_frames(data: bytes) -> None:
    """A shell's frames: what was decoded is what came, whatever the cuts; nothing but an unfinished frame is kept."""
    decoder = ShellFrameDecoder()
    cut = len(data) // 2
    try:
        frames = decoder.receive_data(data)
    except RemoteProtocolError:
        assert _is_refused([data[:cut], data[cut:]])
        return
    written = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    assert data.startswith(written)
    assert len(data) - len(written) < SHELL_HEADER_BYTES + MAX_PAYLOAD_BYTES
    other = ShellFrameDecoder()
    assert other.receive_data(data[:cut]) + other.receive_data(data[cut:]) == frames


def _is_refused(pieces: list[bytes]) -> bool:
    decoder = ShellFrameDecoder()
    try:
        for piece in pieces:
            decoder.receive_data(piece)
    except RemoteProtocolError:
        return True
    return False


def token(data: bytes) -> None:
    """Tokens: taken apart without trust, or a `TokenError`; what is taken apart is what came."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = parse_compact(text)
    except TokenError:
        return
    assert parsed.text == text
    assert text.count(".") == 2
    assert isinstance(parsed.header.get("alg"), str)


def session_pair(data: bytes) -> None:
    """Two sessions: any steps, in any order, and no byte is lost, doubled or out of order."""
    if not data:
        return
    first = data[0]
    pair = SessionPair((WINDOWS[first % 3], WINDOWS[first // 3 % 3]), bool(first & 0x80))
    streams: list[int] = []
    for at in range(1, min(len(data), STEP_BYTES * MOST_STEPS) - 2, STEP_BYTES):
        _step(pair, streams, *data[at : at + STEP_BYTES])
        pair.check()
    pair.conclude()


def _step(pair: SessionPair, streams: list[int], what: int, which: int, much: int) -> None:
    side, action = what & 1, what >> 1 & 7
    if action == 0 or not streams:
        opened = pair.open_stream(side)
        streams += [] if opened is None else [opened]
        return
    stream_id = streams[which % len(streams)]
    match action:
        case 1:
            pair.send(side, stream_id, much, last=False)
        case 2:
            pair.send(side, stream_id, much, last=True)
        case 3:
            pair.finish(side, stream_id)
        case 4:
            pair.reset(side, stream_id)
        case 5:
            way = (pair.consume, pair.consume, pair.withhold, pair.give)[much & 3]
            way(side, stream_id, much / 255)
        case 6:
            pair.deliver(side, 1 + much * 3)
        case 7:
            pair.ping(side) if which & 1 else pair.wait(0.01 + much / 100)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": codec,
    "request-head": request_head,
    "response-head": response_head,
    "body": body,
    "websocket": websocket,
    "shell-frames": shell_frames,
    "token": token,
    "session-pair": session_pair,
}
