"""Reading a WebSocket's frames: in any split, and as the `websockets` core reads them, which collects messages."""

import random

import pytest
from websockets.frames import CloseCode, Frame, Opcode

from tests.support.websocket_core import MOST_MESSAGE_BYTES, read_by_core
from trunkline.channel.websocket_payload import PayloadReader

BREACHES = {CloseCode.PROTOCOL_ERROR, CloseCode.UNSUPPORTED_DATA, CloseCode.MESSAGE_TOO_BIG}


def reader(*, masked: bool = True) -> PayloadReader:
    return PayloadReader(masked=masked, largest_message_bytes=MOST_MESSAGE_BYTES)


def mostly_valid(rng: random.Random, *, masked: bool) -> bytes:
    """Frames as a peer may send them, now and then with a mistake."""
    frames, in_message = [], False
    for _ in range(rng.randrange(1, 12)):
        opcode = Opcode.CONT if in_message else Opcode.BINARY
        size = rng.choice((0, 1, 2, 3, 125, 126, 127, 500, 1500))
        fin = rng.random() < 0.6
        if rng.random() < 0.3:
            opcode, size, fin = rng.choice((Opcode.PING, Opcode.PONG)), rng.choice((0, 3, 125)), True
        else:
            in_message = not fin
        raw = bytearray(Frame(opcode, rng.randbytes(size), fin).serialize(mask=masked))
        if rng.random() < 0.05:
            raw[0] ^= 1 << rng.randrange(8)
        if rng.random() < 0.02:
            raw[1] ^= 0x80
        frames.append(bytes(raw))
    if rng.random() < 0.2 and not in_message:
        frames.append(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=masked))
    return b"".join(frames)


@pytest.mark.parametrize("masked", [True, False])
def test_it_reads_what_the_core_reads_in_any_split(masked: bool) -> None:
    rng = random.Random(7)
    breaches = 0
    for _ in range(1500):
        data = mostly_valid(rng, masked=masked)
        expected, code = read_by_core(data, masked=masked)
        one, other = reader(masked=masked), reader(masked=masked)
        whole = one.receive_data(data)
        controls = one.take_controls()
        split, last_controls = b"", []
        position = 0
        while position < len(data):
            size = rng.randrange(1, 40)
            split += other.receive_data(data[position : position + size])
            last_controls = other.take_controls() or last_controls
            position += size
        assert whole == split
        if one.breach is None:
            # What is not yet whole is here already.
            assert whole[: len(expected)] == expected
            assert (code is not None) is one.over  # by a close frame, which is the core's to judge
            assert last_controls[-1:] == controls[-1:]
        else:
            breaches += 1
            assert whole == expected
            assert {one.breach.code, code} <= BREACHES  # one frame may have several mistakes
            assert other.breach is not None
            assert other.breach.code == one.breach.code
    assert 100 < breaches < 1400


def test_only_the_start_of_a_frame_is_kept() -> None:
    one = reader()
    data = Frame(Opcode.BINARY, bytes(1999)).serialize(mask=True) + Frame(Opcode.PING, bytes(125)).serialize(mask=True)
    for byte in data[:-1]:
        one.receive_data(bytes([byte]))
        assert len(one._kept) < 2 + 4 + 125
    assert one.take_controls() == []
    one.receive_data(data[-1:])
    assert one.take_controls() == [data[-131:]]
