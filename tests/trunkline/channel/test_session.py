import json
from pathlib import Path

import pytest

from tests.support.sessions import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    accepted,
    frame,
    new_session,
    opened,
    sent,
    transcript,
)
from trunkline.channel.errors import (
    ConnectionLost,
    ErrorCode,
    LimitExceeded,
    RemoteProtocolError,
)
from trunkline.channel.events import PongReceived, SessionFailed
from trunkline.channel.limits import Limits
from trunkline.channel.session import Role

KIB = 1024
WINDOW = 256 * KIB
PROTOCOL_ERROR = frame(GO_AWAY, 0, 0, 1)
CONVERSATIONS = json.loads((Path(__file__).parents[2] / "vectors" / "frames.json").read_text())["conversations"]


def _fails(session, data, code=ErrorCode.REMOTE_PROTOCOL):
    """Check that the session ends, with a GoAway, and takes nothing more."""
    lines = transcript(session.receive_data(data, 0.0))
    assert lines[-1][:2] == ("failed", code)
    assert sent(session).endswith(PROTOCOL_ERROR)
    assert session.streams == {}
    assert session.receive_data(frame(PING, SYN, 0), 0.0) == []
    assert session.next_deadline() is None
    return lines


# Conversations


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry["name"]) for entry in CONVERSATIONS])
def test_a_call_goes_over_the_wire_as_in_the_vectors(entry):
    client = new_session(Role.CLIENT, compact=entry["compact"])
    server = new_session(Role.SERVER, compact=entry["compact"])
    stream = client.open_stream()
    client.send_data(stream, b"ping")
    wire = sent(client)
    assert wire == bytes.fromhex(entry["client_sends"])
    assert transcript(server.receive_data(wire, 0.0)) == [("opened", 1), ("data", 1, b"ping", False)]
    server.send_data(server.streams[1], b"pong", end=True)
    wire = sent(server)
    assert wire == bytes.fromhex(entry["server_sends"])
    lines = transcript(client.receive_data(wire, 0.0))
    assert lines in ([("data", 1, b"pong", True)], [("data", 1, b"pong", False), ("ended", 1)])
    client.end_stream(stream)
    wire = sent(client)
    assert wire == bytes.fromhex(entry["client_ends"])
    assert transcript(server.receive_data(wire, 0.0)) == [("ended", 1)]
    assert client.streams == server.streams == {}


def test_the_server_opens_even_streams_and_the_client_odd_ones():
    assert [new_session(Role.CLIENT).open_stream().id, new_session(Role.SERVER).open_stream().id] == [1, 2]
    client = new_session(Role.CLIENT)
    assert [client.open_stream().id for _ in range(3)] == [1, 3, 5]


def test_a_stream_opened_without_data_is_announced_by_a_window_update():
    client = new_session(Role.CLIENT)
    client.open_stream()
    assert client.wants_to_send
    assert sent(client) == frame(WINDOW_UPDATE, SYN, 1)
    assert not client.wants_to_send


def test_a_quiet_stream_is_acknowledged_after_a_while():
    server = new_session()
    server.receive_data(frame(WINDOW_UPDATE, SYN, 1), 10.0)
    assert sent(server) == b""
    assert server.deadline_moved
    assert server.next_deadline() == pytest.approx(10.2)
    assert server.handle_deadline(10.1) == []
    assert sent(server) == b""
    server.handle_deadline(10.2)
    assert sent(server) == frame(WINDOW_UPDATE, ACK, 1)
    server.send_data(server.streams[1], b"x")
    assert sent(server) == frame(DATA, 0, 1, payload=b"x")


def test_many_quiet_streams_are_acknowledged_at_once():
    server = new_session()
    opening = b"".join(frame(WINDOW_UPDATE, SYN, 2 * number + 1) for number in range(65))
    server.receive_data(opening, 0.0)
    assert server.wants_to_send
    assert sent(server) == opening.replace(b"\x00\x01\x00\x01", b"\x00\x01\x00\x02")


def test_half_close_leaves_the_other_direction_open():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    client.end_stream(stream)
    assert sent(client) == frame(WINDOW_UPDATE, FIN, 1)
    assert transcript(client.receive_data(frame(DATA, 0, 1, payload=b"late"), 0.0)) == [("data", 1, b"late", False)]
    assert transcript(client.receive_data(frame(DATA, FIN, 1), 0.0)) == [("ended", 1)]
    assert client.streams == {}


def test_reset_forgets_the_stream_at_once():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    client.reset_stream(stream)
    assert sent(client) == frame(WINDOW_UPDATE, RST, 1)
    assert client.streams == {}
    client.reset_stream(stream)
    client.send_data(stream, b"dropped")
    client.consumed(stream, 5, 0.0)
    assert sent(client) == b""


def test_a_stream_reset_before_it_was_announced_never_shows():
    client = new_session(Role.CLIENT)
    client.reset_stream(client.open_stream())
    assert sent(client) == b""
    assert client.can_open


def test_what_is_sent_to_a_stream_that_the_peer_has_reset_is_dropped():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    assert transcript(client.receive_data(frame(WINDOW_UPDATE, RST, 1), 0.0)) == [("reset", 1)]
    client.send_data(stream, b"too late", end=True)
    client.end_stream(stream)
    assert sent(client) == b""


def test_pings_are_answered_and_measured():
    client, server = new_session(Role.CLIENT), new_session()
    ping_id = client.ping(5.0)
    assert server.receive_data(sent(client), 5.0) == []
    (pong,) = client.receive_data(sent(server), 5.25)
    assert isinstance(pong, PongReceived)
    assert (pong.ping_id, pong.rtt_seconds) == (ping_id, 0.25)
    assert client.rtt_seconds == 0.25


def test_the_payload_of_a_ping_is_echoed():
    server = new_session()
    server.receive_data(frame(PING, SYN, 0, 0xCAFEBABE), 0.0)
    assert sent(server) == frame(PING, ACK, 0, 0xCAFEBABE)


# Drain


def test_after_a_go_away_old_streams_finish_and_new_ones_are_refused():
    server = new_session()
    stream = accepted(server)
    server.go_away()
    server.go_away()
    assert sent(server) == frame(GO_AWAY, 0, 0, 0)
    lines = transcript(server.receive_data(frame(DATA, SYN, 3, payload=b"new") + frame(DATA, 0, 1, payload=b"old"), 0))
    assert lines == [("data", 1, b"old", False)]
    assert sent(server) == frame(WINDOW_UPDATE, RST, 3)
    server.send_data(stream, b"answer", end=True)
    with pytest.raises(LimitExceeded) as caught:
        server.open_stream()
    assert caught.value.code is ErrorCode.DRAINING


def test_a_go_away_received_forbids_new_streams_only():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    assert transcript(client.receive_data(frame(GO_AWAY, 0, 0, 0), 0.0)) == [("go away", 0)]
    assert not client.can_open
    client.send_data(stream, b"still")
    assert client.receive_data(frame(DATA, 0, 1, payload=b"works"), 0.0)


def test_what_was_taken_is_acknowledged_before_the_go_away():
    server = new_session()
    server.receive_data(frame(WINDOW_UPDATE, SYN, 1), 0.0)
    server.go_away()
    assert sent(server) == frame(WINDOW_UPDATE, ACK, 1) + frame(GO_AWAY, 0, 0, 0)


@pytest.mark.parametrize("compact", [False, True])
def test_a_stream_that_crosses_the_go_away_is_known_to_be_refused(compact):
    client, server = new_session(Role.CLIENT, compact=compact), new_session(compact=compact)
    taken = client.open_stream()
    server.receive_data(sent(client), 0.0)
    server.go_away()
    crossing = client.open_stream()
    wire = sent(client)
    client.receive_data(sent(server), 0.0)
    server.receive_data(wire, 0.0)
    client.receive_data(sent(server), 0.0)
    assert (crossing.lost, crossing.refused) == (True, True)
    server.reset_stream(server.streams[taken.id])
    client.receive_data(sent(server), 0.0)
    assert (taken.lost, taken.refused) == (True, False)


@pytest.mark.parametrize(("compact", "goodbye", "refused"), [(True, 0, True), (False, 0, False), (True, 2, False)])
def test_what_goes_down_with_a_link_was_refused_if_the_peer_said_so_first(compact, goodbye, refused):
    client = new_session(Role.CLIENT, compact=compact)
    stream = client.open_stream()
    sent(client)
    client.receive_data(frame(GO_AWAY, 0, 0, goodbye), 0.0)
    client.end(ConnectionLost("gone"))
    assert (stream.lost, stream.refused) == (True, refused)


def test_a_reset_without_a_go_away_says_nothing_of_whether_the_stream_was_taken():
    client = new_session(Role.CLIENT)
    stream = client.open_stream()
    sent(client)
    client.receive_data(frame(WINDOW_UPDATE, RST, stream.id), 0.0)
    assert not stream.refused


@pytest.mark.parametrize("code", [1, 2, 3, 0xFFFFFFFF])
def test_any_other_go_away_ends_the_session_without_an_answer(code):
    client = new_session(Role.CLIENT)
    stream = opened(client)
    lines = transcript(client.receive_data(frame(GO_AWAY, 0, 0, code) + frame(PING, SYN, 0), 0.0))
    assert lines == [("go away", code), ("failed", ErrorCode.PEER_FAILED, [1])]
    assert stream.lost
    assert sent(client) == b""
    with pytest.raises(ConnectionLost):
        client.open_stream()


# The peer's mistakes end the session before anything is made of them


def test_a_length_beyond_the_window_is_refused_by_its_header_alone():
    server = new_session()
    accepted(server)
    _fails(server, frame(DATA, 0, 1, WINDOW + 1), ErrorCode.WINDOW_EXCEEDED)


@pytest.mark.parametrize("length", [WINDOW + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_stream_cannot_open_with_more_than_its_window(length):
    server = new_session()
    assert _fails(server, frame(DATA, SYN, 1, length), ErrorCode.WINDOW_EXCEEDED)[:-1] == []


def test_a_window_cannot_be_opened_beyond_what_a_number_holds():
    client = new_session(Role.CLIENT)
    opened(client)
    _fails(client, frame(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF))


def test_the_window_is_spent_over_several_frames():
    server = new_session()
    accepted(server)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(WINDOW - 10)), 0.0)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(10)), 0.0)
    _fails(server, frame(DATA, 0, 1, payload=b"x"), ErrorCode.WINDOW_EXCEEDED)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(frame(DATA, SYN, 2), id="a stream id of the other side"),
        pytest.param(frame(WINDOW_UPDATE, SYN, 1), id="a stream that is open"),
        pytest.param(frame(WINDOW_UPDATE, SYN | ACK, 3), id="open and accept at once"),
        pytest.param(frame(WINDOW_UPDATE, SYN | RST, 3), id="open and reset at once"),
        pytest.param(frame(DATA, SYN, 0), id="stream 0"),
        pytest.param(frame(WINDOW_UPDATE, 0, 0, 10), id="credit for stream 0"),
        pytest.param(frame(DATA, 16, 1), id="an unknown flag"),
        pytest.param(frame(DATA, 0x8000, 1), id="the highest flag"),
        pytest.param(frame(PING, 0, 0), id="a ping without flag"),
        pytest.param(frame(PING, SYN | ACK, 0), id="a ping with both flags"),
        pytest.param(frame(PING, SYN, 1), id="a ping on a stream"),
        pytest.param(frame(GO_AWAY, FIN, 0), id="a go away with a flag"),
        pytest.param(frame(GO_AWAY, 0, 1), id="a go away on a stream"),
        pytest.param(frame(4, 0, 0), id="an unknown type"),
        pytest.param(b"\x01" + bytes(11), id="an unknown version"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_a_frame_that_makes_no_sense_ends_the_session(wrong):
    server = new_session()
    accepted(server)
    _fails(server, wrong)


# Frames that crossed a reset


def test_data_for_an_ended_stream_is_dropped_up_to_the_credit_it_had():
    server = new_session()
    stream = accepted(server)
    server.reset_stream(stream)
    sent(server)
    for _ in range(8):
        assert server.receive_data(frame(DATA, 0, 1, payload=bytes(64 * KIB)), 0.0) == []
    _fails(server, frame(DATA, 0, 1, 1), ErrorCode.WINDOW_EXCEEDED)


def test_fin_reset_and_credit_for_an_ended_stream_are_ignored():
    server = new_session()
    server.reset_stream(accepted(server))
    late = frame(WINDOW_UPDATE, FIN, 1) + frame(WINDOW_UPDATE, RST, 1) + frame(WINDOW_UPDATE, 0, 1, 5)
    assert server.receive_data(late + frame(DATA, FIN, 99, payload=b"x"), 0.0) == []
    assert server.failure is None


def test_a_reset_in_the_middle_of_a_payload_drops_the_rest_of_it():
    server = new_session()
    stream = accepted(server)
    whole = frame(DATA, FIN, 1, payload=b"0123456789")
    assert transcript(server.receive_data(whole[:15], 0.0)) == [("data", 1, b"012", False)]
    server.reset_stream(stream)
    assert server.receive_data(whole[15:] + frame(WINDOW_UPDATE, SYN, 3), 0.0) != []
    assert set(server.streams) == {3}


def test_data_after_fin_is_dropped_as_the_go_library_may_send_it():
    server = new_session()
    accepted(server)
    server.receive_data(frame(WINDOW_UPDATE, FIN, 1), 0.0)
    assert server.receive_data(frame(DATA, 0, 1, payload=b"raced") + frame(WINDOW_UPDATE, FIN, 1), 0.0) == []
    assert server.failure is None


def test_a_reset_that_carries_data_drops_it():
    server = new_session()
    accepted(server)
    assert transcript(server.receive_data(frame(DATA, RST, 1, payload=b"x") + frame(PING, SYN, 0), 0.0)) == [
        ("reset", 1)
    ]
    assert server.failure is None


# Floods

SMALL = Limits(
    max_streams=4,
    reset_burst=10,
    resets_per_second=10,
    ping_burst=10,
    pings_per_second=10,
    idle_frame_burst=10,
    idle_frames_per_second=10,
)
FLOODS = [
    pytest.param(lambda n: frame(PING, SYN, 0, n), id="pings"),
    pytest.param(lambda n: frame(PING, ACK, 0, 1000 + n), id="answers to no ping"),
    pytest.param(lambda n: frame(DATA, 0, 1), id="empty data"),
    pytest.param(lambda n: frame(WINDOW_UPDATE, 0, 1, 1), id="tiny credit"),
    pytest.param(lambda n: frame(WINDOW_UPDATE, FIN, 7), id="FIN for no stream"),
    pytest.param(lambda n: frame(WINDOW_UPDATE, SYN, 2 * n + 3) + frame(WINDOW_UPDATE, RST, 2 * n + 3), id="resets"),
    pytest.param(lambda n: frame(WINDOW_UPDATE, SYN, 2 * n + 3), id="too many streams"),
]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_the_session(flood):
    server = new_session(limits=SMALL)
    accepted(server)
    _fails(server, b"".join(flood(number) for number in range(20)), ErrorCode.RATE_EXCEEDED)


@pytest.mark.parametrize("flood", FLOODS)
def test_the_same_in_good_time_does_not(flood):
    server = new_session(limits=SMALL)
    accepted(server)
    for number in range(40):
        server.receive_data(flood(number), number * 0.2)
        sent(server)
    assert server.failure is None


def test_a_peer_that_does_not_read_the_answers_it_asks_for_is_cut_off():
    server = new_session(limits=Limits(max_control_backlog_bytes=1200, ping_burst=1000))
    server.receive_data(frame(PING, SYN, 0) * 100, 0.0)
    _fails(server, frame(PING, SYN, 0), ErrorCode.RATE_EXCEEDED)


def test_too_many_streams_are_reset_one_by_one():
    server = new_session(limits=SMALL)
    opening = [frame(WINDOW_UPDATE, SYN, stream_id) for stream_id in (1, 3, 5, 7, 9)]
    assert len(server.receive_data(b"".join(opening), 0.0)) == 4
    assert sent(server) == frame(WINDOW_UPDATE, RST, 9)


# Time


def test_a_quiet_peer_is_pinged_and_a_silent_one_given_up():
    client = new_session(Role.CLIENT, keepalive_seconds=15.0, now=100.0)
    stream = opened(client)
    client.receive_data(frame(PING, SYN, 0), 100.0)
    sent(client)
    assert client.next_deadline() == 115.0
    assert client.handle_deadline(115.0) == []
    assert sent(client) == frame(PING, SYN, 0, 0)
    assert client.next_deadline() == 120.0
    (failed,) = client.handle_deadline(120.0)
    assert isinstance(failed, SessionFailed)
    assert failed.error.code is ErrorCode.PEER_SILENT
    assert failed.streams == [stream]
    assert sent(client) == b""


def test_anything_that_arrives_is_a_sign_of_life():
    client = new_session(Role.CLIENT, keepalive_seconds=15.0)
    client.handle_deadline(15.0)
    client.receive_data(frame(PING, SYN, 0), 17.0)
    assert client.handle_deadline(20.0) == []
    assert client.next_deadline() == 22.0
    client.receive_data(frame(PING, ACK, 0, 0), 21.0)
    assert client.next_deadline() == 36.0


def test_a_process_that_stood_still_blames_nobody():
    client = new_session(Role.CLIENT, keepalive_seconds=15.0)
    client.handle_deadline(15.0)
    assert client.handle_deadline(60.0) == []
    assert client.next_deadline() == 65.0
    assert client.handle_deadline(65.0) != []


def test_without_keepalive_there_is_no_deadline():
    assert new_session().next_deadline() is None


def test_the_errors_of_the_peer_are_remote_errors():
    server = new_session()
    (failed,) = server.receive_data(frame(9, 0, 0), 0.0)
    assert isinstance(failed, SessionFailed)
    assert isinstance(failed.error, RemoteProtocolError)
