import base64

import pytest

from relay.doors.destinations import NodeNames
from relay.doors.entry import (
    MAX_KNOWN_TOKEN_BYTES,
    Door,
    DoorRefusal,
    Doors,
    Entry,
    LinkAttempt,
    ReadinessQuestion,
    bearer_token,
    proxy_token,
)
from relay.trust.credentials import Destination
from trunkline.channel.heads import parse_request_head
from trunkline.channel.outcomes import Outcome

DOORS = Doors(NodeNames("trunk.internal"))
HOST = b"vm-1.finance.trunk.internal"
NODE = Destination("finance", "vm-1", 80)


def head(start: bytes, *fields: bytes, host: bytes = HOST):
    return parse_request_head(b"\r\n".join((start + b" HTTP/1.1", b"Host: " + host, *fields)) + b"\r\n\r\n")


def basic(value: bytes) -> bytes:
    return b"Basic " + base64.b64encode(value)


def test_proxy_door_takes_absolute_form_and_connect() -> None:
    entry = DOORS.choose(head(b"GET http://" + HOST + b"/a?b", b"Proxy-Authorization: Bearer t"))
    assert entry == Entry(Door.PROXY, NODE, b"/a?b", "t")
    entry = DOORS.choose(head(b"CONNECT " + HOST + b":22", b"Proxy-Authorization: bearer t", host=HOST + b":22"))
    assert entry == Entry(Door.PROXY, Destination("finance", "vm-1", 22), HOST + b":22", "t")


def test_authorization_means_nothing_at_the_proxy_door() -> None:
    entry = DOORS.choose(head(b"GET http://" + HOST + b"/", b"Authorization: Bearer t"))
    assert isinstance(entry, Entry)
    assert entry.token is None


def test_gateway_takes_bearer_only() -> None:
    path = b"GET /v1/workspaces/finance/nodes/vm-1:80/x"
    entry = DOORS.choose(head(path, b"Authorization: Bearer t", host=b"relay"))
    assert entry == Entry(Door.GATEWAY, NODE, b"/x", "t")
    for fields in (b"Authorization: " + basic(b"u:t"), b"Proxy-Authorization: Bearer t", b"X: y"):
        entry = DOORS.choose(head(path, fields, host=b"relay"))
        assert isinstance(entry, Entry)
        assert entry.token is None


@pytest.mark.parametrize(
    ("start", "fields", "host", "door", "outcome"),
    [
        (b"GET /", (), b"relay", Door.GATEWAY, Outcome.NOT_FOUND),
        (b"GET /", (), HOST, Door.GATEWAY, Outcome.NOT_FOUND),
        (b"OPTIONS *", (), b"relay", Door.GATEWAY, Outcome.NOT_FOUND),
        (b"TRACE http://" + HOST + b"/", (), HOST, Door.PROXY, Outcome.NOT_IMPLEMENTED),
        (b"OPTIONS http://" + HOST + b"/", (b"Max-Forwards: 0",), HOST, Door.PROXY, Outcome.NOT_IMPLEMENTED),
        (b"GET http://example.com/", (), b"example.com", Door.PROXY, Outcome.NO_TOKEN),
        (
            b"GET http://example.com/",
            (b"Proxy-Authorization: Bearer t",),
            b"example.com",
            Door.PROXY,
            Outcome.NOT_FOUND,
        ),
        (b"CONNECT link.internal:80", (b"Proxy-Authorization: Bearer t",), b"link.internal:80", Door.PROXY,
         Outcome.NOT_FOUND),
    ],
)  # fmt: skip
def test_refusals_at_the_door(start, fields, host, door, outcome) -> None:
    refusal = DOORS.choose(head(start, *fields, host=host))
    assert isinstance(refusal, DoorRefusal)
    assert (refusal.door, refusal.outcome) == (door, outcome)


def test_link_path_is_a_link_attempt() -> None:
    assert isinstance(DOORS.choose(head(b"GET /v1/link", host=b"relay")), LinkAttempt)
    assert isinstance(DOORS.choose(head(b"GET /v1/link?x", host=b"relay")), DoorRefusal)


def test_the_path_of_readiness_is_a_question() -> None:
    assert DOORS.choose(head(b"GET /v1/ready", host=b"192.0.2.1:443")) == ReadinessQuestion(head_only=False)
    assert DOORS.choose(head(b"HEAD /v1/ready", host=b"relay")) == ReadinessQuestion(head_only=True)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"POST /v1/ready", b"X-A: b"),
        (b"GET /v1/ready", b"Content-Length: 1"),
        (b"GET /v1/ready?verbose", b"X-A: b"),
        (b"GET /v1/ready/", b"X-A: b"),
    ],
)
def test_anything_else_there_is_refused(line: bytes, field: bytes) -> None:
    refusal = DOORS.choose(head(line, field, host=b"relay"))
    assert isinstance(refusal, DoorRefusal)
    assert refusal.outcome is Outcome.NOT_FOUND


def test_streams_use_origin_form_and_host() -> None:
    entry = DOORS.enter_by_link(head(b"GET /x", b"Proxy-Authorization: Bearer t", host=HOST + b":9"))
    assert entry == Entry(Door.LINK, Destination("finance", "vm-1", 9), b"/x", "t")
    refusal = DOORS.enter_by_link(head(b"GET http://" + HOST + b"/"))
    assert isinstance(refusal, DoorRefusal)
    assert refusal.outcome is Outcome.BAD_REQUEST
    refusal = DOORS.enter_by_link(head(b"PUT /v1/token", b"Proxy-Authorization: Bearer t", host=b"link.internal"))
    assert isinstance(refusal, DoorRefusal)
    assert refusal.outcome is Outcome.NOT_FOUND


def test_a_stream_that_would_echo_credentials_or_names_nobody_is_refused() -> None:
    credentials = b"Proxy-Authorization: Bearer t"
    for streamed in (head(b"TRACE /x", credentials), head(b"OPTIONS /x", b"Max-Forwards: 0", credentials)):
        refusal = DOORS.enter_by_link(streamed)
        assert isinstance(refusal, DoorRefusal)
        assert (refusal.door, refusal.outcome) == (Door.LINK, Outcome.NOT_IMPLEMENTED)
    refusal = DOORS.enter_by_link(parse_request_head(b"GET /x HTTP/1.0\r\n" + credentials + b"\r\n\r\n"))
    assert isinstance(refusal, DoorRefusal)
    assert refusal.outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"", None), (b"Bearer", None), (b"Bearer ", None),
        (b"Bearer a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="),
        (b"BEARER  t", "t"), (b"Bearer a b", None), (b"Bearer a,b", None), (b"Bearer \xff", None),
        (b"Digest t", None), (b"Bearer " + b"a" * 9000, None),
    ],
)  # fmt: skip
def test_bearer(value, token) -> None:
    assert bearer_token(value) == token
    assert proxy_token(value) == token


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (basic(b"user:t"), "t"), (basic(b":t"), "t"), (basic(b"user:a:b"), None), (basic(b"user"), None),
        (basic(b"user:"), None), (b"Basic !!!", None), (basic(b"u:t") + b"!", None), (basic(b"u:\xff"), None),
        (basic(b"u:" + b"a" * 9000), None),
    ],
)  # fmt: skip
def test_basic(value, token) -> None:
    assert proxy_token(value) == token
    assert bearer_token(value) is None


def test_long_credentials_are_read_and_not_remembered() -> None:
    """Nobody has verified them yet: a stranger could have thousands of them kept, of 8 KiB each."""
    doors = Doors(NodeNames("trunk.internal"))
    for size, remembered in ((MAX_KNOWN_TOKEN_BYTES - 100, True), (MAX_KNOWN_TOKEN_BYTES + 100, False)):
        found = []
        for _ in range(3):
            raw = (
                b"GET /v1/workspaces/w/nodes/n/ HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer "
                + b"a" * size
                + b"\r\n\r\n"
            )
            entry = doors.choose(parse_request_head(raw))
            assert isinstance(entry, Entry)
            assert entry.token == "a" * size
            found.append(entry.token)
        assert (found[1] is found[2]) == remembered


def test_credentials_that_nobody_sends_any_more_are_forgotten() -> None:
    doors = Doors(NodeNames("trunk.internal"))
    for raw in (
        b"GET /v1/workspaces/w/nodes/n/ HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer token\r\n\r\n",
        b"GET http://" + HOST + b"/ HTTP/1.1\r\nHost: " + HOST + b"\r\nProxy-Authorization: Bearer token\r\n\r\n",
    ):
        found = []
        for _ in range(2):
            for _ in range(3):
                entry = doors.choose(parse_request_head(raw))
                assert isinstance(entry, Entry)
                found.append(entry.token)
            doors.age()
            doors.age()
        assert found[1] is found[2]
        assert found[2] is not found[5]
