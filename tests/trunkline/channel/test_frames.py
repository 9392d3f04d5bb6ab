import json
from pathlib import Path

import pytest

from trunkline.channel import frames
from trunkline.channel.frames import (
    CONTINUED,
    OPENING_WEIGHT,
    Flag,
    FrameDecoder,
    FrameType,
    GoAwayCode,
    encode_header,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "frames.json").read_text())
EXAMPLES = [pytest.param(entry, id=entry["name"]) for entry in VECTORS["frames"]]


def _bytes(hex_text):
    return bytes.fromhex(hex_text.replace(" ", ""))


def _word(entry):
    return FrameType[entry["type"]] << 16 | sum(Flag[flag] for flag in entry["flags"])


def _join(received):
    """Frames with their payload put together again."""
    joined: list[tuple[int, int, int, bytes]] = []
    for word, stream_id, length, payload in received:
        if word == CONTINUED:
            last = joined[-1]
            assert last[1] == stream_id
            joined[-1] = (*last[:3], last[3] + bytes(payload))
        else:
            joined.append((word, stream_id, length, bytes(payload)))
    return joined


def test_the_constants_are_those_of_the_specification():
    constants = VECTORS["constants"]
    assert constants["version"] == frames.PROTOCOL_VERSION
    assert constants["header_bytes"] == frames.HEADER_BYTES == len(encode_header(0, 0, 0))
    assert constants["types"] == {kind.name: kind.value for kind in FrameType}
    assert constants["flags"] == {flag.name: flag.value for flag in Flag}
    assert constants["go_away_codes"] == {code.name: code.value for code in GoAwayCode}
    assert constants["initial_window_bytes"] == frames.INITIAL_WINDOW_BYTES


@pytest.mark.parametrize("entry", EXAMPLES)
def test_a_frame_is_written_as_in_the_vectors(entry):
    written = encode_header(_word(entry), entry["stream"], entry["length"]) + bytes.fromhex(entry["payload"])
    assert written == _bytes(entry["hex"])


@pytest.mark.parametrize("entry", EXAMPLES)
def test_a_frame_is_read_as_in_the_vectors(entry):
    expected = (_word(entry), entry["stream"], entry["length"], bytes.fromhex(entry["payload"]))
    assert _join(FrameDecoder().receive_data(_bytes(entry["hex"]))) == [expected]


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry["name"]) for entry in VECTORS["refused"]])
def test_an_unknown_version_or_type_stops_the_decoder(entry):
    decoder = FrameDecoder()
    ping = _bytes("00 02 0001 00000000 00000001")
    assert len(decoder.receive_data(ping + _bytes(entry["hex"]) + ping)) == 1
    assert decoder.failure is not None


@pytest.mark.parametrize("step", [1, 2, 5, 11, 12, 13, 1000])
def test_any_split_gives_the_same_frames(step):
    stream = b"".join(_bytes(entry["hex"]) for entry in VECTORS["frames"])
    decoder = FrameDecoder()
    received = []
    for position in range(0, len(stream), step):
        received += decoder.receive_data(stream[position : position + step])
    assert _join(received) == _join(FrameDecoder().receive_data(stream))


@pytest.mark.parametrize("turn_frames", [1, 3, 7])
@pytest.mark.parametrize("step", [1, 13, 100, 1000])
def test_a_bound_on_the_frames_of_one_call_gives_the_same_frames(turn_frames, step):
    stream = b"".join(_bytes(entry["hex"]) for entry in VECTORS["frames"])
    decoder = FrameDecoder(turn_frames)
    received = []
    for position in range(0, len(stream), step):
        received += decoder.receive_data(stream[position : position + step])
        while decoder.unread and step > 100:
            received += decoder.receive_data(b"")
    while decoder.unread:
        received += decoder.receive_data(b"")
    assert _join(received) == _join(FrameDecoder().receive_data(stream))


def test_opening_frames_count_several_times_where_they_are_bounded():
    decoder = FrameDecoder(2 * OPENING_WEIGHT)
    assert len(decoder.receive_data(encode_header(1 << 16, 1, 1) * 100)) == 2 * OPENING_WEIGHT
    decoder = FrameDecoder(2 * OPENING_WEIGHT)
    assert len(decoder.receive_data(encode_header(1 << 16 | Flag.SYN, 1, 1) * 100)) == 2
    assert decoder.unread


def test_what_is_left_at_a_bound_is_no_more_than_what_came():
    decoder = FrameDecoder(4)
    for _ in range(3):
        assert len(decoder.receive_data(encode_header(1 << 16, 1, 1) * 4)) == 4
        assert not decoder.unread
    assert len(decoder.receive_data(encode_header(1 << 16, 1, 1) * 4 + b"\0")) == 4
    assert not decoder.unread
    assert len(decoder.receive_data(encode_header(1 << 16, 1, 1)[1:])) == 1


def test_a_payload_is_handed_on_as_it_comes():
    decoder = FrameDecoder()
    assert decoder.receive_data(encode_header(0, 1, 1 << 31)) == [(0, 1, 1 << 31, b"")]
    assert decoder.receive_data(b"ab") == [(CONTINUED, 1, (1 << 31) - 2, b"ab")]
    assert decoder.receive_data(b"") == []


def test_a_large_payload_is_a_view_but_never_of_a_much_larger_buffer():
    large = bytes(range(256)) * 256
    decoder = FrameDecoder()
    small, view = decoder.receive_data(encode_header(0, 1, 3) + b"abc" + encode_header(0, 3, len(large)) + large)
    assert type(small[3]) is bytes
    assert type(view[3]) is memoryview
    assert view[3] == large
    part = large[: 16 * 1024]
    crowd = encode_header(0, 1, len(part)) + part + encode_header(0, 3, len(large)) + large
    assert [type(frame[3]) for frame in decoder.receive_data(crowd)] == [bytes, memoryview]


def test_the_numbers_written_out_are_those_of_the_enums():
    assert tuple(Flag) == (frames.SYN, frames.ACK, frames.FIN, frames.RST)
    words = (frames.DATA, frames.WINDOW_UPDATE, frames.PING, frames.GO_AWAY)
    assert words == tuple(kind << 16 for kind in FrameType)
    assert sum(Flag) == frames.KNOWN_FLAGS
    assert frames.LAST_WORD == FrameType.GO_AWAY << 16 | frames.FLAGS_MASK
