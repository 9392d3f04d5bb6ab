from relay.calls.content_rest import JOINED_BYTES
from relay.senders.links import SenderStream
from tests.relay.senders.test_links import Call, Sender, request
from tests.support.small_relay import NodeCall, SmallRelay, on_relay, settle

CONTENT = b"".join(b"%06d" % number for number in range(8000))


async def waiting(relay: SmallRelay, size: int) -> tuple[Call, SenderStream, Sender]:
    """A call whose sender takes nothing beyond its small window, and whose answer comes in frames of so many bytes."""
    node, sender = relay.attach_node(), Sender(relay, window_bytes=1024)
    call = sender.call(request(), greedy=False)
    await settle()
    answer_in_pieces(node.calls[0], size)
    await settle()
    (stream,) = sender.relay_side.link.session.streams.values()
    assert isinstance(stream.handler, SenderStream)
    return call, stream.handler, sender


def answer_in_pieces(call: NodeCall, size: int) -> None:
    call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT), end=False)
    for start in range(0, len(CONTENT), size):
        call.answer(CONTENT[start : start + size], end=False)


async def takes_the_rest(call: Call, sender: Sender) -> None:
    """In order, and nothing twice."""
    call.greedy = True
    call.stream.consumed(len(call.received))
    await settle()
    assert call.received.endswith(b"\r\n\r\n" + CONTENT)
    sender.ends[0].abort()


@on_relay()
async def test_small_pieces_that_wait_are_joined(relay: SmallRelay) -> None:
    """Of six bytes each would cost ten times what it is."""
    call, stream, sender = await waiting(relay, 6)
    assert stream.congested
    assert len(stream._waiting or ()) <= len(CONTENT) // (JOINED_BYTES - 6) + 2
    await takes_the_rest(call, sender)


@on_relay()
async def test_large_pieces_that_wait_are_not(relay: SmallRelay) -> None:
    call, stream, sender = await waiting(relay, JOINED_BYTES)
    assert len(stream._waiting or ()) >= len(CONTENT) // JOINED_BYTES
    await takes_the_rest(call, sender)
