"""The sender against a relay in memory."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from certs.tls import client_context
from tests.support.canned_relay import CannedCall, CannedRelay
from tests.support.loop_clock import LoopClock
from trunkline.channel.outcomes import Outcome, relay_response
from trunkline.channel.upgrade import LinkRefused
from trunkline.client.errors import (
    ApiError,
    BadResponse,
    CallInterrupted,
    DeadlineExceeded,
    NodeSilent,
    NodeUnknown,
    NodeUnreachable,
    PermissionRefused,
    RelayBusy,
    RelayRefused,
    Unauthenticated,
    Unreachable,
)
from trunkline.client.link_keeper import WANTED_SECONDS
from trunkline.client.node_sender import NodeSender
from trunkline.client.sized_body import SizedBody

HOST = "vm-1.main.trunk.internal"
VIRTUAL_TIME = True
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Start = Callable[..., tuple[NodeSender, CannedRelay]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[tuple[NodeSender, CannedRelay]] = []

    def begin(
        answering: Callable[[CannedCall], Awaitable[None]] | bytes, **options: object
    ) -> tuple[NodeSender, CannedRelay]:
        async def canned(call: CannedCall) -> None:
            assert isinstance(answering, bytes)
            call.answer(answering)

        relay = CannedRelay(canned if isinstance(answering, bytes) else answering)
        sender = NodeSender(
            "https://relay.test",
            ssl_context=client_context(),
            dial=relay.dial,
            rng=random.Random(1),
            **options,  # type: ignore[arg-type]
        )
        started.append((sender, relay))
        return sender, relay

    yield begin
    for sender, relay in started:
        await sender.close()
        await relay.close()


async def test_a_small_call_carries_its_token_and_gives_its_answer(start: Start) -> None:
    seen: list[CannedCall] = []

    async def answer(call: CannedCall) -> None:
        seen.append(call)
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nhello")

    sender, relay = start(answer)
    response = await sender.request("GET", f"{HOST}:4040", "/jobs?x=1", token="t-1", fields=[("Accept", "*/*")])
    assert (response.status, response.get("x-one"), await response.read()) == (200, "1", b"hello")
    head = seen[0].head
    assert (head.method, head.target, head.host, head.port) == (b"GET", b"/jobs?x=1", HOST.encode(), 4040)
    assert head.get(b"proxy-authorization") == b"Bearer t-1"
    assert head.get(b"connection") == b"close"
    assert head.get(b"accept") == b"*/*"
    assert relay.tokens == ["t-1"]


async def test_the_senders_own_fields_cannot_be_overridden(start: Start) -> None:
    seen: list[CannedCall] = []

    async def answer(call: CannedCall) -> None:
        seen.append(call)
        call.answer(b"HTTP/1.1 204 No Content\r\n\r\n")

    sender, _ = start(answer)
    await sender.request("POST", HOST, "/", token="t", fields=[("Host", "evil"), ("transfer-encoding", "chunked")])
    assert seen[0].head.host == HOST.encode()
    assert seen[0].head.get(b"content-length") == b"0"
    assert seen[0].head.get(b"transfer-encoding") is None


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [("GET", "/a b", []), ("GET", "/\r\nX: y", []), ("G T", "/", []), ("GET", "/", [("A\r\nB", "c")]),
     ("GET", "/", [("A", "b\r\nC: d")]), ("GET", "", [])],
)  # fmt: skip
async def test_nothing_breaks_out_of_its_line(
    start: Start, method: str, path: str, fields: list[tuple[str, str]]
) -> None:
    sender, relay = start(b"")
    with pytest.raises(ValueError, match="malformed"):
        await sender.request(method, HOST, path, fields=fields)
    assert relay.tokens == []


async def test_bodies_go_both_ways_beyond_every_window(start: Start) -> None:
    async def echo(call: CannedCall) -> None:
        size = int(call.head.get(b"content-length") or 0)
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while size:
            piece = await call.reader.read(100_000)
            size -= len(piece)
            call.answer(piece)
            await call.writer.drain()

    sender, _ = start(echo)
    content = random.Random(5).randbytes(3_000_000)
    async with await sender.request("PUT", HOST, "/", body=content) as response:
        assert await response.read() == content


async def test_an_iterable_body_is_sent_in_chunks(start: Start) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b""
        yield b"c"

    async def answer(call: CannedCall) -> None:
        assert call.head.get(b"transfer-encoding") == b"chunked"
        raw = await call.reader.readuntil(b"0\r\n\r\n")
        call.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(raw), raw))

    sender, _ = start(answer)
    response = await sender.request("POST", HOST, "/", body=pieces())
    assert await response.read() == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


async def test_a_body_of_known_length_is_sent_with_it(start: Start) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    async def answer(call: CannedCall) -> None:
        assert (call.head.content_length, call.head.get(b"transfer-encoding")) == (3, None)
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + await call.reader.readexactly(3))

    sender, _ = start(answer)
    response = await sender.request("POST", HOST, "/", body=SizedBody(3, pieces()))
    assert await response.read() == b"abc"
    for length in (2, 4):
        with pytest.raises(CallInterrupted, match=f"not the {length} bytes"):
            await sender.request("POST", HOST, "/", body=SizedBody(length, pieces()))


async def test_a_failing_body_resets_the_stream(start: Start) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError("disk gone")

    async def answer(call: CannedCall) -> None:
        await call.reader.read(-1)

    sender, relay = start(answer)
    with pytest.raises(CallInterrupted, match="disk gone"):
        await sender.request("POST", HOST, "/", body=broken())
    await asyncio.sleep(1)
    assert relay.cancelled == 1


async def test_an_answer_that_comes_before_the_request_has_ended(start: Start) -> None:
    sender, relay = start(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
    response = await sender.request("PUT", HOST, "/", body=bytes(2_000_000))
    assert (response.status, await response.read()) == (413, b"big")
    await asyncio.sleep(1)
    assert relay.links[0].streams == 0


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_framings_of_answers(start: Start, raw: bytes, body: bytes) -> None:
    sender, relay = start(raw)
    response = await sender.request("GET", HOST, "/")
    assert await response.read() == body
    await asyncio.sleep(1)
    assert relay.links[0].streams == 0, "the stream is forgotten on both sides"


@pytest.mark.parametrize("raw", [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b""])
async def test_an_answer_may_come_byte_by_byte(start: Start, raw: bytes) -> None:
    async def answer(call: CannedCall) -> None:
        for byte in raw + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n":
            call.answer(bytes([byte]))
            await asyncio.sleep(0.1)

    sender, _ = start(answer)
    response = await sender.request("GET", HOST, "/")
    assert (response.status, await response.read()) == (200, b"hi")


async def test_a_body_waits_for_a_node_that_takes_it_later(start: Start) -> None:
    async def answer(call: CannedCall) -> None:
        await asyncio.sleep(5)
        size = len(await call.reader.readexactly(2_000_000))
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%d" % size)

    sender, _ = start(answer)
    response = await sender.request("PUT", HOST, "/", body=bytes(2_000_000))
    assert await response.read() == b"2000000"


async def test_a_call_that_is_complete_ends_its_stream_in_good_order(start: Start) -> None:
    ends: list[bytes] = []

    async def answer(call: CannedCall) -> None:
        call.answer(EMPTY)
        ends.append(await call.reader.read())

    sender, relay = start(answer)
    await (await sender.request("POST", HOST, "/")).read()
    await asyncio.sleep(1)
    assert (ends, relay.cancelled) == ([b""], 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10,
    ],
)
async def test_answers_that_are_not_http_are_refused(start: Start, raw: bytes) -> None:
    sender, relay = start(raw)
    with pytest.raises(BadResponse):
        await sender.request("GET", HOST, "/")
    await asyncio.sleep(1)
    assert relay.links[0].streams == 0


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", CallInterrupted),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", BadResponse),
    ],
)
async def test_broken_bodies_are_never_taken_for_whole(start: Start, raw: bytes, error: type[Exception]) -> None:
    sender, _ = start(raw)
    with pytest.raises(error):
        await (await sender.request("GET", HOST, "/")).read()


async def test_an_answer_above_the_limit_is_refused_and_its_stream_reset(start: Start) -> None:
    sender, relay = start(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(5000))
    response = await sender.request("GET", HOST, "/")
    with pytest.raises(BadResponse, match="larger than 1000 bytes"):
        await response.read(limit_bytes=1000)
    await asyncio.sleep(1)
    assert relay.links[0].streams == 0


async def test_an_unread_answer_holds_at_most_the_streams_window(start: Start) -> None:
    sent = 0

    async def endless(call: CannedCall) -> None:
        nonlocal sent
        call.answer(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            call.answer(bytes(10_000))
            sent += 10_000
            await call.writer.drain()

    sender, relay = start(endless)
    async with await sender.request("GET", HOST, "/") as response:
        await asyncio.sleep(5)
        assert response.status == 200
        assert sent < 1_000_000
    await asyncio.sleep(1)
    assert relay.cancelled == 1


async def test_cancelling_the_caller_resets_the_stream(start: Start) -> None:
    async def silent(call: CannedCall) -> None:
        await call.reader.read(-1)

    sender, relay = start(silent)
    calling = asyncio.ensure_future(sender.request("GET", HOST, "/"))
    await asyncio.sleep(1)
    calling.cancel()
    await asyncio.sleep(1)
    assert relay.cancelled == 1


async def test_a_deadline_resets_the_stream(start: Start) -> None:
    async def silent(call: CannedCall) -> None:
        await call.reader.read(-1)

    sender, relay = start(silent)
    with pytest.raises(DeadlineExceeded, match="within 3 s"):
        await sender.request("GET", HOST, "/", timeout_seconds=3)
    await asyncio.sleep(1)
    assert relay.cancelled == 1


@pytest.mark.parametrize(("method", "retry"), [("GET", True), ("PUT", True), ("POST", False)])
async def test_a_reset_says_whether_the_call_may_be_made_again(start: Start, method: str, retry: bool) -> None:
    async def reset(call: CannedCall) -> None:
        call.reset()

    sender, _ = start(reset)
    with pytest.raises(CallInterrupted) as caught:
        await sender.request(method, HOST, "/")
    assert caught.value.retry is retry


@pytest.mark.parametrize(
    ("outcome", "error", "retry"),
    [
        (Outcome.NO_TOKEN, Unauthenticated, False),
        (Outcome.MISSING_SCOPE, PermissionRefused, False),
        (Outcome.WRONG_AUDIENCE, NodeUnknown, False),
        (Outcome.NO_LISTENER, NodeUnreachable, True),
        (Outcome.LISTENER_LOST, NodeUnreachable, False),
        (Outcome.BAD_RESPONSE, NodeUnreachable, False),
        (Outcome.LISTENER_SILENT, NodeSilent, False),
        (Outcome.DRAINING, RelayBusy, True),
        (Outcome.OVER_QUOTA, RelayBusy, True),
        (Outcome.BAD_REQUEST, RelayRefused, False),
    ],
)
async def test_what_the_relay_answers_itself_is_a_typed_error(
    start: Start, outcome: Outcome, error: type[RelayRefused], retry: bool
) -> None:
    raw = relay_response(outcome, "said so", request_id="rq-1", close=True, retry_after_seconds=7)
    sender, _ = start(raw)
    with pytest.raises(error) as caught:
        await sender.request("POST", HOST, "/")
    refusal = caught.value
    assert type(refusal) is error
    assert (refusal.status, refusal.message, refusal.request_id) == (outcome.http_status, "said so", "rq-1")
    assert (refusal.error, refusal.error_code) == (outcome.proxy_status_error, outcome.error_code)
    assert (refusal.retry_after_seconds, refusal.retry) == (7.0, retry)


@pytest.mark.parametrize("outcome", [Outcome.LISTENER_LOST, Outcome.LISTENER_SILENT])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_perhaps_reached_its_node_may_be_made_again_if_it_is_idempotent(
    start: Start, outcome: Outcome, method: str
) -> None:
    sender, _ = start(relay_response(outcome, "said so", request_id="rq-1"))
    with pytest.raises(RelayRefused) as caught:
        await sender.request(method, HOST, "/")
    assert (caught.value.retry, caught.value.never_sent) == (method == "GET", False)


async def test_the_nodes_own_errors_are_answers(start: Start) -> None:
    for status in (b"other; error=x", b"trunkline-relay", b"trunkline-relay; received-status=502"):
        sender, _ = start(b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: %b\r\nContent-Length: 2\r\n\r\nhi" % status)
        response = await sender.request("GET", HOST, "/")
        assert (response.status, await response.read()) == (502, b"hi")


async def test_raw_bytes_with_half_close(start: Start) -> None:
    async def tunnel(call: CannedCall) -> None:
        assert (call.head.method, call.head.target) == (b"CONNECT", f"{HOST}:5432".encode())
        call.answer(b"HTTP/1.1 200 OK\r\n\r\nbanner ")
        call.answer(await call.reader.read(-1))

    sender, _ = start(tunnel)
    reader, writer = await sender.open_connection(HOST, 5432, token="t")
    writer.write(b"question")
    writer.write_eof()
    assert await reader.read(-1) == b"banner question"
    writer.close()


async def test_raw_bytes_that_come_at_once_behind_the_head_are_there(start: Start) -> None:
    async def answer(call: CannedCall) -> None:
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        if call.head.method == b"GET":
            head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shell\r\n\r\n"
        for piece in (head + b"one ", b"two ", b"three"):
            call.answer(piece)

    sender, _ = start(answer)
    connected = await sender.open_connection(HOST, 5432)
    upgraded = await sender.open_upgraded(HOST, "/v1/shell", b"shell")
    for reader, writer in (connected, upgraded):
        assert await reader.read(-1) == b"one two three"
        writer.close()


async def test_a_refused_port_says_what_the_node_said(start: Start) -> None:
    sender, _ = start(
        b'HTTP/1.1 403 Forbidden\r\nContent-Length: 44\r\n\r\n{"error_code": "X", "message": "forbidden"}\n'
    )
    with pytest.raises(ApiError, match=r"^forbidden$") as caught:
        await sender.open_connection(HOST, 22)
    assert (caught.value.status, caught.value.error_code) == (403, "X")


async def test_thousands_of_calls_share_one_link(start: Start) -> None:
    sender, relay = start(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def call() -> bytes:
        return await (await sender.request("GET", HOST, "/")).read()

    assert await asyncio.gather(*(call() for _ in range(2000))) == [b"ok"] * 2000
    assert len(relay.links) == 1


async def test_a_draining_link_keeps_its_calls_and_new_ones_take_another(start: Start) -> None:
    release = asyncio.Event()

    async def answer(call: CannedCall) -> None:
        if call.head.target == b"/slow":
            await release.wait()
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    sender, relay = start(answer)
    slow = asyncio.ensure_future(sender.request("GET", HOST, "/slow"))
    await asyncio.sleep(1)
    relay.links[0].go_away()
    await asyncio.sleep(1)
    assert len(relay.links) == 2, "the new link is there before it is needed"
    assert (await sender.request("GET", HOST, "/")).status == 200
    release.set()
    assert await (await slow).read() == b"ok"


async def test_a_sender_that_is_closed_ends_every_link_those_that_drain_too(start: Start) -> None:
    async def answer(call: CannedCall) -> None:
        await call.reader.read(-1)

    sender, relay = start(answer)
    calls = []
    for number in range(3):
        calls.append(asyncio.ensure_future(sender.request("GET", HOST, f"/{number}")))
        await asyncio.sleep(1)
        if number < 2:
            relay.links[-1].go_away()
            await asyncio.sleep(1)
    relay.links[0].abort()
    await asyncio.sleep(1)
    assert len(sender._keeper._old_links) == 1, "one that is lost is forgotten"
    await sender.close()
    await asyncio.gather(*(link.closed for link in relay.links))
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [CallInterrupted] * 3


async def test_a_lost_link_ends_its_calls_and_is_dialled_again(start: Start) -> None:
    async def answer(call: CannedCall) -> None:
        if call.head.target == b"/slow":
            await call.reader.read(-1)
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    sender, relay = start(answer)
    slow = asyncio.ensure_future(sender.request("GET", HOST, "/slow"))
    await asyncio.sleep(1)
    relay.links[0].abort()
    with pytest.raises(CallInterrupted):
        await slow
    assert (await sender.request("GET", HOST, "/")).status == 200
    assert len(relay.links) == 2


async def test_an_unreachable_relay_is_tried_until_the_callers_time_is_up(start: Start) -> None:
    sender, relay = start(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", link_timeout_seconds=5)
    relay.down = True
    with pytest.raises(Unreachable, match="within 5 s: connection refused") as caught:
        await sender.request("GET", HOST, "/")
    assert caught.value.retry
    assert len(relay.tokens) > 3
    relay.down = False
    assert (await sender.request("GET", HOST, "/")).status == 200


async def test_a_relay_that_drops_links_is_not_stormed(start: Start) -> None:
    sender, relay = start(b"", clock=LoopClock())
    dial = relay.dial

    async def dial_and_drop(owner: object, token: str | None) -> object:
        link = await dial(owner, token)  # type: ignore[arg-type]
        relay.links[-1].abort()
        return link

    sender._keeper._dial = dial_and_drop  # type: ignore[assignment]
    await sender.connect()
    await asyncio.sleep(60)
    assert len(relay.tokens) < 150


async def test_a_refused_token_fails_at_once_and_a_new_one_is_tried(start: Start) -> None:
    sender, relay = start(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    relay.refusals = [LinkRefused(401, "expired", error_code="UNAUTHENTICATED", request_id="rq-9")]
    with pytest.raises(Unauthenticated, match="expired") as caught:
        await sender.request("GET", HOST, "/", token="old")
    assert caught.value.request_id == "rq-9"
    assert (await sender.request("GET", HOST, "/", token="new")).status == 200
    assert relay.tokens == ["old", "new"]


async def test_callers_with_newer_tokens_than_the_one_that_is_refused_share_the_next_attempt(start: Start) -> None:
    sender, relay = start(EMPTY)
    await sender.connect("expired")
    relay.dial_seconds = 1.0
    relay.refusals = [LinkRefused(401, "expired", error_code="UNAUTHENTICATED")]
    relay.links[-1].abort()
    await asyncio.sleep(0.9)
    assert relay.tokens == ["expired", "expired"]
    await asyncio.gather(*(sender.connect(token) for token in ("new-1", "new-2", "new-2", "new-3")))
    assert relay.tokens == ["expired", "expired", "new-3"]
    assert len(relay.links) == 2


async def test_a_draining_relay_is_asked_again_when_it_said(start: Start) -> None:
    sender, relay = start(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    relay.refusals = [LinkRefused(503, "draining", error_code="TEMPORARILY_UNAVAILABLE", retry_after_seconds=2)]
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    assert (await sender.request("GET", HOST, "/")).status == 200
    assert 2 <= loop.time() - began_at < 4


async def test_a_closed_sender_refuses(start: Start) -> None:
    sender, _ = start(b"")
    await sender.close()
    with pytest.raises(Unreachable, match="closed"):
        await sender.request("GET", HOST, "/")


async def test_a_call_that_comes_has_a_relay_dialled_soon_that_was_away_for_long(start: Start) -> None:
    sender, relay = start(EMPTY, clock=LoopClock())
    relay.down = True
    with pytest.raises(Unreachable):
        await sender.connect("t")
    await asyncio.sleep(600)
    for _ in range(5):
        relay.down = False
        began = asyncio.get_running_loop().time()
        await sender.connect("t")
        assert asyncio.get_running_loop().time() - began <= WANTED_SECONDS + 0.001
        relay.down = True
        relay.links[-1].abort()
        await asyncio.sleep(100)


async def test_a_relay_that_is_away_is_dialled_seldom_where_nobody_calls_and_every_two_seconds_where_they_do(
    start: Start,
) -> None:
    sender, relay = start(EMPTY, clock=LoopClock())
    relay.down = True
    with pytest.raises(Unreachable):
        await sender.connect("t")
    await asyncio.sleep(60)
    dialled = len(relay.tokens)
    await asyncio.sleep(600)
    assert len(relay.tokens) - dialled < 80
    dialled = len(relay.tokens)
    for _ in range(60):
        with pytest.raises(Unreachable):
            await sender.connect("t")
    assert 150 < len(relay.tokens) - dialled < 450


async def test_what_a_relay_asks_for_is_waited_for_though_calls_wait(start: Start) -> None:
    sender, relay = start(EMPTY, clock=LoopClock())
    relay.refusals = [LinkRefused(503, "no room", retry_after_seconds=7)]
    began = asyncio.get_running_loop().time()
    await sender.connect("t")
    assert 7 <= asyncio.get_running_loop().time() - began <= 7 + WANTED_SECONDS


async def test_a_link_that_lives_for_seconds_each_time_is_there_most_of_the_time(start: Start) -> None:
    sender, relay = start(EMPTY, clock=LoopClock())
    away = 0.0
    for turn in range(100):
        began = asyncio.get_running_loop().time()
        while not sender.linked:
            with contextlib.suppress(Unreachable):
                await sender.connect("t")
        if turn > 50:
            away = max(away, asyncio.get_running_loop().time() - began)
        await asyncio.sleep(4)
        relay.links[-1].abort()
        await relay.links[-1].closed
        await asyncio.sleep(0)
    assert away <= WANTED_SECONDS + 0.001


async def test_who_waits_for_a_link_of_a_sender_that_is_closed_is_told_and_not_cancelled(start: Start) -> None:
    sender, relay = start(EMPTY)
    relay.dial_seconds = 5.0
    waiting = [asyncio.create_task(sender.connect("t")) for _ in range(2)]
    await asyncio.sleep(1.0)
    waiting[0].cancel()
    await asyncio.sleep(1.0)
    await sender.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    with pytest.raises(Unreachable, match="closed"):
        await waiting[1]


async def test_a_wait_for_a_piece_that_is_given_up_is_not_the_end_of_the_answer(start: Start) -> None:
    """Events with hours between them, read with a timeout for each."""

    async def answering(call: CannedCall) -> None:
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\n\n")
        await asyncio.sleep(3 * 3600.0)
        call.answer(b"id: 2\n\n")
        call.writer.close()

    sender, _ = start(answering)
    silences, received = 0, b""
    async with await sender.request("GET", HOST, "/events", token="t") as response:
        pieces = aiter(response)
        while True:
            try:
                async with asyncio.timeout(30.0):
                    piece = await anext(pieces, b"")
            except TimeoutError:
                silences += 1
                continue
            if not piece:
                break
            received += piece
        assert received == b"id: 1\n\nid: 2\n\n"
        assert silences > 300
        assert not response._exchange._waiters
