"""The link upgrade: both ends' heads, for both carriers, and what each refuses."""

import json
from uuid import UUID

import pytest

from trunkline.channel.errors import HandshakeFailed, LocalProtocolError
from trunkline.channel.fields import HeadError
from trunkline.channel.heads import parse_request_head, parse_response_head
from trunkline.channel.terms import OWN_TERMS, PLAIN_YAMUX
from trunkline.channel.upgrade import (
    Carrier,
    LinkRequest,
    accept_link,
    read_link_request,
    read_link_response,
    read_refusal,
    write_link_request,
)
from trunkline.channel.websocket_fields import new_websocket_key

INSTANCE = UUID("6f1c0a52-3c51-4a35-9d8e-6a1f9e5f3b11")


def a_request(carrier=Carrier.YAMUX, **changes):
    values = {
        "authority": "relay.test:8443",
        "carrier": carrier,
        "token": "a.b.c",
        "instance": INSTANCE,
        "sequence": 3,
        "websocket_key": new_websocket_key() if carrier is Carrier.WEBSOCKET else None,
    }
    return LinkRequest(**(values | changes))


def request_head(*lines, start=b"GET /v1/link HTTP/1.1"):
    return parse_request_head(b"\r\n".join([start, b"Host: relay.test", *lines]) + b"\r\n\r\n")


def response_head(*lines, status=101, carrier=Carrier.YAMUX):
    return read_response(b"\r\n".join([b"HTTP/1.1 %d X" % status, *lines]) + b"\r\n\r\n", carrier)


def read_response(raw, carrier):
    return parse_response_head(raw, request_method=b"GET", upgrade=carrier.value)


YAMUX = (b"Connection: Upgrade", b"Upgrade: yamux")
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: WebSocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Protocol: yamux",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.mark.parametrize("carrier", list(Carrier))
def test_the_relay_reads_what_the_dialling_end_writes(carrier):
    request = a_request(carrier)
    assert read_link_request(parse_request_head(write_link_request(request))) == request


@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize("terms", [OWN_TERMS, PLAIN_YAMUX])
def test_the_dialling_end_reads_what_the_relay_answers(carrier, terms):
    request = a_request(carrier, terms=terms)
    answer, granted = accept_link(request, "rq-1")
    assert read_link_response(read_response(answer, carrier), request) == granted == terms


def test_the_bare_request_is_pinned():
    request = LinkRequest(authority="relay.test", token="t")
    assert write_link_request(request) == (
        b"GET /v1/link HTTP/1.1\r\nHost: relay.test\r\nConnection: Upgrade\r\nUpgrade: yamux\r\n"
        b"Authorization: Bearer t\r\nTrunkline-Version: 1\r\nTrunkline-Features: compact\r\n"
        b"Trunkline-Window: 65536\r\n\r\n"
    )


def test_the_websocket_proof_is_that_of_the_rfc():
    request = read_link_request(request_head(*WEBSOCKET))
    answer, _ = accept_link(request, "rq-1")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


def test_a_plain_peer_needs_nothing_but_the_upgrade():
    request = read_link_request(request_head(*YAMUX))
    assert request == LinkRequest(authority="relay.test", terms=PLAIN_YAMUX)
    answer, terms = accept_link(request, "rq-1")
    assert terms == PLAIN_YAMUX
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: yamux\r\n"
        b"Trunkline-Request-Id: rq-1\r\n\r\n"
    )


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Upgrade: yamux",),
        (b"Connection: close",),
        (b"Connection: Upgrade", b"Upgrade: h2c"),
        (b"Connection: Upgrade", b"Upgrade: yamux, websocket"),
        (*YAMUX, b"Authorization: Basic YTpi"),
        (*YAMUX, b"Authorization: Bearer a b"),
        (*YAMUX, b"Authorization: Bearer"),
        (*YAMUX, b"Trunkline-Instance: 6F1C0A52-3C51-4A35-9D8E-6A1F9E5F3B11"),
        (*YAMUX, b"Trunkline-Instance: 7"),
        (*YAMUX, b"Trunkline-Sequence: -1"),
        (*YAMUX, b"Trunkline-Sequence: 9223372036854775808"),
        (*YAMUX, b"Trunkline-Sequence: 1", b"Trunkline-Sequence: 2"),
        (*YAMUX, b"Trunkline-Window: many"),
        (*YAMUX, b"Content-Length: 3"),
        WEBSOCKET[:-1],
        (*WEBSOCKET[:-1], b"Sec-WebSocket-Key: c2hvcnQ="),
        (*WEBSOCKET[:-1], b"Sec-WebSocket-Key: not base64 at all!!"),
        (*WEBSOCKET[:2], b"Sec-WebSocket-Version: 8", *WEBSOCKET[3:]),
        (*WEBSOCKET[:3], b"Sec-WebSocket-Protocol: chat", WEBSOCKET[4]),
    ],
)
def test_a_malformed_request_is_refused(lines):
    with pytest.raises(HandshakeFailed):
        read_link_request(request_head(*lines))


@pytest.mark.parametrize("start", [b"POST /v1/link HTTP/1.1", b"GET /v1/link?a=b HTTP/1.1", b"GET /v1/links HTTP/1.1"])
def test_only_get_of_the_link_path_opens_a_link(start):
    with pytest.raises(HandshakeFailed):
        read_link_request(request_head(*YAMUX, start=start))


@pytest.mark.parametrize(
    ("carrier", "lines"),
    [
        (Carrier.YAMUX, (b"Connection: Upgrade", b"Upgrade: yamux2")),
        (Carrier.YAMUX, (*YAMUX, b"Trunkline-Version: 1", b"Trunkline-Features: teleport")),
        (Carrier.WEBSOCKET, (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Protocol: yamux")),
        (
            Carrier.WEBSOCKET,
            (
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Protocol: yamux",
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            ),
        ),
    ],
)
def test_an_answer_to_another_request_is_refused(carrier, lines):
    with pytest.raises((HandshakeFailed, HeadError)):
        read_link_response(response_head(*lines, carrier=carrier), a_request(carrier))


@pytest.mark.parametrize(
    "extra", [b"Sec-WebSocket-Protocol: chat", b"Sec-WebSocket-Extensions: permessage-deflate"], ids=["protocol", "ext"]
)
def test_a_websocket_answer_with_something_that_was_not_asked_for_is_refused(extra):
    request = a_request(Carrier.WEBSOCKET)
    answer, _ = accept_link(request, "rq-1")
    answer = answer.replace(b"Sec-WebSocket-Protocol: yamux", b"Sec-WebSocket-Protocol: yamux\r\n" + extra)
    with pytest.raises(HandshakeFailed):
        read_link_response(read_response(answer, Carrier.WEBSOCKET), request)


def test_a_token_that_would_break_the_head_is_not_sent():
    with pytest.raises(LocalProtocolError):
        write_link_request(LinkRequest(authority="relay.test", token="a\r\nX: y"))


def test_a_refusal_of_the_relay_keeps_its_words():
    body = json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "draining\x1b[31m"}).encode()
    refusal = read_refusal(
        response_head(
            b"Proxy-Status: trunkline-relay; error=destination_unavailable",
            b"Trunkline-Request-Id: rq-9",
            b"Retry-After: 7",
            b"Content-Length: %d" % len(body),
            status=503,
        ),
        body,
    )
    assert (refusal.status, refusal.error_code, refusal.retry_after_seconds) == (503, "TEMPORARILY_UNAVAILABLE", 7)
    assert refusal.request_id == "rq-9"
    assert refusal.from_relay
    assert str(refusal) == "draining [31m"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 16_000, b'{"error_code": 1, "message": []}', b"\xff"])
def test_a_stranger_between_is_not_taken_for_the_relay(body):
    refusal = read_refusal(response_head(b"Retry-After: soon", status=403), body)
    assert not refusal.from_relay
    assert refusal.retry_after_seconds is None
    assert "something between" in str(refusal)


def test_credentials_are_not_shown():
    assert "a.b.c" not in repr(a_request())


@pytest.mark.parametrize(("told", "heard"), [(0, 0), (48, 48), (60, 60), (61, 60), (9999, 60), (10_000, 0)])
def test_over_how_long_to_return_is_told_and_bounded(told, heard):
    request = a_request(Carrier.YAMUX)
    answer, terms = accept_link(request, "rq-1", return_within_seconds=told)
    assert terms.return_within_seconds == 0
    assert read_link_response(read_response(answer, Carrier.YAMUX), request).return_within_seconds == heard
