"""That a head which comes again, whole or in parts, is understood exactly as when it came for the first time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from relay.doors.destinations import NodeNames
from relay.doors.door_counts import DoorCounts
from relay.doors.entry import Door, DoorRefusal, LinkAttempt
from relay.doors.forwarding import ForwardedRequest, ForwardedResponse
from relay.doors.head_reader import HeadReader
from relay.doors.known_requests import MAX_KNOWN_HEAD_BYTES
from relay.metrics import RelayMetrics
from trunkline.channel.heads import HeadError

DATE = b"Fri, 15 Jan 2027 08:00:00 GMT"
HOST = b"Host: vm-1.finance.trunk.internal"


def reader() -> HeadReader:
    metrics = RelayMetrics(CollectorRegistry())
    return HeadReader(NodeNames("trunk.internal"), {door: DoorCounts(metrics, door) for door in Door})


def head(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


def by_proxy(*lines: bytes) -> bytes:
    return head(b"GET http://vm-1.finance.trunk.internal/ HTTP/1.1", HOST, b"Proxy-Authorization: Bearer t", *lines)


def summary(read: object) -> object:
    """What follows from a head, without what two readers cannot share."""
    if isinstance(read, ForwardedRequest):
        return read.head(None, b"id"), read.destination, read.token, read.keep_alive, read.framing, read.upgrade
    if isinstance(read, LinkAttempt):
        return read.head.fields
    return read


LINES = st.sampled_from([
    b"Accept: a", b"accept: a", b"Accept:a ", b"Accept:\ta", b"Content-Length: 3", b"Content-Length: 3 ",
    b"content-length: 4", b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: accept",
    b"Connection: keep-alive, upgrade",
    b"Upgrade: x", b"Upgrade: h2c", b"Expect: 100-continue", b"Cookie: a", b"Trunkline-Version: 1", b"X: \x80",
    b"X : 1", b"X",
    b" folded", b"Bad\x00: 1", b"Authorization: Bearer t", b"Authorization: Basic t", b"Proxy-Authorization: Bearer t",
    b"Proxy-Authorization: Bearer u", HOST, b"Host: relay", b"Host: other", b"Te: x", b"Trailer: y", b"Max-Forwards: 1",
])  # fmt: skip
STARTS = st.sampled_from([
    b"GET http://vm-1.finance.trunk.internal/ HTTP/1.1", b"GET / HTTP/1.1", b"GET /v1/link HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET /v1/workspaces/finance/nodes/vm-1:8080/a?b HTTP/1.1", b"CONNECT vm-1.finance.trunk.internal:22 HTTP/1.1",
    b"GET http://vm-1.finance.trunk.internal/ HTTP/1.0", b"GET / HTTP/2.0", b"HEAD / HTTP/1.1", b"TRACE / HTTP/1.1",
])  # fmt: skip
HEADS = st.builds(lambda start, lines: head(start, *lines), STARTS, st.lists(LINES, max_size=6))


@given(st.lists(HEADS, min_size=1, max_size=8), st.booleans())
def test_memory_changes_nothing(heads: list[bytes], by_link: bool) -> None:
    remembering = reader()
    for raw in [*heads, *heads, *heads]:
        results = []
        for one in (remembering, reader()):
            read = one.read_on_link if by_link else one.read_on_connection
            try:
                results.append(summary(read(raw)))
            except HeadError as error:
                results.append((error.code, error.status, str(error)))
        assert results[0] == results[1]


def test_a_head_with_fewer_lines_than_the_last_of_the_same_start_is_read_anew() -> None:
    heads = reader()
    longer, shorter = by_proxy(b"Accept: a"), by_proxy()
    heads.read_on_connection(longer)
    assert summary(heads.read_on_connection(shorter)) == summary(reader().read_on_connection(shorter))


def test_a_head_that_comes_again_is_known_where_it_came_from() -> None:
    heads = reader()
    first = heads.read_on_connection(by_proxy())
    assert heads.read_on_connection(by_proxy()) is first
    assert heads.by_connection.find(by_proxy()) is first
    assert heads.by_link.find(by_proxy()) is None


@pytest.mark.parametrize(
    "raw",
    [
        by_proxy(b"Content-Length: 3"),
        by_proxy(b"X: " + b"x" * MAX_KNOWN_HEAD_BYTES),
        head(b"GET /v1/link HTTP/1.1", b"Host: relay"),
        head(b"GET / HTTP/1.1", b"Host: relay"),
    ],
    ids=["content", "large", "link", "refused"],
)
def test_other_heads_are_read_anew(raw: bytes) -> None:
    heads = reader()
    for _ in range(4):
        heads.read_on_connection(raw)
    assert heads.by_connection.find(raw) is None


def test_a_stream_of_a_link_does_not_choose_a_door() -> None:
    heads = reader()
    raw = head(b"GET / HTTP/1.1", HOST, b"Proxy-Authorization: Bearer t")
    for _ in range(3):
        assert isinstance(heads.read_on_link(raw), ForwardedRequest)
        assert isinstance(heads.read_on_connection(raw), DoorRefusal)


class TestResponses:
    """What is remembered of a response belongs to its door, to kept-alive connections, and to its second."""

    RAW = head(b"HTTP/1.1 200 OK", b"Content-Length: 0")

    def keep(self, heads: HeadReader, request: ForwardedRequest, raw: bytes = RAW) -> ForwardedResponse:
        for _ in range(2):
            parsed = heads.parse_response(raw, request)
            response = ForwardedResponse(parsed, request, close=False, date=DATE)
            heads.keep_response(raw, request, response)
        return response

    def request(self, heads: HeadReader, raw: bytes) -> ForwardedRequest:
        request = heads.read_on_connection(raw)
        assert isinstance(request, ForwardedRequest)
        return request

    def test_known_until_the_date_changes(self) -> None:
        heads = reader()
        request = self.request(heads, by_proxy())
        response = self.keep(heads, request)
        assert heads.known_response(self.RAW, request, DATE) is response
        assert heads.known_response(self.RAW, request, b"another second") is None

    def test_known_for_ever_with_a_date_of_its_own(self) -> None:
        heads = reader()
        request = self.request(heads, by_proxy())
        raw = head(b"HTTP/1.1 200 OK", b"Date: x", b"Content-Length: 0")
        response = self.keep(heads, request, raw)
        assert heads.known_response(raw, request, b"another second") is response

    def test_not_for_another_door_or_ending(self) -> None:
        heads = reader()
        self.keep(heads, self.request(heads, by_proxy()))
        for other in (
            by_proxy(b"Connection: close"),
            head(b"GET /v1/workspaces/finance/nodes/vm-1/ HTTP/1.1", b"Host: r", b"Authorization: Bearer t"),
            head(b"HEAD http://vm-1.finance.trunk.internal/ HTTP/1.1", HOST, b"Proxy-Authorization: Bearer t"),
            head(b"GET http://vm-1.finance.trunk.internal/ HTTP/1.0", HOST, b"Proxy-Authorization: Bearer t"),
        ):
            assert heads.known_response(self.RAW, self.request(heads, other), DATE) is None


def test_what_is_in_use_outlives_ageing_and_the_rest_does_not() -> None:
    heads = reader()
    used, left = by_proxy(b"X-Used: 1"), by_proxy(b"X-Left: 1")
    for _ in range(2):
        heads.read_on_connection(used)
        heads.read_on_connection(left)
    first, other = heads.read_on_connection(used), heads.read_on_connection(left)
    for _ in range(2):
        heads.age()
        assert heads.read_on_connection(used) is first
    assert heads.read_on_connection(left) is not other
    assert summary(heads.read_on_connection(left)) == summary(other)
