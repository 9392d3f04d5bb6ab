import pytest

from trunkline.channel.errors import RemoteProtocolError
from trunkline.channel.shell_frames import (
    MAX_PAYLOAD_BYTES,
    UPGRADE_PROTOCOL,
    Frame,
    ShellFrame,
    ShellFrameDecoder,
    encode_frame,
)

FRAMES = [
    Frame(ShellFrame.ATTACH, bytes(8)),
    Frame(ShellFrame.DATA, b"ls\n"),
    Frame(ShellFrame.HANG_UP, b""),
    Frame(ShellFrame.DATA, b"x" * MAX_PAYLOAD_BYTES),
]


def test_the_bytes_on_the_wire_are_these():
    assert UPGRADE_PROTOCOL == b"trunkline-shell"
    assert encode_frame(ShellFrame.DATA, b"ls\n") == bytes.fromhex("02000003") + b"ls\n"
    assert encode_frame(ShellFrame.HANG_UP) == bytes.fromhex("0a000000")
    assert {kind.name: kind.value for kind in ShellFrame} == {
        "ATTACH": 1, "DATA": 2, "ERROR": 3, "TAKEN": 4, "END": 5, "RESIZE": 6, "SIGNAL": 7, "EXIT": 8, "DONE": 9,
        "HANG_UP": 10,
    }  # fmt: skip


def test_frames_come_out_as_they_went_in_whole_and_byte_by_byte():
    raw = b"".join(encode_frame(*frame) for frame in FRAMES)
    assert ShellFrameDecoder().receive_data(raw) == FRAMES
    decoder = ShellFrameDecoder()
    short = raw[: 4 + 8 + 4 + 3 + 4]
    assert [frame for byte in short for frame in decoder.receive_data(bytes([byte]))] == FRAMES[:3]


@pytest.mark.parametrize("raw", [b"\0\0\0\0", b"\x0b\0\0\0", b"\xff\0\0\1x", b"\x02\x01\x00\x01"])
def test_unknown_types_and_long_payloads_are_refused_by_their_header(raw):
    with pytest.raises(RemoteProtocolError):
        ShellFrameDecoder().receive_data(raw)
