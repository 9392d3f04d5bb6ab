import asyncio
from collections.abc import Callable

from relay.senders.output import SenderOutput
from tests.support.small_relay import SmallRelay, get, on_relay, settle
from trunkline.channel.flushing import JOIN_BYTES
from trunkline.channel.link_stream import TURN_BYTES


class Wire(asyncio.Transport):
    """Notes each write; those of one `writelines` are one."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data) -> None:
        self.writes.append(b"".join(list_of_data))


def prepared() -> tuple[SenderOutput, Wire, list[Callable[[], None]]]:
    """An output, what it writes to, and the calls that it wants at the end of the turn."""
    wire, soon = Wire(), []
    return SenderOutput(wire, soon.append), wire, soon


def test_pieces_of_one_turn_leave_together_and_in_order():
    output, wire, soon = prepared()
    large, rest = b"a" * JOIN_BYTES, b"b" * (2 * JOIN_BYTES)
    output.write(large)
    output.write(memoryview(rest))
    output.write(b"c")
    assert not wire.writes
    [end_of_turn] = soon
    end_of_turn()
    assert wire.writes == [large + rest + b"c"]


def test_no_more_waits_than_one_turn_of_a_stream():
    output, wire, soon = prepared()
    first, second = b"a" * (TURN_BYTES - JOIN_BYTES), b"b" * JOIN_BYTES
    for _ in range(2):
        output.write(first)
        output.write(second)
    assert wire.writes == [first + second]
    whole = b"c" * TURN_BYTES
    output.write(whole)
    assert wire.writes == [first + second, first + second, whole]
    [end_of_turn] = soon
    end_of_turn()
    assert len(wire.writes) == 3


def test_small_output_waits_for_nothing_but_what_it_follows():
    output, wire, soon = prepared()
    output.write(b"small")
    assert wire.writes == [b"small"]
    assert not soon


def test_what_waits_can_be_written_and_dropped_before_the_turn_ends():
    output, wire, soon = prepared()
    large = b"a" * JOIN_BYTES
    output.write(large)
    output.flush()
    assert wire.writes == [large]
    output.write(large)
    output.drop()
    for end_of_turn in soon:
        end_of_turn()
    assert wire.writes == [large]


@on_relay()
async def test_the_next_answer_follows_the_whole_of_the_last(relay: SmallRelay) -> None:
    """The end of a response is written with it, for the relay's own answer to the next request comes at once."""
    node, sender = relay.attach_node(), relay.connect()
    content = b"x" * (3 * JOIN_BYTES)
    sender.send(get(b"/") + get(b"/", b"Host: nobody.example"))
    await settle()
    head = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % len(content)
    node.calls[0].stream.write(head + content[:JOIN_BYTES])
    node.calls[0].stream.write(content[JOIN_BYTES:], end=True)
    await settle()
    received = sender.take()
    body_at = received.index(b"\r\n\r\n") + 4
    assert received[body_at : body_at + len(content)] == content
    assert received[body_at + len(content) :].startswith(b"HTTP/1.1 400 ")
