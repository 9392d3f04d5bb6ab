"""The mux's bytes inside a WebSocket: two ends of it back to back, and hostile peers."""

import asyncio
import random

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from trunkline.channel.errors import RemoteProtocolError
from trunkline.channel.unsent import unsent_bytes
from trunkline.channel.websocket import LARGEST_MESSAGE_BYTES, WebSocketTransport


class Below(asyncio.Transport):
    """The transport below one end: what is written collects in `written`."""

    def __init__(self):
        super().__init__()
        self.protocol: asyncio.Protocol
        self.written = bytearray()
        self.closed = False
        self.aborted = False
        self.reading = True

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        self.written += data

    def writelines(self, list_of_data):
        self.written += b"".join(list_of_data)

    def take(self):
        data, self.written = bytes(self.written), bytearray()
        return data

    def close(self):
        self.closed = True

    def abort(self):
        self.aborted = True

    def is_closing(self):
        return self.closed or self.aborted

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_reading(self):
        return self.reading

    def get_write_buffer_size(self):
        return len(self.written)

    def get_extra_info(self, name, default=None):
        return {"peername": ("relay.test", 443)}.get(name, default)

    def get_local_write_buffer_size(self):
        return len(self.written) + 7


class Above(asyncio.Protocol):
    """Who sits on the WebSocket: what it is told collects in `received` and `log`."""

    def __init__(self):
        self.received = bytearray()
        self.log = []

    def data_received(self, data):
        self.received += data

    def pause_writing(self):
        self.log.append("pause")

    def resume_writing(self):
        self.log.append("resume")

    def connection_lost(self, exc):
        self.log.append(("lost", type(exc).__name__ if exc else None))


class End:
    def __init__(self, side, leftover=b""):
        self.below = Below()
        self.above = Above()
        self.transport = WebSocketTransport(self.below, side)
        self.transport.set_protocol(self.above)
        self.transport.start(leftover)

    def feed(self, data, step=None):
        for start in range(0, len(data), step or max(1, len(data))):
            self.below.protocol.data_received(data[start : start + (step or len(data))])


def frame(opcode, data, *, mask=True, fin=True):
    return Frame(opcode, data, fin).serialize(mask=mask)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("size", [1, 125, 126, 65_536, 700_000])
def test_bytes_arrive_as_they_were_written(side, size):
    sender, receiver = End(side), End(Side(1 - side))
    data = random.Random(size).randbytes(size)
    sender.transport.write(data)
    sender.transport.writelines([b"and", memoryview(b" more")])
    receiver.feed(sender.below.take())
    assert bytes(receiver.above.received) == data + b"and more"


def test_any_split_gives_the_same_bytes():
    sender, receiver = End(Side.CLIENT), End(Side.SERVER)
    for size in (0, 3, 126, 5000):
        sender.transport.write(b"x" * size)
    receiver.feed(sender.below.take(), step=1)
    assert bytes(receiver.above.received) == b"x" * 5129


def test_a_client_masks_and_a_server_does_not():
    client, server = End(Side.CLIENT), End(Side.SERVER)
    client.transport.write(b"secretly")
    server.transport.write(b"plainly!")
    assert client.below.written[1] & 0x80
    assert b"secretly" not in client.below.written
    assert server.below.written[:2] == b"\x82\x08"


def test_what_came_behind_the_upgrade_is_read():
    end = End(Side.CLIENT, leftover=frame(Opcode.BINARY, b"early", mask=False))
    assert end.above.received == b"early"


def test_fragments_are_passed_on_as_they_come():
    end = End(Side.SERVER)
    end.feed(frame(Opcode.BINARY, b"a", fin=False) + frame(Opcode.CONT, b"b", fin=False) + frame(Opcode.CONT, b"c"))
    assert end.above.received == b"abc"


def test_a_frame_is_passed_on_before_it_is_whole():
    end = End(Side.SERVER)
    data = frame(Opcode.BINARY, b"x" * LARGEST_MESSAGE_BYTES)
    end.feed(data[:-1], step=65_536)
    assert end.above.received == b"x" * (LARGEST_MESSAGE_BYTES - 1)
    end.feed(data[-1:])
    assert len(end.above.received) == LARGEST_MESSAGE_BYTES


def test_of_pings_that_come_at_once_the_last_is_answered():
    end = End(Side.SERVER)
    end.feed(b"".join(frame(Opcode.PING, b"%d" % number) for number in range(1000)))
    assert end.below.take() == frame(Opcode.PONG, b"999", mask=False)


def test_nothing_is_read_behind_a_goodbye():
    end = End(Side.SERVER)
    end.feed(frame(Opcode.CLOSE, b"\x03\xe8"))
    end.feed(frame(Opcode.BINARY, b"late") + frame(Opcode.PING, b"late"))
    assert end.above.received == b""
    assert end.below.take() == b"\x88\x02\x03\xe8"


def test_a_breach_is_told_to_who_sits_above():
    end = End(Side.SERVER)
    end.feed(frame(Opcode.TEXT, b"hello"))
    end.below.protocol.connection_lost(None)
    assert end.above.log == [("lost", RemoteProtocolError.__name__)]


def test_a_ping_is_answered():
    end = End(Side.SERVER)
    end.feed(frame(Opcode.PING, b"are you there"))
    assert end.below.take() == frame(Opcode.PONG, b"are you there", mask=False)


def test_closing_says_goodbye():
    end = End(Side.SERVER)
    end.transport.write(b"last")
    end.transport.close()
    end.transport.close()
    end.transport.write(b"ignored")
    assert end.below.take() == frame(Opcode.BINARY, b"last", mask=False) + b"\x88\x02\x03\xe8"
    assert end.below.closed
    assert end.transport.is_closing()
    end.below.protocol.connection_lost(None)
    assert end.above.log == [("lost", None)]


def test_the_peers_goodbye_is_answered_and_ends_it():
    end = End(Side.SERVER)
    end.feed(frame(Opcode.BINARY, b"last") + frame(Opcode.CLOSE, b"\x03\xe8"))
    assert end.above.received == b"last"
    assert end.below.take() == b"\x88\x02\x03\xe8"
    assert end.below.closed


def test_the_end_of_the_connection_below_ends_it():
    end = End(Side.SERVER)
    assert not end.below.protocol.eof_received()
    assert end.below.closed


@pytest.mark.parametrize(
    ("data", "close_code"),
    [
        (frame(Opcode.TEXT, b"hello"), 1003),
        (frame(Opcode.BINARY, b"unmasked", mask=False), 1002),
        (b"\xc2\x80\x00\x00\x00\x00", 1002),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (frame(Opcode.CONT, b"of nothing"), 1002),
        (b"\x09\x80\x00\x00\x00\x00", 1002),
        (b"\x82\xff" + (LARGEST_MESSAGE_BYTES + 1).to_bytes(8, "big") + b"\x00\x00\x00\x00", 1009),
        (b"\x82\xff" + (2**63).to_bytes(8, "big") + b"\x00\x00\x00\x00", 1009),
        (frame(Opcode.CLOSE, b"\x00\x01"), 1002),
    ],
    ids=["text", "unmasked", "reserved bit", "opcode", "continuation", "split ping", "big", "huge", "close code"],
)
def test_a_breach_of_the_protocol_ends_it_with_its_close_code(data, close_code):
    end = End(Side.SERVER)
    end.feed(data + frame(Opcode.BINARY, b"never seen"))
    assert end.above.received == b""
    assert end.below.closed
    peer = Protocol(Side.CLIENT, state=State.OPEN)
    peer.receive_data(end.below.take())
    assert peer.close_rcvd is not None
    assert peer.close_rcvd.code == close_code


def test_fragments_that_never_end_are_bounded():
    end = End(Side.SERVER)
    end.feed(frame(Opcode.BINARY, b"", fin=False))
    for _ in range(LARGEST_MESSAGE_BYTES // 65_536 + 1):
        end.feed(frame(Opcode.CONT, b"x" * 65_536, fin=False))
    assert end.below.closed


def test_a_peer_that_pings_and_does_not_read_is_cut():
    end = End(Side.SERVER)
    end.below.protocol.pause_writing()
    for _ in range(600):
        end.feed(frame(Opcode.PING, b"p" * 125))
    assert end.below.aborted
    end.below.protocol.connection_lost(None)
    assert end.above.log == ["pause", ("lost", RemoteProtocolError.__name__)]


def test_flow_control_passes_through_in_both_directions():
    end = End(Side.CLIENT)
    end.transport.pause_reading()
    assert not end.transport.is_reading()
    end.transport.resume_reading()
    assert end.transport.is_reading()
    end.below.protocol.pause_writing()
    end.below.protocol.resume_writing()
    assert end.above.log == ["pause", "resume"]
    assert unsent_bytes(end.transport) == unsent_bytes(end.below) == 7
    assert end.transport.get_extra_info("peername") == ("relay.test", 443)
    assert not end.transport.can_write_eof()


def test_nothing_is_delivered_after_the_loss():
    end = End(Side.SERVER)
    end.below.protocol.connection_lost(ConnectionResetError())
    end.feed(frame(Opcode.BINARY, b"late"))
    end.transport.write(b"late")
    assert end.above.log == [("lost", "ConnectionResetError")]
    assert end.above.received == b""
    assert end.below.take() == b""
