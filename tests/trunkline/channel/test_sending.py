import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sessions import (
    ACK,
    DATA,
    FIN,
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
from trunkline.channel.errors import ConnectionLost, ErrorCode, LimitExceeded, LocalProtocolError
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.session import Role
from trunkline.channel.streams import Stream
from trunkline.channel.windows import LEAST_GIVEN_BYTES

KIB = 1024
WINDOW = 256 * KIB


# The owner's mistakes change nothing


def test_sending_more_than_the_window_is_refused():
    client = new_session(Role.CLIENT, send_window_bytes=64 * KIB)
    stream = opened(client)
    with pytest.raises(LocalProtocolError):
        client.send_data(stream, bytes(64 * KIB + 1))
    assert sent(client) == b""
    assert stream.send_window == 64 * KIB
    client.send_data(stream, bytes(64 * KIB))
    assert stream.send_window == 0


def test_sending_after_the_end_is_refused():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    client.end_stream(stream)
    sent(client)
    with pytest.raises(LocalProtocolError):
        client.send_data(stream, b"x")
    with pytest.raises(LocalProtocolError):
        client.end_stream(stream)
    assert sent(client) == b""


def test_consuming_more_than_was_delivered_is_refused():
    server = new_session()
    stream = accepted(server)
    server.receive_data(frame(DATA, 0, 1, payload=b"12345"), 0.0)
    for size in (6, -1):
        with pytest.raises(LocalProtocolError):
            server.consumed(stream, size, 0.0)
    assert stream.unconsumed_bytes == 5


def test_sending_nothing_sends_nothing():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    client.send_data(stream, b"")
    assert sent(client) == b""
    client.send_data(stream, b"", end=True)
    assert sent(client) == frame(WINDOW_UPDATE, FIN, 1)


def test_streams_and_unacknowledged_streams_are_bounded():
    client = new_session(Role.CLIENT, limits=Limits(max_streams=300))
    for _ in range(256):
        client.open_stream()
    with pytest.raises(LimitExceeded) as caught:
        client.open_stream()
    assert caught.value.code is ErrorCode.TOO_MANY_UNACKED
    sent(client)
    client.receive_data(b"".join(frame(WINDOW_UPDATE, ACK, 2 * number + 1) for number in range(256)), 0.0)
    for _ in range(44):
        client.open_stream()
    with pytest.raises(LimitExceeded) as caught:
        client.open_stream()
    assert caught.value.code is ErrorCode.TOO_MANY_STREAMS


# Credit


def test_credit_is_granted_when_two_fifths_of_the_window_are_consumed():
    server = new_session()
    stream = accepted(server)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(WINDOW * 2 // 5 + 1)), 0.0)
    server.consumed(stream, WINDOW * 2 // 5, 0.0)
    assert sent(server) == b""
    server.consumed(stream, 1, 0.0)
    assert frame(WINDOW_UPDATE, 0, 1, WINDOW * 2 // 5 + 1) in sent(server)
    assert stream.receive_window == WINDOW


def test_no_credit_is_granted_to_a_peer_that_has_ended():
    server = new_session()
    stream = accepted(server)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(200 * KIB)) + frame(WINDOW_UPDATE, FIN, 1), 0.0)
    server.consumed(stream, 200 * KIB, 0.0)
    assert sent(server) == b""


def test_what_is_withheld_is_held_no_more_and_gives_no_credit_until_it_is_given():
    budget = CreditBudget()
    server = new_session(budget=budget)
    stream = accepted(server)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(WINDOW)), 0.0)
    server.withhold(stream, WINDOW - 1000)
    assert budget.held_bytes == stream.unconsumed_bytes == 1000
    server.consumed(stream, 1000, 0.0)
    assert sent(server) == b""
    server.give(stream, 16 * KIB, 0.0)
    assert frame(WINDOW_UPDATE, 0, 1, 16 * KIB + 1000) in sent(server)
    server.give(stream, LEAST_GIVEN_BYTES - 1, 0.0)
    assert sent(server) == b""  # too little for a frame of its own
    server.give(stream, stream.withheld_bytes, 0.0)
    assert stream.receive_window == WINDOW
    server.reset_stream(stream)
    assert budget.held_bytes == 0


def test_nothing_is_given_to_a_peer_that_has_ended_nor_more_than_is_withheld():
    server = new_session()
    stream = accepted(server)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(100 * KIB)) + frame(WINDOW_UPDATE, FIN, 1), 0.0)
    with pytest.raises(LocalProtocolError):
        server.withhold(stream, 100 * KIB + 1)
    server.withhold(stream, 100 * KIB)
    for size in (-1, 100 * KIB + 1):
        with pytest.raises(LocalProtocolError):
            server.give(stream, size, 0.0)
    server.give(stream, 100 * KIB, 0.0)
    assert sent(server) == b""


def test_a_window_that_opens_from_zero_is_an_event():
    client = new_session(Role.CLIENT)
    stream = opened(client)
    client.send_data(stream, bytes(WINDOW))
    grant = frame(WINDOW_UPDATE, 0, 1, 100 * KIB)
    assert transcript(client.receive_data(grant + grant, 0.0)) == [("window", 1)]
    assert stream.send_window == 200 * KIB


def test_credit_may_ride_on_the_frames_that_open_and_accept():
    server = new_session()
    server.receive_data(frame(WINDOW_UPDATE, SYN, 1, 1000), 0.0)
    assert server.streams[1].send_window == WINDOW + 1000
    client = new_session(Role.CLIENT)
    stream = client.open_stream()
    sent(client)
    client.receive_data(frame(WINDOW_UPDATE, ACK, 1, 5000), 0.0)
    assert stream.send_window == WINDOW + 5000


def test_a_window_doubles_as_long_as_it_does_not_last():
    budget = CreditBudget()
    server = new_session(limits=Limits(initial_window_bytes=64 * KIB), budget=budget)
    stream = accepted(server)
    server.ping(0.0)
    sent(server)
    server.receive_data(frame(PING, ACK, 0, 0), 0.04)
    now = 1.0
    sizes = []
    for _ in range(8):
        half = stream.window_bytes // 2
        server.receive_data(frame(DATA, 0, 1, payload=bytes(half)), now)
        server.consumed(stream, half, now)
        sizes.append(stream.window_bytes // KIB)
        now += 0.044
    assert sizes == [64, 128, 256, 512, 1024, 2048, 4096, 4096]
    assert budget.reserved_bytes == 4032 * KIB
    assert budget.held_bytes == 0
    server.reset_stream(stream)
    assert budget.reserved_bytes == 0


def test_a_window_does_not_grow_for_a_slow_reader():
    server = new_session(limits=Limits(initial_window_bytes=64 * KIB))
    stream = accepted(server)
    server.ping(0.0)
    server.receive_data(frame(PING, ACK, 0, 0), 0.01)
    for now in range(1, 10):
        server.receive_data(frame(DATA, 0, 1, payload=bytes(32 * KIB)), now)
        server.consumed(stream, 32 * KIB, now)
    assert stream.window_bytes == 64 * KIB


def test_windows_grow_only_inside_the_budgets():
    limits = Limits(initial_window_bytes=64 * KIB, link_budget_bytes=64 * KIB)
    server = new_session(limits=limits)
    streams = [accepted(server, 1), accepted(server, 3)]
    server.ping(0.0)
    server.receive_data(frame(PING, ACK, 0, 0), 0.1)
    for number, stream in enumerate(streams * 3):
        now = 1.0 + number // 2 * 0.125
        half = stream.window_bytes // 2
        server.receive_data(frame(DATA, 0, stream.id, payload=bytes(half)), now)
        server.consumed(stream, half, now)
    assert [stream.window_bytes for stream in streams] == [128 * KIB, 64 * KIB]


def test_grants_measure_the_round_trip_now_and_then():
    server = new_session()
    stream = accepted(server)
    pings = []
    for number in range(5):
        now = number * 0.2
        server.receive_data(frame(DATA, 0, 1, payload=bytes(WINDOW)), now)
        server.consumed(stream, WINDOW, now)
        number_of_ping = sum(pings)
        pings.append(frame(PING, SYN, 0, number_of_ping) in sent(server))
        server.receive_data(frame(PING, ACK, 0, number_of_ping), now)
    assert pings == [True, False, False, True, False]


def test_a_quiet_link_is_measured_once_a_minute():
    server = new_session()
    pings = []
    for now in (0.0, 1.0, 59.0, 60.0, 119.0, 120.0):
        server.measure_quiet(now)
        pings.append(sent(server))
        server.receive_data(frame(PING, ACK, 0, len(b"".join(pings)) // 12 - 1), now)
    assert pings == [frame(PING, SYN, 0, 0), b"", b"", frame(PING, SYN, 0, 1), b"", frame(PING, SYN, 0, 2)]


def test_held_bytes_are_counted_until_they_are_consumed_or_the_stream_ends():
    budget = CreditBudget()
    server = new_session(budget=budget)
    stream, other = accepted(server, 1), accepted(server, 3)
    server.receive_data(frame(DATA, 0, 1, payload=bytes(1000)) + frame(DATA, 0, 3, payload=bytes(500)), 0.0)
    assert budget.held_bytes == server.held_bytes() == 1500
    largest = server.largest_holder()
    assert largest is not None
    assert largest.id == stream.id
    server.consumed(stream, 400, 0.0)
    assert budget.held_bytes == 1100
    server.reset_stream(stream)
    assert budget.held_bytes == 500
    server.end(ConnectionLost("gone"))
    assert budget.held_bytes == 0
    assert other.lost


# Senders, each of whom leaves room for others


def open_for(session, sender: int, most: int = 100) -> list[Stream]:
    """Open streams for a sender until there is no room for more."""
    streams = []
    with contextlib.suppress(LimitExceeded):
        while len(streams) < most:
            streams.append(session.open_stream(sender))
    return streams


def test_a_sender_leaves_half_of_what_there_is_and_all_leave_what_is_reserved():
    client = new_session(Role.CLIENT, limits=Limits(max_streams=20, reserved_streams=4))
    assert [len(open_for(client, sender)) for sender in (1, 2, 3, 4, 5)] == [9, 4, 2, 1, 0]
    with pytest.raises(LimitExceeded) as refused:
        client.open_stream(5)
    assert refused.value.code is ErrorCode.TOO_MANY_STREAMS
    assert len(open_for(client, 0)) == 4


def test_a_stream_that_is_over_counts_for_its_sender_no_more():
    client = new_session(Role.CLIENT, limits=Limits(max_streams=20, reserved_streams=4))
    streams = open_for(client, 1)
    sent(client)
    client.reset_stream(streams[0])
    client.receive_data(frame(WINDOW_UPDATE, RST, streams[1].id), 0.0)
    client.end_stream(streams[2])
    client.receive_data(frame(DATA, FIN, streams[2].id), 0.0)
    assert len(open_for(client, 1)) == 3
    client.end(ConnectionLost("over"))
    assert not client._open_of


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), st.integers(0, 40), st.booleans()), max_size=60))
def test_senders_have_their_share_however_many_streams_come_and_go(steps: list[tuple[int, int, bool]]) -> None:
    client = new_session(Role.CLIENT, limits=Limits(max_streams=40, reserved_streams=8, max_unacked_streams=1000))
    for sender, most, ending in steps:
        if ending:
            for stream in [stream for stream in client.streams.values() if stream.sender == sender][:most]:
                client.reset_stream(stream)
            continue
        for _ in range(most):
            left = 40 - 8 - len(client.streams)
            own = sum(stream.sender == sender for stream in client.streams.values())
            allowed = len(client.streams) < 40 if not sender else 0 < left >= own
            if not allowed:
                with pytest.raises(LimitExceeded):
                    client.open_stream(sender)
                break
            client.open_stream(sender)


def test_what_is_reserved_is_so_of_streams_that_the_peer_has_not_acknowledged_too():
    client = new_session(Role.CLIENT, limits=Limits(max_streams=100, reserved_streams=10, max_unacked_streams=20))
    assert len(open_for(client, 1)) == 18
    with pytest.raises(LimitExceeded) as refused:
        client.open_stream(1)
    assert refused.value.code is ErrorCode.TOO_MANY_UNACKED
    assert not client.can_open
    assert len(open_for(client, 0)) == 2


def test_without_anything_reserved_all_may_be_opened():
    client = new_session(Role.CLIENT, limits=Limits(max_streams=20))
    assert len(open_for(client, 0)) == 20


@pytest.mark.parametrize("reserved", [-1, 20])
def test_what_is_reserved_is_a_part(reserved):
    with pytest.raises(ValueError, match="reserved_streams"):
        Limits(max_streams=20, reserved_streams=reserved)
