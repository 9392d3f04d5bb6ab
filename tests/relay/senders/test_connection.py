import asyncio
import base64
import json

import pytest

from relay.trust.credentials import Refusal
from tests.support.memory_transport import Split
from tests.support.small_relay import HOST, SUFFIX, NodeCall, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.heads import parse_request_head, parse_response_head
from trunkline.channel.outcomes import Outcome

GATEWAY = b"/v1/workspaces/finance/nodes/vm-1"


def answering(content: bytes = b"hello", *fields: bytes, status: bytes = b"200 OK"):
    """A script that answers every request once its head is there."""

    def script(call: NodeCall) -> None:
        if b"\r\n\r\n" in call.received and call.stream.writable:
            call.answer(reply(content, *fields, status=status))

    return script


def relay_answer(raw: bytes, method: bytes = b"GET"):
    """Status, fields and document of an answer that the relay made itself."""
    head, _, content = raw.partition(b"\r\n\r\n")
    parsed = parse_response_head(head + b"\r\n\r\n", request_method=method)
    assert (parsed.get(b"proxy-status") or b"").startswith(b"trunkline-relay; error=")
    assert parsed.get(b"trunkline-request-id")
    return parsed, json.loads(content)


@on_relay()
async def test_kept_alive_calls_one_after_the_other(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    for number in range(5):
        sender.send(get(b"/%d" % number))
        await settle()
        call = node.calls[number]
        assert call.head.startswith(b"GET /%d HTTP/1.1\r\nHost: %b\r\n" % (number, HOST))
        assert not call.ended
        call.answer(reply(b"%d" % number, b"Date: x"))
        await settle()
        assert (
            sender.take() == b"HTTP/1.1 200 OK\r\nDate: x\r\nVia: 1.1 trunkline\r\nContent-Length: 1\r\n\r\n%d" % number
        )
        assert call.ended
        assert call.lost is None
    assert relay.metric("calls_total", door="proxy", outcome="forwarded") == 5
    assert relay.metric("body_bytes_total", direction="to_sender") == 5
    assert node.link.streams == 0


@pytest.mark.parametrize(
    ("ready", "method", "line", "content"),
    [
        (True, b"GET", b"HTTP/1.1 200 OK\r\n", b"ready\n"),
        (True, b"HEAD", b"HTTP/1.1 200 OK\r\n", b""),
        (False, b"GET", b"HTTP/1.1 503 Service Unavailable\r\n", b"not ready\n"),
    ],
)
def test_whoever_asks_is_told_whether_the_relay_is_ready_and_nothing_else(
    ready: bool, method: bytes, line: bytes, content: bytes
) -> None:
    @on_relay()
    async def ask(relay: SmallRelay) -> None:
        relay.ready = ready
        relay.attach_node()
        sender = relay.connect()
        sender.send(method + b" /v1/ready HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n")
        await settle()
        head, _, rest = sender.take().partition(b"\r\n\r\n")
        assert head.startswith(line)
        assert rest == content
        parsed = parse_response_head(head + b"\r\n\r\n", request_method=method)
        assert {name.lower() for name, _ in parsed.fields} == {
            b"content-type", b"cache-control", b"strict-transport-security", b"proxy-status", b"trunkline-request-id",
            b"content-length", b"connection",
        }  # fmt: skip
        assert b"connection: close" in head.lower()
        assert relay.metric("calls_total", door="gateway", outcome="not_found") in (None, 0)

    ask()


@on_relay()
async def test_any_split_of_both_sides_gives_the_same(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    whole, bytewise = relay.connect(), relay.connect(split=Split.BYTES)
    request = get(b"/a", b"Content-Length: 3", method=b"PUT") + b"abc"
    for sender in (whole, bytewise):
        sender.send(request * 3)
    await settle()
    assert whole.received.count(b"hello") == 3
    assert whole.take() == bytewise.take()
    assert {call.content for call in node.calls} == {b"abc"}


@on_relay()
async def test_pipelined_calls_never_overlap(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/0") + get(b"/1") + get(b"/2"))
    for number in range(3):
        await settle()
        assert len(node.calls) == number + 1
        node.calls[number].answer(reply(b"%d" % number))
    await settle()
    assert sender.received.endswith(b"\r\n\r\n2")
    assert sender.received.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    ("request_bytes", "status", "error_code"),
    [
        (b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (HOST, HOST), 407, "UNAUTHENTICATED"),
        (get(token=b"bad"), 407, "UNAUTHENTICATED"),
        (get(host=b"vm-9.finance.trunk.internal"), 502, "NODE_UNREACHABLE"),
        (get(host=b"example.com"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (b"GET %b/ HTTP/1.1\r\nHost: relay\r\n\r\n" % GATEWAY, 401, "UNAUTHENTICATED"),
        (b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", 404, "RESOURCE_DOES_NOT_EXIST"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "NOT_IMPLEMENTED"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "NOT_IMPLEMENTED"),
        (b"GET /v1/link HTTP/1.1\r\nHost: a\r\n\r\n", 426, "BAD_REQUEST"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "BAD_REQUEST"),
        (b"\x00" * 100, 400, "BAD_REQUEST"),
        (b"A" * 40_000, 431, "BAD_REQUEST"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "BAD_REQUEST"),
    ],
)
@on_relay()
async def test_refusals(relay: SmallRelay, request_bytes: bytes, status: int, error_code: str) -> None:
    relay.attach_node()
    sender = relay.connect()
    sender.send(request_bytes)
    await settle()
    head, document = relay_answer(sender.take())
    assert (head.status, document["error_code"]) == (status, error_code)
    assert (head.get(b"proxy-authenticate") is not None) == (status == 407)
    assert (head.get(b"www-authenticate") is not None) == (status == 401)
    if not head.keep_alive:
        sender.send(get())
        await asyncio.sleep(3)
        assert sender.lost
        assert not sender.received


SMUGGLED = get(b"/smuggled")
TWO_FRAMINGS = {
    "cl_te": (b"Content-Length: 4", b"Transfer-Encoding: chunked"),
    "te_cl": (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
    "te_te": (b"Transfer-Encoding: chunked", b"Transfer-encoding: identity"),
    "te_list": (b"Transfer-Encoding: identity, chunked",),
    "cl_cl": (b"Content-Length: 0", b"Content-Length: %d" % len(SMUGGLED)),
    "fold": (b"X: y", b" Content-Length: 5"),
    "bare_lf": (b"X: y\nContent-Length: 5",),
    "bare_cr": (b"X: y\rContent-Length: 5",),
    "nul": (b"X: y\0",),
    "space_before_colon": (b"Content-Length : 5",),
    "two_hosts": (b"Host: " + HOST,),
}


@pytest.mark.parametrize("fields", TWO_FRAMINGS.values(), ids=TWO_FRAMINGS.keys())
@on_relay()
async def test_smuggling_in_heads_ends_the_connection(relay: SmallRelay, fields) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get(b"/first", *fields, method=b"POST") + b"0\r\n\r\n" + SMUGGLED)
    await asyncio.sleep(3)
    head, _ = relay_answer(bytes(sender.received))
    assert head.status in (400, 501)
    assert sender.received.count(b"HTTP/1.1 ") == 1
    assert node.calls == []
    assert sender.lost


@on_relay()
async def test_bytes_behind_a_body_are_the_next_request_only(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get(b"/a", b"Content-Length: 2", method=b"POST") + b"xy" + get(b"/b"))
    await settle()
    assert [call.head.split()[1] for call in node.calls] == [b"/a", b"/b"]
    assert node.calls[0].content == b"xy"


@pytest.mark.parametrize("answered", [True, False])
@on_relay()
async def test_a_connection_that_was_not_read_when_its_content_ended_takes_the_next_request(
    relay: SmallRelay, answered: bool
) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.greedy = False
    content = bytes(90_000)  # more than the node's window: reading stops, and what the transport has still comes
    request = get(b"/", b"Content-Length: %d" % len(content), method=b"PUT") + content
    for start in range(0, len(request), 8192):
        sender.transport.write(request[start : start + 8192])
    await settle()
    if answered:
        node.calls[0].answer(reply(b"enough"))
    else:
        node.calls[0].stream.reset()
    await settle()
    assert sender.take().startswith(b"HTTP/1.1 200 " if answered else b"HTTP/1.1 502 ")
    node.script = answering()
    sender.send(get())
    await settle()
    assert sender.take().endswith(b"hello")


@on_relay()
async def test_gateway(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering(b"hello", b"Set-Cookie: a")
    sender = relay.connect()
    sender.send(b"GET %b:4040/x?y HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer good\r\n\r\n" % GATEWAY)
    await settle()
    head = parse_request_head(node.calls[0].head + b"\r\n\r\n")
    assert (head.target, head.host, head.port) == (b"/x?y", HOST, 4040)
    assert head.get(b"authorization") is None
    assert head.get(b"proxy-authorization") == b"Bearer good"
    assert head.get(b"trunkline-request-id") == b"t-01"
    assert b"Set-Cookie" not in sender.take()
    assert relay.metric("calls_total", door="gateway", outcome="forwarded") == 1


@on_relay()
async def test_basic_and_workspace_tokens(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    basic = base64.b64encode(b"anyone:workspace")
    sender.send(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic %b\r\n\r\n" % (HOST, HOST, basic))
    await settle()
    head = parse_request_head(node.calls[0].head + b"\r\n\r\n")
    assert head.get(b"proxy-authorization") == b"Bearer the-assertion"
    assert b"workspace\r\n" not in node.calls[0].received
    assert sender.received.endswith(b"hello")


@on_relay()
async def test_http_1_0_closes(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(b"GET %b/ HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n" % GATEWAY)
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in sender.received
    assert sender.lost


@on_relay()
async def test_connection_close_is_heeded(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get(b"/", b"Connection: close") + get(b"/second"))
    await asyncio.sleep(3)
    assert sender.received.count(b"HTTP/1.1 200 OK") == 1
    assert len(node.calls) == 1
    assert sender.lost


@on_relay()
async def test_sender_gone_resets_the_stream(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    sender.transport.abort()
    await settle()
    assert node.calls[0].lost is not None
    assert relay.metric("calls_total", door="proxy", outcome="sender_lost") == 1


@on_relay()
async def test_sender_that_closes_resets_the_stream(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    sender.transport.close()
    await settle()
    assert node.calls[0].lost is not None


@on_relay()
async def test_upgrade_refused_with_a_request_behind_it(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/ws", b"Connection: upgrade", b"Upgrade: websocket") + SMUGGLED)
    await settle()
    assert len(node.calls) == 1
    node.calls[0].answer(reply(b"no", status=b"426 X"))
    await asyncio.sleep(3)
    assert b"Connection: close\r\n" in sender.received
    assert sender.received.count(b"HTTP/1.1") == 1
    assert len(node.calls) == 1
    assert sender.lost


@on_relay()
async def test_connect_refused_with_bytes_behind_it(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    connect = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
    sender.send(connect + SMUGGLED)
    await settle()
    node.calls[0].answer(reply(b"no", status=b"403 X"))
    await asyncio.sleep(3)
    assert sender.received.count(b"HTTP/1.1") == 1
    assert len(node.calls) == 1
    assert sender.lost


@on_relay()
async def test_two_hour_call_is_not_cut(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    silent = relay.connect()
    sender.send(get(b"/follow"))
    silent.send(get(b"/think"))
    await settle()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    for _ in range(12):
        await asyncio.sleep(600)
        node.calls[0].answer(b"line\n", end=False)
    node.calls[0].answer(b"")
    node.calls[1].answer(reply(b"thought"))
    await settle()
    assert sender.received.count(b"line\n") == 12
    assert sender.received.endswith(b"0\r\n\r\n")
    assert silent.received.endswith(b"thought")


@on_relay()
async def test_revocation_cuts_calls(relay: SmallRelay) -> None:
    node = relay.attach_node()
    waiting, streaming = relay.connect(), relay.connect()
    waiting.send(get())
    streaming.send(get())
    await settle()
    node.calls[1].answer(reply(b"x" * 100)[:-50], end=False)
    await settle()
    credential = relay.admission.credential("good")
    relay.uses.cut(lambda _, used: Refusal(Outcome.REVOKED, "revoked") if used is credential else None)
    await settle()
    head, _ = relay_answer(bytes(waiting.received))
    assert head.status == 407
    assert b"error=connection_terminated" in dict(head.fields)[b"Proxy-Status"], "it has perhaps reached the node"
    assert streaming.error is not None
    assert all(call.lost is not None for call in node.calls)


@on_relay()
async def test_names_of_other_suffixes_are_refused(relay: SmallRelay) -> None:
    sender = relay.connect()
    sender.send(get(host=b"vm-1.finance." + SUFFIX.encode() + b".evil"))
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 404 ")


@on_relay()
async def test_heads_that_come_again_in_any_order_are_decided_on_each_time(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering()
    for path in (b"/a", b"/a", b"/a", b"/b", b"/a", b"/b", b"/b", b"/b", b"/a"):
        sender.send(get(path))
        await settle()
        assert sender.take().endswith(b"hello")
        assert node.calls[-1].head.startswith(b"GET %b " % path)
    node.link.abort()
    await settle()
    sender.send(get(b"/a"))
    await settle()
    assert relay_answer(sender.take())[0].status == 502
    assert len(node.calls) == 9


@on_relay()
async def test_calls_whose_heads_differ_are_admitted_and_reach_the_node_each_with_its_own(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering()
    for number in range(4):
        sender.send(get(b"/", b"Traceparent: %d" % number))
        await settle()
        assert b"\r\nTraceparent: %d\r\n" % number in node.calls[number].head
        assert sender.take().endswith(b"\r\n\r\nhello")
    assert len(relay.front.heads.by_connection.whole.young) <= 1


@on_relay()
async def test_a_head_like_one_that_was_granted_is_granted_anew(relay: SmallRelay) -> None:
    first, sender = relay.attach_node(), relay.connect()
    first.script = answering(b"first")
    for number in range(2):
        sender.send(get(b"/", b"Traceparent: %d" % number))
        await settle()
    assert sender.take().count(b"first") == 2
    second = relay.attach_node(sequence=2)
    second.script = answering(b"second")
    await settle()
    for number in range(2, 4):
        sender.send(get(b"/", b"Traceparent: %d" % number))
        await settle()
    assert sender.take().count(b"second") == 2
    kin = relay.front.heads.by_connection.find(get(b"/", b"Traceparent: 5"))
    assert kin is not None
    assert kin.kin is not None
    assert kin.kin.grant is not None
    assert kin.kin.grant.listener is relay.registry.find("finance", "vm-1")
