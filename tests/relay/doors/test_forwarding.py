import pytest
from prometheus_client import CollectorRegistry

from relay.doors.destinations import NodeNames
from relay.doors.door_counts import DoorCounts
from relay.doors.entry import Door, Entry
from relay.doors.forwarding import (
    ForwardedRequest,
    ForwardedResponse,
    forward_interim,
    forward_request_trailers,
    forward_trailers,
)
from relay.metrics import RelayMetrics
from relay.trust.credentials import Destination
from trunkline.channel.fields import Framing
from trunkline.channel.heads import parse_request_head, parse_response_head

NAMES = NodeNames("trunk.internal")
HOST = b"vm-1.finance.trunk.internal"
NODE = Destination("finance", "vm-1", 80)
METRICS = RelayMetrics(CollectorRegistry())
COUNTS = {door: DoorCounts(METRICS, door) for door in Door}


def forwarded(*fields: bytes, start: bytes = b"GET /a HTTP/1.1", door: Door = Door.PROXY, node: Destination = NODE):
    head = parse_request_head(b"\r\n".join((start, b"Host: x", *fields)) + b"\r\n\r\n")
    return ForwardedRequest.of(head, Entry(door, node, head.target_origin, "secret"), NAMES, COUNTS[door])


def lines(raw: bytes) -> list[bytes]:
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


def answered(*fields: bytes, request=None, start: bytes = b"HTTP/1.1 200 Fine", close: bool = False):
    request = request or forwarded()
    raw = b"\r\n".join((start, *fields)) + b"\r\n\r\n"
    head = parse_response_head(raw, request_method=request.method, upgrade=request.upgrade)
    return ForwardedResponse(head, request, close=close, date=b"THEN")


END = [b"Proxy-Authorization: Bearer secret", b"Trunkline-Request-Id: id"]


def test_request_is_canonical() -> None:
    request = forwarded(
        b"traceparent: 00-1",
        b"Authorization: Bearer own",
        b"Connection: keep-alive, X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: 5",
        b"TE: trailers",
        b"Proxy-Authorization: Bearer secret",
        b"Proxy-Connection: x",
        b"Trunkline-Request-Id: forged",
        b"Via: 1.1 other",
        b"Cookie: a",
        b"X:  spaced  ",
    )
    assert lines(request.head(None, b"id")) == [
        b"GET /a HTTP/1.1",
        b"Host: " + HOST,
        b"traceparent: 00-1",
        b"Authorization: Bearer own",
        b"Via: 1.1 other",
        b"Cookie: a",
        b"X: spaced",
        b"Via: 1.1 trunkline",
        b"Connection: close",
        *END,
    ]
    parse_request_head(request.head(None, b"id"))


def test_assertion_takes_the_tokens_place() -> None:
    head = forwarded().head("assertion", b"id")
    assert b"secret" not in head
    assert lines(head)[-2:] == [b"Proxy-Authorization: Bearer assertion", b"Trunkline-Request-Id: id"]


HOP_BY_HOP = (
    b"Connection: close", b"Keep-Alive: 1", b"Proxy-Connection: x", b"Proxy-Authenticate: Basic",
    b"Proxy-Authorization: Bearer x", b"Proxy-Authentication-Info: x", b"TE: trailers", b"Trailer: x",
    b"Upgrade: x",
)  # fmt: skip
BY_NODES_FOR_THE_ORIGIN = (
    b"Set-Cookie: a", b"Set-Cookie2: a", b"Clear-Site-Data: *", b"Strict-Transport-Security: x",
    b"Service-Worker-Allowed: /", b"Alt-Svc: x", b"Public-Key-Pins: x", b"NEL: {}", b"Report-To: {}",
    b"Reporting-Endpoints: x",
)  # fmt: skip


@pytest.mark.parametrize("line", HOP_BY_HOP)
def test_what_belongs_to_one_connection_passes_in_neither_direction(line: bytes) -> None:
    for door in Door:
        request = forwarded(line, door=door)
        assert line not in lines(request.head(None, b"id"))[:-3]
        assert line not in lines(answered(line, b"Content-Length: 0", request=request).head)[:-1]


@pytest.mark.parametrize("line", [b"Trunkline-Request-Id: x", b"Trunkline-Workspace: x", b"TRUNKLINE-X: x"])
def test_nobody_speaks_to_a_node_in_the_relays_name(line: bytes) -> None:
    for door in Door:
        assert line not in lines(forwarded(line, door=door).head(None, b"id"))
    name, _, value = line.partition(b": ")
    assert forward_request_trailers([(name, value), (b"A", b"b")]) == [(b"A", b"b")]


@pytest.mark.parametrize("line", BY_NODES_FOR_THE_ORIGIN)
def test_what_would_hold_for_the_whole_origin_is_dropped_at_the_gateway_only(line: bytes) -> None:
    name, _, value = line.partition(b": ")
    for door in Door:
        dropped = door is Door.GATEWAY
        assert (line not in lines(answered(line, request=forwarded(door=door)).head)) == dropped
        assert (not forward_trailers([(name, value)], door)) == dropped


@pytest.mark.parametrize("line", [b"Proxy-Status: trunkline-relay; error=forged", b"Trunkline-Request-Id: forged"])
def test_a_node_forges_no_answer_of_the_relays(line: bytes) -> None:
    name, _, value = line.partition(b": ")
    for door in Door:
        assert line not in lines(answered(line, request=forwarded(door=door)).head)
        assert forward_trailers([(name, value)], door) == []


def test_gateway_credentials_and_cookies_do_not_reach_the_node() -> None:
    head = forwarded(b"Authorization: Bearer secret", b"Cookie: a", door=Door.GATEWAY).head(None, b"id")
    assert lines(head) == [
        b"GET /a HTTP/1.1", b"Host: " + HOST, b"Via: 1.1 trunkline", b"Connection: close", *END,
    ]  # fmt: skip


def test_request_framing_is_written_anew() -> None:
    request = forwarded(b"content-length: 3", b"expect: 100-Continue", start=b"PUT /a HTTP/1.1")
    assert lines(request.head(None, b"id"))[2:] == [
        b"Via: 1.1 trunkline", b"Expect: 100-continue", b"Content-Length: 3", b"Connection: close", *END,
    ]  # fmt: skip
    assert request.has_content
    request = forwarded(b"transfer-encoding: CHUNKED", b"Trailer: x", start=b"PUT /a HTTP/1.1")
    assert lines(request.head(None, b"id"))[2:] == [
        b"Trailer: x", b"Via: 1.1 trunkline", b"Transfer-Encoding: chunked", b"Connection: close", *END,
    ]  # fmt: skip


def test_old_senders_are_named_in_via() -> None:
    assert b"Via: 1.0 trunkline" in lines(forwarded(start=b"GET /a HTTP/1.0").head(None, b"id"))


def test_connect_and_ports() -> None:
    request = forwarded(start=b"CONNECT x:22 HTTP/1.1", node=Destination("finance", "vm-1", 22))
    assert lines(request.head(None, b"id"))[:2] == [b"CONNECT " + HOST + b":22 HTTP/1.1", b"Host: " + HOST + b":22"]
    request = forwarded(start=b"CONNECT x:80 HTTP/1.1")
    assert lines(request.head(None, b"id"))[:2] == [b"CONNECT " + HOST + b":80 HTTP/1.1", b"Host: " + HOST + b":80"]
    assert not request.keep_alive
    assert lines(forwarded(node=Destination("w", "n", 9)).head(None, b"id"))[1] == b"Host: n.w.trunk.internal:9"


def test_upgrade_is_passed_on() -> None:
    request = forwarded(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: k")
    assert lines(request.head(None, b"id"))[2:] == [
        b"Sec-WebSocket-Key: k", b"Via: 1.1 trunkline", b"Connection: Upgrade", b"Upgrade: websocket", *END,
    ]  # fmt: skip
    assert not request.keep_alive


def test_ignored_upgrade_still_ends_the_connection() -> None:
    request = forwarded(b"Connection: Upgrade", b"Upgrade: h2c")
    assert b"Upgrade: h2c" not in lines(request.head(None, b"id"))
    assert not request.keep_alive


def test_response_is_canonical() -> None:
    response = answered(
        b"content-type: text/plain",
        b"Content-Length: 5",
        b"Connection: X-Hop",
        b"X-Hop: 1",
        b"Proxy-Status: trunkline-relay; error=forged",
        b"Proxy-Authenticate: Basic",
        b"Trunkline-Request-Id: forged",
        b"Trunkline-Size: 7",
        b"Set-Cookie: a",
        b"Keep-Alive: 1",
        b"Date: NOW",
    )
    assert lines(response.head) == [
        b"HTTP/1.1 200 OK",
        b"content-type: text/plain",
        b"Trunkline-Size: 7",
        b"Set-Cookie: a",
        b"Date: NOW",
        b"Via: 1.1 trunkline",
        b"Content-Length: 5",
    ]
    assert (response.framing, response.content_length, response.keep_alive) == (Framing.LENGTH, 5, True)


def test_response_framings() -> None:
    assert lines(answered().head)[1:] == [b"Date: THEN", b"Via: 1.1 trunkline", b"Transfer-Encoding: chunked"]
    chunked = answered(b"Transfer-Encoding: chunked", b"Trailer: T")
    assert lines(chunked.head)[1:] == [
        b"Trailer: T", b"Date: THEN", b"Via: 1.1 trunkline", b"Transfer-Encoding: chunked",
    ]  # fmt: skip
    old = answered(b"Transfer-Encoding: chunked", b"Trailer: T", request=forwarded(start=b"GET /a HTTP/1.0"))
    assert lines(old.head)[1:] == [b"Date: THEN", b"Via: 1.1 trunkline", b"Connection: close"]
    assert (old.framing_out, old.keep_alive) == (Framing.CLOSE, False)
    head = answered(b"Content-Length: 9", request=forwarded(start=b"HEAD /a HTTP/1.1"))
    assert lines(head.head)[1:] == [b"Date: THEN", b"Via: 1.1 trunkline", b"Content-Length: 9"]
    assert head.framing is Framing.NONE
    assert lines(answered(b"Content-Length: 0", start=b"HTTP/1.1 204 X").head)[1:] == [
        b"Date: THEN", b"Via: 1.1 trunkline",
    ]  # fmt: skip
    assert b"Via: 1.0 trunkline" in lines(answered(start=b"HTTP/1.0 200 OK").head)


def test_close_is_said() -> None:
    response = answered(b"Content-Length: 0", close=True)
    assert lines(response.head)[-1] == b"Connection: close"
    assert not response.keep_alive


@pytest.mark.parametrize("status", [b"205", b"305"])
def test_a_response_of_which_clients_find_two_ends_is_the_last_on_its_connection(status: bytes) -> None:
    start = b"HTTP/1.1 %b X" % status
    for fields in [(b"Content-Length: 4",), (b"Transfer-Encoding: chunked",), ()]:
        response = answered(*fields, start=start)
        assert not response.keep_alive
        assert lines(response.head)[-1] == b"Connection: close"
    assert answered(b"Content-Length: 0", start=start).keep_alive
    assert answered(b"Content-Length: 4", start=start, request=forwarded(start=b"HEAD /a HTTP/1.1")).keep_alive


def test_switching_and_tunnels() -> None:
    request = forwarded(b"Connection: Upgrade", b"Upgrade: websocket")
    response = answered(b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: a", request=request,
                        start=b"HTTP/1.1 101 X")  # fmt: skip
    assert lines(response.head) == [
        b"HTTP/1.1 101 Switching Protocols", b"Sec-WebSocket-Accept: a", b"Via: 1.1 trunkline", b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]  # fmt: skip
    response = answered(request=forwarded(start=b"CONNECT x:22 HTTP/1.1"))
    assert lines(response.head) == [b"HTTP/1.1 200 OK", b"Date: THEN", b"Via: 1.1 trunkline"]
    assert response.framing is Framing.TUNNEL


def test_interim_responses_and_trailers() -> None:
    head = parse_response_head(b"HTTP/1.1 103 X\r\nLink: a\r\nProxy-Status: b\r\n\r\n", request_method=b"GET")
    assert lines(forward_interim(head, forwarded())) == [
        b"HTTP/1.1 103 Early Hints", b"Link: a", b"Via: 1.1 trunkline",
    ]  # fmt: skip
    fields = [(b"A", b"b"), (b"Alt-Svc", b"c")]
    assert forward_trailers(fields, Door.PROXY) == fields
    assert forward_trailers(fields, Door.GATEWAY) == fields[:1]
