"""That a head like another is understood as if it were parsed, and that nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from relay.doors.destinations import NodeNames
from relay.doors.door_counts import DoorCounts
from relay.doors.entry import Door, Entry
from relay.doors.forwarded_request import ForwardedRequest
from relay.doors.known_requests import KNOWN_HEADS, MAX_KNOWN_HEAD_BYTES, KnownRequests
from relay.metrics import RelayMetrics
from relay.trust.credentials import Destination
from trunkline.channel.heads import HeadError, parse_request_head

NAMES = NodeNames("trunk.internal")
METRICS = RelayMetrics(CollectorRegistry())
COUNTS = {door: DoorCounts(METRICS, door) for door in Door}
NODE = Destination("finance", "vm-1", 80)
START = b"GET /a HTTP/1.1"


def head(*lines: bytes, start: bytes = START) -> bytes:
    return b"\r\n".join([start, b"Host: h", *lines, b"", b""])


def parsed(raw: bytes, door: Door = Door.PROXY) -> ForwardedRequest:
    parsed = parse_request_head(raw)
    return ForwardedRequest.of(parsed, Entry(door, NODE, parsed.target_origin, "t"), NAMES, COUNTS[door])


def knowing(raw: bytes, door: Door = Door.PROXY) -> KnownRequests:
    known = KnownRequests()
    request = parsed(raw, door)
    request.keep_lines(raw, parse_request_head(raw))
    known.keep(raw, request)
    return known


def summary(request: ForwardedRequest) -> tuple[object, ...]:
    """What follows from a request."""
    return (
        request.head(None, b"id"), request.head("assertion", b"id"), request.destination, request.token, request.method,
        request.framing, request.keep_alive, request.upgrade, request.expect_continue, request.minor_version,
    )  # fmt: skip


LINES = [
    b"Accept: a", b"Accept: b", b"Accept:", b"Accept: ", b"Accept:  c ", b"ACCEPT: \ta",
    b"accept:b ", b"X: \x80", b"Traceparent: 00-1", b"Cookie: a", b"Authorization: Bearer u", b"Te: x",
    b"Connection: close", b"Connection: x", b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: x",
    b"Expect: 100-continue",
    b"Content-Length: 0", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Trunkline-Version: 1", b"Host: other",
    b"Date: x", b"Content-Type: a", b"Trailer: x", b"Via: x",
]  # fmt: skip
BAD = [
    b"",
    b"X",
    b"X : 1",
    b" folded",
    b"X: \x00",
    b"X: 1\r",
    b"X: 1\nY: 2",
    b"X: a\x7f",
    b"Accept: \x00",
    b"Accept: a\r",
    b"Accept: a\nY: 2",
    b"X: 1\r\nHost: other",
    b"X: 1\r\n\r\nGET / ",
]
DOORS = st.sampled_from(list(Door))


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=5), st.data(), DOORS)
def test_a_like_head_is_understood_as_if_it_were_parsed(lines: list[bytes], choice: st.DataObject, door: Door) -> None:
    try:
        known = knowing(head(*lines), door)
    except HeadError:
        return
    for _ in range(choice.draw(st.integers(1, 3))):
        changed = lines.copy()
        for at in choice.draw(st.sets(st.integers(0, len(lines) - 1), max_size=2)):
            changed[at] = choice.draw(st.sampled_from(LINES + BAD))
        raw = head(*changed)
        request = known.find(raw)
        if request is not None:
            assert summary(request) == summary(parsed(raw, door))


@pytest.mark.parametrize("last", [True, False])
def test_a_passing_line_makes_no_difference(last: bool) -> None:
    known = knowing(head(b"Traceparent: 1", b"Authorization: Bearer u", b"X: 1"))
    other = head(b"Tracestate: 2", b"Authorization: Bearer u", b"Y: 3")
    model = known.find(head(b"Traceparent: 2", b"Authorization: Bearer u", b"X: 1"))
    assert model is not None
    request = known.find(other, model.kin if last else None)
    assert request is not None
    assert summary(request) == summary(parsed(other))
    assert request.kin is model.kin


VALUES = [b"2", b"", b"a longer one", b"\x80", b"1", b" 2", b"2 ", b"\t", b"2\r\nY: 1", b"2\n", b"\x00", b"2\x7f"]


@given(st.lists(st.sampled_from(VALUES), min_size=2, max_size=6), st.sampled_from([b"", b"X: 1"]))
def test_heads_that_differ_in_one_value_are_understood_as_if_they_were_parsed(values: list[bytes], then: bytes) -> None:
    before, behind = (b"Authorization: Bearer u", b"Accept: a"), (then,) if then else ()
    known = knowing(head(*before, b"Traceparent: 1", *behind))
    for value in values:
        raw = head(*before, b"Traceparent: " + value, *behind)
        request = known.find(raw)
        if value in VALUES[:5]:
            assert request is not None
        if request is not None:
            assert summary(request) == summary(parsed(raw))


def test_where_another_value_differs_than_did_before_that_is_found_too() -> None:
    known = knowing(head(b"Traceparent: 1", b"X: 1"))
    for lines in ((b"Traceparent: 2", b"X: 1"), (b"Traceparent: 1", b"X: 2"), (b"Traceparent: 3", b"X: 3"),
                  (b"Tracestate: 1", b"X: 1"), (b"Traceparent: 4", b"X: 1")):  # fmt: skip
        raw = head(*lines)
        request = known.find(raw)
        assert request is not None
        assert summary(request) == summary(parsed(raw))


@pytest.mark.parametrize(
    "line", [*BAD, b"Host: h", b"Cookie: a", b"Authorization: Bearer u", b"Trunkline-X: 1", b"Te: x"]
)
def test_any_other_line_does(line: bytes) -> None:
    known = knowing(head(b"Traceparent: 1", b"X: 1"))
    for raw in (head(line, b"X: 1"), head(b"Traceparent: 1", line), head(b"Traceparent: 1", b"X: 1", line)):
        assert known.find(raw) is None


def test_a_line_that_means_something_has_to_be_the_same() -> None:
    known = knowing(head(b"Traceparent: 1", b"Authorization: Bearer u", b"X: 1"))
    assert known.find(head(b"Traceparent: 2", b"Authorization: Bearer v", b"X: 1")) is None
    assert known.find(head(b"Traceparent: 2", b"Authorization: Bearer u", b"X: 1", start=b"GET /b HTTP/1.1")) is None
    assert known.find(head(b"Traceparent: 2", b"Accept: a", b"X: 1")) is None


def test_a_line_that_does_not_go_on_moves_none_of_those_that_do() -> None:
    known = knowing(head(b"Trunkline-X: 1", b"Accept: a", b"X: 1"))
    raw = head(b"Trunkline-X: 1", b"Accept: b", b"X: 2")
    request = known.find(raw)
    assert request is not None
    assert summary(request) == summary(parsed(raw))


@pytest.mark.parametrize("line", [b"Content-Type: b", b"Max-Forwards: 0", b"Date: x"])
def test_a_line_that_decides_on_anything_never_comes_in_place_of_another(line: bytes) -> None:
    start = b"OPTIONS /a HTTP/1.1"
    known = knowing(head(b"Content-Type: a", b"Accept: a", b"X: 1", start=start))
    assert known.find(head(b"Content-Type: a", line, b"X: 1", start=start)) is None


def test_fields_that_a_connection_nominates_are_never_like_others() -> None:
    known = knowing(head(b"X: 1", b"Connection: y"))
    assert known.find(head(b"Y: 1", b"Connection: y")) is None


@pytest.mark.parametrize(
    "raw",
    [head(b"X: 2")[:-1], head(b"X: 2") + b"G", head(b"X: 2") * 2, head(b"X: 2")[:20], b"", b"\r\n\r\n"],
    ids=["short", "long", "two", "part", "nothing", "empty"],
)
def test_what_is_no_whole_head_is_not_known(raw: bytes) -> None:
    assert knowing(head(b"X: 1")).find(raw) is None


def test_a_large_head_is_not_known() -> None:
    assert knowing(head(b"X: 1")).find(head(b"X: " + b"x" * MAX_KNOWN_HEAD_BYTES)) is None


def test_the_same_head_is_the_same_request() -> None:
    known = knowing(head(b"X: 1"))
    request = known.find(head(b"X: 1"))
    assert request is not None
    assert request.kin is None
    assert known.find(head(b"X: 1"), request) is request


def test_a_head_that_is_like_no_other_is_known_by_its_bytes_once_it_was_parsed_twice() -> None:
    known, raw, other = knowing(head(b"Cookie: a")), head(b"Cookie: b"), head(b"Cookie: c")
    for _ in range(2):
        assert known.find(raw) is None
        request = parsed(raw)
        known.keep(raw, request)
        known.keep(other, parsed(other))
    assert known.find(raw) is request


def test_like_heads_leave_nothing() -> None:
    known = knowing(head(b"X: 1"))
    for number in range(2 * KNOWN_HEADS):
        assert known.find(head(b"X: 1%d" % (number // 2))) is not None
    assert not known.whole.young
