import asyncio

import pytest

from relay.calls.response_heads import MAX_INTERIM_RESPONSES, ResponseHeads
from relay.doors.entry import Door
from tests.relay.calls.test_exchange import begin, read
from tests.relay.calls.test_response_content import Taken
from tests.relay.doors.test_forwarding import forwarded
from tests.support.other_parsers import Message, responses_by_http_client
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle
from trunkline.channel.heads import HeadError

INTERIM = b"HTTP/1.1 103 X\r\n\r\n"


@pytest.mark.parametrize("step", [1, 5, 1000])
@on_relay()
async def test_any_split_gives_the_same_response(relay: SmallRelay, step: int) -> None:
    data = INTERIM * MAX_INTERIM_RESPONSES + reply(b"content")
    heads = ResponseHeads(relay.front, forwarded(), Taken())
    for start in range(0, len(data), step):
        response = heads.receive_data(data[start : start + step], request_ended=True)
        if response is not None:
            break
    assert response is not None
    assert (response.status, response.content_length, response.keep_alive) == (200, 7, True)
    assert b"content".startswith(heads.take_leftover())
    assert heads.interims == MAX_INTERIM_RESPONSES


@on_relay()
async def test_a_response_before_the_requests_end_ends_the_connection(relay: SmallRelay) -> None:
    heads = ResponseHeads(relay.front, forwarded(), Taken())
    response = heads.receive_data(reply(), request_ended=False)
    assert response is not None
    assert not response.keep_alive


@on_relay()
async def test_interim_responses_are_bounded(relay: SmallRelay) -> None:
    heads = ResponseHeads(relay.front, forwarded(), Taken())
    with pytest.raises(HeadError, match="too many interim"):
        heads.receive_data(INTERIM * (MAX_INTERIM_RESPONSES + 1), request_ended=True)


@pytest.mark.parametrize("status", [b"102", b"103", b"104", b"199"])
@pytest.mark.parametrize("door", Door)
@on_relay()
async def test_on_a_connection_no_interim_response_but_100_goes_on(
    relay: SmallRelay, door: Door, status: bytes
) -> None:
    sender = Taken()
    heads = ResponseHeads(relay.front, forwarded(door=door), sender)
    heads.receive_data(b"HTTP/1.1 %b X\r\nLink: a\r\n\r\n" % status, request_ended=True)
    assert sender.received.startswith(b"HTTP/1.1 %b " % status) == (door is Door.LINK)
    assert not heads.continued
    sender.received = b""
    heads.receive_data(b"HTTP/1.1 100 X\r\n\r\n", request_ended=True)
    assert sender.received == b"HTTP/1.1 100 Continue\r\nVia: 1.1 trunkline\r\n\r\n"
    assert heads.continued


@on_relay()
async def test_a_node_cannot_answer_for_the_next_by_an_interim_response(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    call.answer(INTERIM + reply(b"of the first"))
    await settle()
    sender.send(get(b"/again"))
    await settle()
    call.node.calls[1].answer(reply(b"of the second"))
    await settle()
    assert responses_by_http_client(bytes(sender.received), [b"GET", b"GET"]) == [
        Message((b"200",), b"of the first", whole=True),
        Message((b"200",), b"of the second", whole=True),
    ]


@on_relay()
async def test_whoever_waits_for_a_100_is_not_late_after_another_interim_response(relay: SmallRelay) -> None:
    call, sender = await begin(relay, get(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"PUT"))
    call.answer(INTERIM, end=False)
    await asyncio.sleep(60)
    assert not sender.received
    call.answer(b"HTTP/1.1 100 X\r\n\r\n", end=False)
    sender.send(b"abc")
    await settle()
    call.answer(reply(b"hello"))
    await settle()
    assert sender.received.endswith(b"hello")


@on_relay()
async def test_interim_responses_do_not_reach_http_1_0(relay: SmallRelay) -> None:
    call, sender = await begin(relay, get().replace(b"HTTP/1.1", b"HTTP/1.0"))
    call.answer(INTERIM + reply(b"hello"))
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 200 ")


GARBAGE = {
    "not_http": b"\x00\x01\x02 garbage",
    "not_http_with_end": b"hello there\r\n\r\n",
    "cl_te": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    "te_te": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    "cl_cl": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "fold": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "bare_lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "nul": b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
    "unasked_101": b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "204_with_length": b"HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\nabc",
    "too_many_interims": b"HTTP/1.1 103 X\r\n\r\n" * 17 + reply(),
    "http_2": b"HTTP/2.0 200 OK\r\n\r\n",
    "status_999": b"HTTP/1.1 999 X\r\n\r\n",
    "too_large": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 40_000 + b"\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
@on_relay()
async def test_garbage_from_the_node_is_a_502(relay: SmallRelay, answer: bytes) -> None:
    call, sender = await begin(relay)
    call.answer(answer)
    await settle()
    raw = sender.take()
    while raw.startswith(b"HTTP/1.1 1"):
        raw = raw.partition(b"\r\n\r\n")[2]
    head, content, _, leftover = read(raw)
    assert (head.status, leftover) == (502, b"")
    assert b"BAD_NODE_RESPONSE" in content
    assert b"proxy-status" in {name.lower() for name, _ in head.fields}
    assert relay.metric("calls_total", door="proxy", outcome="bad_response") == 1
    sender.send(get(b"/again"))
    await settle()
    call.node.calls[1].answer(reply(b"again"))
    await settle()
    assert read(bytes(sender.received))[1] == b"again"
