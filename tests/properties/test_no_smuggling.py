"""Whatever senders and nodes say, each other side is told messages that strict parsers read as the relay does.

A sender's bytes come to the node as those requests that h11 and llhttp find in them too, in their order, each on a
stream of its own that ends where the request does; so they do to a service, as the agent writes them. What a node
answers comes to the sender as the one response that h11 finds in it, or as the relay's own, or broken off; the next
response on the connection is the next call's, also as Python's http.client reads it, which knows no interim response
but 100.

Each example is a seed. One relay reads many heads that are like each other, as it would understand them from memory.
"""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.exchanges.service_requests import ServiceBody, service_head
from tests.support.memory_transport import Split
from tests.support.other_parsers import (
    Message,
    requests_by_h11,
    requests_by_llhttp,
    responses_by_h11,
    responses_by_http_client,
)
from tests.support.small_relay import HOST, Node, NodeCall, Sender, SmallRelay, reply, settle
from tests.support.virtual_time import VirtualTimeLoop
from trunkline.channel.heads import parse_request_head

EXAMPLES = settings().max_examples // 2
MESSAGES = 8
MARK = b"of the next call"
METHODS = [b"GET", b"HEAD", b"POST"]  # llhttp knows no others but those that are registered

LINES = [
    b"Content-Length: 3", b"Content-Length: 0", b"Content-Length: 5", b"content-length: 3", b"Content-Length: 03",
    b"Content-Length: +3", b"Content-Length: 3, 3", b"Content-Length : 3", b"Content-Length:\t3", b"Content_Length: 5",
    b"Content-Length: 3\x0b", b"Content-Length: \xb3", b"Content-Length:", b"Content-Length: 3\r\n 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding:\r\n chunked",
    b"X-A: a", b"X-A: b", b"X-A:", b"X-A: \xe2\x82\xac", b"X-A: a\rContent-Length: 5", b"X-A: a\nContent-Length: 5",
    b"X-A: a\x00", b" X-A: a", b"X-A", b"Connection: close", b"Connection: keep-alive, X-A", b"Connection:",
    b"Connection: Content-Length", b"Connection: Transfer-Encoding, Host", b"Connection: Upgrade", b"Upgrade: foo",
    b"Upgrade: h2c", b"Expect: 100-continue", b"TE: trailers", b"Trailer: X-T", b"Keep-Alive: 1", b"Date: x",
]  # fmt: skip
CONTENTS = [
    b"", b"", b"abc", b"abcde", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX-T: y\r\n\r\n", b"0\r\n\r\n",
    b"3;e\r\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"03\r\nabc\r\n00\r\n\r\n", b"3\nabc\n0\n\n",
    b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
    b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", b"3\r\nabc\r\n0\r\nX : y\r\n\r\n", b"3\r\nabc\r\n0\r\n",
]  # fmt: skip
STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Same",
    b"HTTP/1.1 404", b"HTTP/1.1 206 ", b"HTTP/1.1 101 S", b"HTTP/1.1  200 OK", b"HTTP/1.1 2000 OK", b"HTTP/2 200",
]  # fmt: skip
INTERIM = [b""] * 6 + [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n"]
NASTY_BYTES = b"\x00\t\n\x0b\r ,:;0\x7f\x85\xa0"


def head(rng: random.Random, *first: bytes) -> bytes:
    return b"\r\n".join([*first, *rng.choices(LINES, k=rng.randrange(4)), b"", b""])


def damaged(rng: random.Random, raw: bytes) -> bytes:
    """The bytes, most often as they are, else with one that is lost, put in, or another."""
    at, byte = rng.randrange(len(raw)), bytes([rng.choice(NASTY_BYTES)])
    return rng.choice(
        [raw, raw, raw, raw[:at] + raw[at + 1 :], raw[:at] + byte + raw[at:], raw[:at] + byte + raw[at + 1 :]]
    )


def request(rng: random.Random) -> bytes:
    method, version = rng.choice([*METHODS, b"POST"]), rng.choice([b"1.1", b"1.1", b"1.1", b"1.0"])
    target = b"http://" + HOST + rng.choice([b"/", b"/a?b=//c", b"/%2e%2e/x"])
    lines = [b"Host: " + HOST, b"Proxy-Authorization: Bearer good"]
    return head(rng, method + b" " + target + b" HTTP/" + version, *lines) + rng.choice(CONTENTS)


def response(rng: random.Random) -> bytes:
    return rng.choice(INTERIM) + head(rng, rng.choice(STATUS_LINES)) + rng.choice(CONTENTS)


async def asked(relay: SmallRelay, node: Node, raw: bytes, split: Split) -> list[NodeCall]:
    """The calls that come to the node of a sender's bytes; each is answered once nothing more comes of it."""
    first = len(node.calls)
    sender = relay.connect(split=split)
    sender.send(raw)
    await settle()
    answered = first
    while answered < len(node.calls):
        if node.calls[answered].stream.writable:
            node.calls[answered].answer(reply(b""))
        answered += 1
        await settle()
    sender.transport.abort()
    await settle()
    return node.calls[first:]


def in_origin_form(found: list[Message]) -> list[Message]:
    return [
        Message((one.what[0], one.what[1].removeprefix(b"http://" + HOST) or b"/"), one.content, one.whole)
        for one in found
    ]


def as_written_to_a_service(received: bytes) -> bytes:
    """What the agent writes to a service of the bytes of a stream."""
    raw, end, content = received.partition(b"\r\n\r\n")
    parsed = parse_request_head(raw + end)
    pieces = ServiceBody(parsed).receive_data(content) if content else []
    return service_head(parsed) + b"".join(map(bytes, pieces))


def check_requests(raw: bytes, calls: list[NodeCall]) -> None:
    all_known = all(bytes(call.received).partition(b" ")[0] in METHODS for call in calls)
    for read in (requests_by_h11, requests_by_llhttp) if all_known else (requests_by_h11,):
        sent = iter(in_origin_form(read(raw)))
        for number, call in enumerate(calls):
            received = bytes(call.received)
            (got,) = read(received)
            assert [got] == read(as_written_to_a_service(received)), "the service reads what the node reads"
            # The relay has answered itself those that are passed over here, for the damage to their tokens.
            wanted = next((one for one in sent if one.what == got.what), None)
            assert wanted is not None, "the relay found a request where there is none"
            if got.whole:
                assert got == wanted
            else:
                assert number == len(calls) - 1, "a request that is not whole is the last"
                assert wanted.content.startswith(got.content)


async def send_requests(seed: int) -> None:
    rng = random.Random(seed)
    relay = SmallRelay(asyncio.get_running_loop())
    node = relay.attach_node()
    try:
        for _ in range(MESSAGES):
            raw = damaged(rng, request(rng) + rng.choice([b"", request(rng)]))
            check_requests(raw, await asked(relay, node, raw, rng.choice(list(Split))))
    finally:
        relay.close()
        await asyncio.sleep(1)


def check_responses(said: bytes, sender: Sender, methods: list[bytes]) -> None:
    received = bytes(sender.received)
    found, behind = responses_by_h11(received, methods)
    if not found:
        assert sender.lost, "there is an answer, or none is to be expected"
        return
    first, following = found[0], found[1:]
    if b"\r\nProxy-Status: trunkline-relay" not in received:
        said_first, _ = responses_by_h11(said, methods[:1])
        assert said_first, "the relay found a response where there is none"
        wanted = said_first[0]
        assert first.what == wanted.what
        if first.whole:
            assert first == wanted
        else:
            assert wanted.content.startswith(first.content)
    assert first.whole or sender.lost, "what is not whole is broken off"
    assert not behind
    assert responses_by_http_client(received, methods) == [one for one in found if one.whole]
    assert all(one == Message((b"200",), MARK if method != b"HEAD" else b"", True)
               for one, method in zip(following, methods[1:], strict=False))  # fmt: skip


def answering(said: bytes) -> Callable[[NodeCall], None]:
    """A script of a node that says this to its next request, and the mark to those behind it."""
    left = [said]

    def script(call: NodeCall) -> None:
        if b"\r\n\r\n" in call.received and call.stream.writable:
            call.answer(left.pop() if left else reply(MARK))

    return script


async def send_responses(seed: int) -> None:
    rng = random.Random(seed)
    relay = SmallRelay(asyncio.get_running_loop())
    node = relay.attach_node()
    try:
        for _ in range(MESSAGES):
            said = damaged(rng, response(rng) + rng.choice([b"", b"", response(rng)]))
            methods = [rng.choice([b"GET", b"GET", b"HEAD"]) for _ in range(2)]
            node.script = answering(said)
            sender = relay.connect(split=rng.choice(list(Split)))
            lines = b"Host: %b\r\nProxy-Authorization: Bearer good\r\n\r\n" % HOST
            sender.send(b"".join(b"%b http://%b/ HTTP/1.1\r\n%b" % (method, HOST, lines) for method in methods))
            await settle()
            check_responses(said, sender, methods)
            sender.transport.abort()
            await settle()
    finally:
        relay.close()
        await asyncio.sleep(1)


@pytest.mark.parametrize("sending", [send_requests, send_responses])
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_nothing_passes_that_two_read_differently(sending, seed: int) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(sending(seed))
