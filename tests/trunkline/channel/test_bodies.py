import pytest

from trunkline.channel.bodies import BodyError, BodyReader, encode_chunk, encode_last_chunk, join_chunks, large_chunk
from trunkline.channel.fields import MAX_FIELDS, MAX_TRAILER_BYTES, Framing


def read(framing: Framing, data: bytes, *, length: int = 0, step: int | None = None):
    """Content, whether it ended, trailers and leftover; or BodyError as a value."""
    reader = BodyReader(framing, length)
    content, leftover = b"", b""
    for start in range(0, len(data), step or len(data) or 1):
        try:
            piece = reader.receive_data(data[start : start + (step or len(data))])
        except BodyError:
            return BodyError
        content += b"".join(piece.chunks)
        leftover += piece.leftover
    return content, reader.ended, reader.trailers, leftover


GOOD_CHUNKED = {
    "empty": (b"0\r\n\r\n", b"", [], b""),
    "one": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", [], b""),
    "hex": (b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a", [], b""),
    "zeros": (b"0000000000000001\r\nx\r\n0000\r\n\r\n", b"x", [], b""),
    "trailers": (b"1\r\nx\r\n0\r\nA: b\r\nC:\td \r\n\r\n", b"x", [(b"A", b"b"), (b"C", b"d")], b""),
    "leftover": (b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n", b"x", [], b"GET / HTTP/1.1\r\n"),
    "small": (
        b"1\r\na\r\n02\r\nbc\r\nfF\r\n" + b"d" * 255 + b"\r\n100\r\n" + b"e" * 256 + b"\r\n3\r\nfgh\r\n0\r\n\r\n",
        b"abc" + b"d" * 255 + b"e" * 256 + b"fgh",
        [],
        b"",
    ),
    "small_with_zeros": (
        b"001\r\na\r\n0000000000000002\r\nbc\r\n0fF\r\n" + b"d" * 255 + b"\r\n0100\r\n" + b"e" * 256 + b"\r\n0\r\n\r\n",
        b"abc" + b"d" * 255 + b"e" * 256,
        [],
        b"",
    ),
    "small_last": (b"1\r\na\r\n00\r\n\r\n1\r\nb\r\n", b"a", [], b"1\r\nb\r\n"),
    "crlf_inside": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", [], b""),
}
BAD_CHUNKED = {
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "extension_on_last": b"0;a\r\n\r\n",
    "space_after_size": b"5 \r\nhello\r\n0\r\n\r\n",
    "space_before_size": b" 5\r\nhello\r\n0\r\n\r\n",
    "bare_lf_after_size": b"5\nhello\r\n0\r\n\r\n",
    "bare_cr_after_size": b"5\rhello\r\n0\r\n\r\n",
    "bare_lf_after_content": b"5\r\nhello\n0\r\n\r\n",
    "longer_than_size": b"4\r\nhello\r\n0\r\n\r\n",
    "shorter_than_size": b"6\r\nhello\r\n0\r\n\r\n",
    "second_longer_than_size": b"1\r\na\r\n1\r\nab\r\n0\r\n\r\n",
    "second_prefix": b"01\r\na\r\n0x1\r\nb\r\n0\r\n\r\n",
    "second_too_many_digits": b"01\r\na\r\n" + b"0" * 16 + b"1\r\nb\r\n0\r\n\r\n",
    "second_empty_size": b"01\r\na\r\n\r\nb\r\n0\r\n\r\n",
    "second_space_after_size": b"1\r\na\r\n1 \r\nb\r\n0\r\n\r\n",
    "second_not_hex": b"1\r\na\r\ng\r\nb\r\n0\r\n\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n",
    "empty_size": b"\r\nhello\r\n",
    "not_hex": b"g\r\n",
    "too_many_digits": b"0" * 17 + b"\r\n\r\n",
    "bad_trailer": b"0\r\nA b\r\n\r\n",
    "folded_trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "bare_lf_trailer": b"0\r\nA: b\nB: c\r\n\r\n",
    "framing_trailer": b"0\r\nContent-Length: 3\r\n\r\n",
    "coding_trailer": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
    "host_trailer": b"0\r\nHost: a\r\n\r\n",
    "cookie_trailer": b"0\r\nSet-Cookie: a\r\n\r\n",
    "many_trailers": b"0\r\n" + b"A:\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    "large_trailers": b"0\r\nA: " + b"a" * MAX_TRAILER_BYTES + b"\r\n\r\n",
}


@pytest.mark.parametrize("step", [None, 1, 2, 3])
@pytest.mark.parametrize(("data", "content", "trailers", "leftover"), GOOD_CHUNKED.values(), ids=GOOD_CHUNKED.keys())
def test_chunked_body_is_read_in_any_split(data, content, trailers, leftover, step) -> None:
    assert read(Framing.CHUNKED, data, step=step) == (content, True, trailers, leftover)


@pytest.mark.parametrize("step", [None, 1, 2, 3])
@pytest.mark.parametrize("data", BAD_CHUNKED.values(), ids=BAD_CHUNKED.keys())
def test_malformed_chunks_are_refused_in_any_split(data: bytes, step) -> None:
    assert read(Framing.CHUNKED, data, step=step) is BodyError


@pytest.mark.parametrize(
    "name",
    [
        b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authenticate", b"Proxy-Authorization",
        b"Proxy-Authentication-Info", b"TE", b"Transfer-Encoding", b"Upgrade", b"Content-Length", b"Trailer",
        b"Host", b"Authorization", b"WWW-Authenticate", b"Cookie", b"Set-Cookie", b"Content-Encoding",
        b"Content-Type", b"Content-Range", b"Expect", b"Max-Forwards", b"Cache-Control", b"Range", b"Location",
        b"Retry-After", b"Vary", b"Date", b"Age", b"Expires", b"Via", b"Proxy-Status",
    ],
)  # fmt: skip
def test_what_frames_routes_authenticates_or_changes_a_message_is_no_trailer(name: bytes) -> None:
    assert read(Framing.CHUNKED, b"0\r\nA: b\r\n" + name + b": 1\r\n\r\n") is BodyError


def test_a_body_of_very_many_small_chunks_is_read_at_once() -> None:
    content = bytes(range(256)) * 40
    reader = BodyReader(Framing.CHUNKED)
    piece = reader.receive_data(b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"5\r\nhal")
    assert b"".join(piece.chunks) == content + b"hal"
    assert b"".join(reader.receive_data(b"lo\r\n0\r\n\r\n").chunks) == b"lo"
    assert reader.ended


def test_largest_trailer_section_is_the_same_in_any_split() -> None:
    for size in range(MAX_TRAILER_BYTES - 8, MAX_TRAILER_BYTES + 4):
        data = b"0\r\nA: " + b"a" * size + b"\r\n\r\n"
        assert read(Framing.CHUNKED, data) == read(Framing.CHUNKED, data, step=1)


@pytest.mark.parametrize("step", [None, 1, 2])
def test_counted_body_ends_after_its_length(step) -> None:
    assert read(Framing.LENGTH, b"helloGET", length=5, step=step) == (b"hello", True, [], b"GET")
    assert read(Framing.LENGTH, b"hell", length=5, step=step) == (b"hell", False, [], b"")
    assert read(Framing.LENGTH, b"GET", length=0, step=step) == (b"", True, [], b"GET")
    assert read(Framing.NONE, b"GET", step=step) == (b"", True, [], b"GET")


@pytest.mark.parametrize(
    ("framing", "data", "complete"),
    [
        (Framing.CLOSE, b"anything", True),
        (Framing.NONE, b"", True),
        (Framing.LENGTH, b"1234", False),
        (Framing.LENGTH, b"12345", True),
        (Framing.CHUNKED, b"5\r\nhello\r\n", False),
        (Framing.CHUNKED, b"5\r\nhello\r\n0\r\n", False),
        (Framing.CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", True),
    ],
)
def test_end_of_connection_is_the_end_only_where_it_may_be(framing, data, complete) -> None:
    reader = BodyReader(framing, 5)
    reader.receive_data(data)
    if complete:
        reader.receive_end()
        assert reader.ended
    else:
        with pytest.raises(BodyError):
            reader.receive_end()


def test_encoded_chunks_are_read_back() -> None:
    data = encode_chunk(b"hello") + encode_chunk(b"") + encode_chunk(memoryview(b"x" * 300))
    data += encode_last_chunk([(b"A", b"b")])
    assert read(Framing.CHUNKED, data) == (b"hello" + b"x" * 300, True, [(b"A", b"b")], b"")
    assert encode_last_chunk([]) == b"0\r\n\r\n"


@pytest.mark.parametrize("chunks", [[], [b"abc"], [b"ab", memoryview(b"c")]])
def test_joined_chunks_are_one_chunk(chunks) -> None:
    content = join_chunks(chunks)
    assert bytes(content) == b"".join(chunks)
    if content:
        assert b"".join(large_chunk(content)) == encode_chunk(content)


@pytest.mark.parametrize("turn_chunks", [1, 2, 7])
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_bound_on_the_chunks_of_one_call_gives_the_same_content(turn_chunks, step):
    body = b"1\r\na\r\n" * 5 + b"100\r\n" + b"b" * 256 + b"\r\n" + b"02\r\ncc\r\n" * 3 + b"0\r\nX: y\r\n\r\nnext"
    reader = BodyReader(Framing.CHUNKED, turn_chunks=turn_chunks)
    content, left = b"", b""
    for start in range(0, len(body), step):
        left += body[start : start + step]
        while left and not reader.ended:
            piece = reader.receive_data(left)
            assert len(piece.chunks) <= turn_chunks
            content += b"".join(piece.chunks)
            left = bytes(piece.leftover)
    assert content == b"a" * 5 + b"b" * 256 + b"c" * 6
    assert reader.ended
    assert left == b"next"
    assert len(reader.trailers) == 1
