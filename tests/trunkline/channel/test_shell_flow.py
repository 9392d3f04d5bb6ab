import pytest

from trunkline.channel.errors import LocalProtocolError, RemoteProtocolError
from trunkline.channel.shell_flow import (
    MOST_PIECES,
    WINDOW_BYTES,
    Attached,
    Bytes,
    Concluded,
    HungUp,
    InputEnded,
    Resized,
    RoomMade,
    ShellEnding,
    ShellFlow,
    ShellRole,
    Signalled,
)
from trunkline.channel.shell_frames import OFFSET, ShellEndingKind, ShellFrame, encode_frame

ENDED = ShellEnding(ShellEndingKind.EXITED, 7)


@pytest.fixture
def caller():
    return ShellFlow(ShellRole.CALLER)


@pytest.fixture
def agent():
    return ShellFlow(ShellRole.AGENT)


def carry(source, target):
    return target.receive_data(source.data_to_send())


def attach(caller, agent):
    caller.connected()
    agent.connected()
    first, second = carry(caller, agent), carry(agent, caller)
    return first + second + carry(caller, agent) + carry(agent, caller)


def test_bytes_go_both_ways_once_both_ends_have_attached(caller, agent):
    caller.write(b"ls\n")
    caller.connected()
    assert ShellFrame.DATA not in caller.data_to_send(), "not before it is known what the other end has"
    assert attach(caller, agent) == [Attached(), Attached(), Bytes(b"ls\n")]
    agent.write(b"file\n")
    agent.write(b"oh\n", is_error=True)
    assert carry(agent, caller) == [Bytes(b"file\n"), Bytes(b"oh\n", is_error=True)]


def test_what_was_not_received_is_sent_again_and_what_was_is_not(caller, agent):
    attach(caller, agent)
    agent.write(b"one ")
    assert carry(agent, caller) == [Bytes(b"one ")]
    agent.write(b"two ")
    agent.data_to_send()  # lost with the connection
    agent.disconnected()
    agent.write(b"three")
    assert attach(caller, agent)[2:] == [Bytes(b"two three")]


def test_keystrokes_written_without_a_connection_arrive_once(caller, agent):
    attach(caller, agent)
    caller.disconnected()
    caller.write(b"q")
    assert caller.data_to_send() == b""
    assert attach(caller, agent)[2:] == [Bytes(b"q")]
    assert attach(caller, agent) == [Attached(), Attached()]


def test_a_resumption_may_be_in_the_middle_of_a_piece(caller, agent):
    attach(caller, agent)
    agent.write(b"x" * 100)
    raw = agent.data_to_send()
    assert caller.receive_data(raw[:50]) == [], "frames are whole or not at all"
    agent.write(b"y" * 100)
    assert attach(caller, agent)[2:] == [Bytes(b"x" * 100 + b"y" * 100)]


def test_there_is_room_until_the_window_is_full_and_again_when_bytes_are_taken(caller, agent):
    attach(caller, agent)
    agent.write(b"x" * WINDOW_BYTES)
    assert agent.room_bytes == 0
    with pytest.raises(LocalProtocolError):
        agent.write(b"y")
    arrived = carry(agent, caller)
    assert sum(len(event.content) for event in arrived) == WINDOW_BYTES
    assert carry(caller, agent) == [], "received is not taken"
    caller.taken(WINDOW_BYTES // 2)
    assert carry(caller, agent) == [RoomMade()]
    assert agent.room_bytes == WINDOW_BYTES // 2
    with pytest.raises(LocalProtocolError):
        caller.taken(WINDOW_BYTES)


def test_alternating_outputs_are_bounded_in_number(agent):
    for number in range(MOST_PIECES):
        agent.write(b".", is_error=bool(number % 2))
    assert agent.room_bytes == 0


def test_the_ending_comes_behind_the_output_and_in_every_connection_until_it_is_concluded(caller, agent):
    attach(caller, agent)
    agent.write(b"bye")
    agent.end(ENDED)
    assert carry(agent, caller) == [Bytes(b"bye"), ENDED]
    caller.taken(3)
    assert attach(caller, agent) == [Attached(), Attached(), ENDED, RoomMade()]
    caller.conclude()
    assert carry(caller, agent) == [Concluded()]
    with pytest.raises(LocalProtocolError):
        agent.write(b"more")


def test_the_end_of_input_survives_a_cut(caller, agent):
    attach(caller, agent)
    caller.write(b"last")
    caller.end_input()
    caller.data_to_send()
    assert attach(caller, agent)[2:] == [Bytes(b"last"), InputEnded()]


def test_what_is_of_the_moment_is_said_now_or_not_at_all(caller, agent):
    caller.resize(24, 80)
    caller.signal("INT")
    assert attach(caller, agent) == [Attached(), Attached()]
    caller.resize(50, 200)
    caller.signal("TERM")
    caller.hang_up()
    assert carry(caller, agent) == [Resized(50, 200), Signalled("TERM"), HungUp()]


@pytest.mark.parametrize(
    "raw",
    [
        encode_frame(ShellFrame.ATTACH, bytes(8)),
        encode_frame(ShellFrame.EXIT, b"\0\0"),
        encode_frame(ShellFrame.ERROR, b"x"),
        encode_frame(ShellFrame.TAKEN, OFFSET.pack(1)),
        encode_frame(ShellFrame.TAKEN, b"\0"),
        encode_frame(ShellFrame.RESIZE, b"\0"),
        encode_frame(ShellFrame.SIGNAL, b"SEGV"),
        encode_frame(ShellFrame.DONE, b"x"),
        encode_frame(ShellFrame.DATA, b"x" * 65_536) * 5,
    ],
)
def test_an_agent_takes_nothing_that_a_caller_may_not_send(caller, agent, raw):
    attach(caller, agent)
    with pytest.raises(RemoteProtocolError):
        agent.receive_data(raw)


def test_bytes_before_the_attachment_are_refused(agent):
    agent.connected()
    with pytest.raises(RemoteProtocolError):
        agent.receive_data(encode_frame(ShellFrame.DATA, b"x"))


@pytest.mark.parametrize("offset", [0, 2, 11])
def test_an_attachment_that_forgets_or_invents_is_refused(caller, agent, offset):
    attach(caller, agent)
    agent.write(b"x" * 10)
    carry(agent, caller)
    caller.taken(10)
    carry(caller, agent)
    agent.connected()
    with pytest.raises(RemoteProtocolError):
        agent.receive_data(encode_frame(ShellFrame.ATTACH, OFFSET.pack(offset)))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\3\0", b"\0\0" + b"x" * 1025])
def test_a_broken_ending_is_refused(caller, agent, payload):
    attach(caller, agent)
    with pytest.raises(RemoteProtocolError):
        caller.receive_data(encode_frame(ShellFrame.EXIT, payload))
