import asyncio
from collections.abc import Callable, Iterable

import pytest

from relay.calls.content_rest import JOINED_BYTES
from relay.senders.closing import GOODBYE_SECONDS
from relay.senders.transport_flow import LINGER_SECONDS, MAX_HELD_BYTES, MAX_OVERRUN_BYTES, TransportFlow
from tests.relay.calls.test_exchange import CONNECT, begin
from tests.relay.senders.test_connection import answering
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle
from trunkline.channel.errors import StreamReset


class Transport(asyncio.Transport):
    """Writes down what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.written: list[bytes] = []
        self.unsent_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written += map(bytes, list_of_data)

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return "close" in self.asked

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")


@on_relay()
async def test_reading_stops_behind_what_was_delivered_and_goes_on_below_the_bound(relay: SmallRelay) -> None:
    transport = Transport()
    flow = TransportFlow(transport, relay.front)
    flow.hold(b"x" * MAX_HELD_BYTES)
    assert flow.reading
    flow.hold(b"x")
    assert (flow.reading, transport.asked) == (False, [])
    await settle()
    assert transport.asked == ["pause"]
    flow.read_on()
    assert not flow.reading
    assert len(flow.take_held()) == MAX_HELD_BYTES + 1
    flow.read_on()
    assert (flow.reading, transport.asked) == (True, ["pause", "resume"])


@on_relay()
async def test_what_a_transport_delivers_all_the_same_is_bounded(relay: SmallRelay) -> None:
    transport = Transport()
    flow = TransportFlow(transport, relay.front)
    flow.stop_reading(MAX_OVERRUN_BYTES)
    flow.stop_reading(MAX_OVERRUN_BYTES)
    assert transport.asked == []
    flow.stop_reading(1)
    assert transport.asked == ["pause"]


@on_relay()
async def test_a_pause_that_comes_too_late_is_none(relay: SmallRelay) -> None:
    transport = Transport()
    flow = TransportFlow(transport, relay.front)
    flow.stop_reading(1)
    flow.part()
    await settle()
    assert transport.asked == []


@on_relay()
async def test_the_end_lingers_then_waits_until_everything_is_taken_then_closes(relay: SmallRelay) -> None:
    transport = Transport()
    flow = TransportFlow(transport, relay.front)
    flow.hold(b"unread")
    assert flow.linger() == relay.deadlines.now + LINGER_SECONDS
    assert flow.held == b""
    transport.unsent_bytes = 1
    flow.pause_writing(5.0)
    flow.close()
    await asyncio.sleep(4)
    assert transport.asked == []
    transport.unsent_bytes = 0
    flow.resume_writing()
    await asyncio.sleep(1)
    assert transport.asked == ["close"]
    flow.close()
    await asyncio.sleep(GOODBYE_SECONDS)
    assert transport.asked == ["close", "abort"]
    assert not relay.metric("deadlines_total", deadline="write_stall")


@on_relay()
async def test_who_was_stalled_before_the_end_has_as_long_behind_it(relay: SmallRelay) -> None:
    transport = Transport()
    transport.unsent_bytes = 1
    flow = TransportFlow(transport, relay.front)
    flow.pause_writing(relay.limits.stream_stall_seconds)
    flow.close()
    await asyncio.sleep(relay.limits.stream_stall_seconds - 1)
    assert transport.asked == []
    await asyncio.sleep(2)
    assert transport.asked == ["abort"]


class TlsTransport(Transport):
    """Has bytes encrypted that its buffer's size leaves out."""

    encrypted_bytes = 0

    def get_local_write_buffer_size(self) -> int:
        return self.unsent_bytes + self.encrypted_bytes


def ending(relay: SmallRelay) -> tuple[TlsTransport, TransportFlow]:
    """A connection whose call is over, and of which the sender has not taken what is encrypted already."""
    transport = TlsTransport()
    transport.encrypted_bytes = 5000
    flow = TransportFlow(transport, relay.front)
    flow.close()
    return transport, flow


@on_relay()
async def test_the_end_waits_for_what_is_encrypted_already(relay: SmallRelay) -> None:
    transport, flow = ending(relay)
    while transport.encrypted_bytes:
        await asyncio.sleep(relay.limits.write_stall_seconds - 1)
        assert transport.asked == []
        assert relay.front.untaken.held_bytes() == transport.encrypted_bytes
        transport.encrypted_bytes -= 1000
    await asyncio.sleep(1)
    assert transport.asked == ["close"]
    flow.part()
    await asyncio.sleep(GOODBYE_SECONDS + 1)
    assert transport.asked == ["close"]
    assert relay.front.untaken.held_bytes() == 0


@on_relay()
async def test_the_end_comes_soon_after_the_last_byte(relay: SmallRelay) -> None:
    transport, _ = ending(relay)
    await asyncio.sleep(0.001)
    transport.encrypted_bytes = 0
    await asyncio.sleep(0.002)
    assert transport.asked == ["close"]


@on_relay()
async def test_who_takes_nothing_of_what_is_encrypted_is_cut(relay: SmallRelay) -> None:
    transport, _ = ending(relay)
    await asyncio.sleep(relay.limits.write_stall_seconds + 1)
    assert transport.asked == ["abort"]
    assert relay.metric("deadlines_total", deadline="write_stall") == 1


@on_relay()
async def test_who_holds_most_while_the_end_waits_is_cut_when_memory_is_needed(relay: SmallRelay) -> None:
    transport, _ = ending(relay)
    holder = relay.front.untaken.largest_holder()
    assert holder is not None
    holder.cut(StreamReset("memory was needed"))
    assert transport.asked == ["abort"]
    assert relay.front.untaken.held_bytes() == 0
    await asyncio.sleep(relay.limits.write_stall_seconds + 1)
    assert transport.asked == ["abort"]


@on_relay()
async def test_a_node_that_ends_raw_bytes_before_they_are_taken_ends_the_connection(relay: SmallRelay) -> None:
    call, sender = await begin(relay, CONNECT)
    call.node.greedy = False
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    sender.send(b"x" * 200_000)
    await settle()
    sender.transport.pause_reading()
    call.answer(b"y" * 300_000)
    await asyncio.sleep(1)
    sender.transport.resume_reading()
    await asyncio.sleep(1)
    assert sender.received.endswith(b"y" * 300_000)
    assert sender.lost
    await asyncio.sleep(relay.limits.stream_stall_seconds + 1)
    assert call.lost is not None


@on_relay()
async def test_pipelining_is_bounded(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get() + get() * 20_000)
    await settle()
    assert len(node.calls) == 1
    assert sender.transport.get_write_buffer_size() > 500_000
    node.script = answering()
    node.calls[0].answer(reply())
    await asyncio.sleep(5)
    assert len(node.calls) == 20_001
    assert sender.received.count(b"hello") == 20_001


@on_relay()
async def test_answers_that_nobody_takes_do_not_pile_up(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering(b"x" * 10_000)
    sender.transport.pause_reading()
    for _ in range(50):
        sender.send(get() * 100)
        await settle()
    (connection,) = relay.port._connections
    assert connection._transport.get_write_buffer_size() < 200_000
    sender.transport.resume_reading()
    await asyncio.sleep(5)
    assert sender.received.count(b"HTTP/1.1 ") == 5000
    assert not sender.lost
    sender.transport.pause_reading()
    sender.send(get() * 5000)
    await asyncio.sleep(200)
    assert not relay.port._connections
    assert relay.metric("deadlines_total", deadline="write_stall") == 1


@on_relay()
async def test_content_is_held_to_the_nodes_window(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.greedy = False
    sender.send(get(b"/", b"Content-Length: 10000000", method=b"PUT") + b"x" * 10_000_000)
    await asyncio.sleep(1)
    assert len(node.calls[0].received) == 65_536
    assert sender.transport.get_write_buffer_size() > 8_000_000


@on_relay()
async def test_slow_reader_holds_its_window_only(relay: SmallRelay) -> None:
    node = relay.attach_node()
    slow, quick = relay.connect(), relay.connect()
    slow.send(get(b"/big"))
    await settle()
    slow.transport.pause_reading()
    content = bytes(range(256)) * 40_000
    node.calls[0].answer(reply(content))
    await settle()
    assert node.calls[0].unsent_bytes > len(content) - 400_000
    node.script = answering()
    quick.send(get(b"/small"))
    await settle()
    assert quick.received.endswith(b"hello")
    slow.transport.resume_reading()
    await asyncio.sleep(1)
    assert slow.received.endswith(content)


@pytest.mark.parametrize("large", [0, 2000, 30_000])
@on_relay()
async def test_small_pieces_that_come_while_it_is_congested_are_joined_in_order(relay: SmallRelay, large: int) -> None:
    """A transport keeps each piece as it is: of two bytes each a window would cost thirty times what it is."""
    transport = Transport()
    flow = TransportFlow(transport, relay.front)
    flow.write(b"ab")
    flow.pause_writing(60.0)
    pieces = [b"%06d" % number for number in range(3000)]
    pieces[1000:1000] = [b"x" * large] if large else []
    for piece in pieces:
        flow.write(piece)
    flow.resume_writing()
    flow.write(b"cd")
    await settle()
    assert b"".join(transport.written) == b"".join([b"ab", *pieces, b"cd"])
    assert len(transport.written) <= 6 * 3000 // (JOINED_BYTES - 6) + 6


@pytest.mark.parametrize("ending", [TransportFlow.write_out, TransportFlow.close])
@on_relay()
async def test_what_is_joined_is_written_before_what_follows(
    relay: SmallRelay, ending: Callable[[TransportFlow], object]
) -> None:
    transport = Transport()
    flow = TransportFlow(transport, relay.front)
    flow.pause_writing(60.0)
    flow.write(b"ab")
    flow.write(b"cd")
    assert transport.written == []
    ending(flow)
    assert transport.written == [b"abcd"]
    flow.resume_writing()
    assert transport.written == [b"abcd"]


@on_relay()
async def test_tiny_pieces_come_through_to_a_slow_sender(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    sender.transport.pause_reading()
    content = b"".join(b"%06d" % number for number in range(40_000))
    call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content), end=False)
    for start in range(0, 90_000, 6):
        call.answer(content[start : start + 6], end=False)
    await settle()
    sender.transport.resume_reading()
    call.answer(content[90_000:])
    await settle()
    assert sender.received.endswith(b"\r\n\r\n" + content)
