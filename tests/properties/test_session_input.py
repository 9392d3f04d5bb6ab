"""Whatever a peer sends, in whatever pieces: the same events, a documented outcome, and bounded memory."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sessions import frame, new_session, sent, transcript
from trunkline.channel.errors import ErrorCode
from trunkline.channel.frames import encode_header
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.session import Role

LIMITS = Limits(
    max_streams=4,
    initial_window_bytes=64,
    max_window_bytes=256,
    link_budget_bytes=512,
    max_control_backlog_bytes=600,
    reset_burst=6,
    ping_burst=6,
    idle_frame_burst=12,
)
LENGTHS = st.one_of(st.integers(0, 80), st.sampled_from([64, 65, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
STREAM_IDS = st.integers(0, 12)
SENSIBLE = st.one_of(
    st.builds(lambda sid, flags, data: frame(0, flags, sid, payload=data), STREAM_IDS,
              st.sampled_from([0, 0, 1, 2, 4, 6, 8]), st.binary(max_size=40)),
    st.builds(lambda sid, flags, length: frame(1, flags, sid, length), STREAM_IDS,
              st.sampled_from([0, 1, 2, 4, 8]), LENGTHS),
    st.builds(lambda flags, value: frame(2, flags, 0, value), st.sampled_from([1, 2]), LENGTHS),
    st.just(frame(3, 0, 0, 0)),
)  # fmt: skip
HOSTILE = st.one_of(
    st.builds(encode_header, st.integers(0, 0x0005_00FF), STREAM_IDS, LENGTHS),
    st.binary(max_size=30),
)
TRAFFIC = st.lists(st.one_of(SENSIBLE, SENSIBLE, SENSIBLE, HOSTILE), max_size=25).map(b"".join)
PEERS_FAULTS = {
    ErrorCode.REMOTE_PROTOCOL,
    ErrorCode.WINDOW_EXCEEDED,
    ErrorCode.RATE_EXCEEDED,
    ErrorCode.PEER_FAILED,
}


def _run(session, pieces):
    """Feed a session whose owner opens two streams, sends on them, and consumes nothing."""
    for _ in range(2):
        session.send_data(session.open_stream(), b"hello")
    out = sent(session)
    events = []
    for piece in pieces:
        events += session.receive_data(piece, 0.0)
    return transcript(events), out + sent(session)


@given(TRAFFIC, st.sampled_from(Role))
def test_byte_by_byte_is_the_same_as_at_once(data, role):
    whole = _run(new_session(role, limits=LIMITS), [data])
    assert _run(new_session(role, limits=LIMITS), [data[i : i + 1] for i in range(len(data))]) == whole


@given(TRAFFIC, st.lists(st.integers(1, 50), min_size=1))
def test_any_split_is_the_same_as_at_once(data, sizes):
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[position : position + size])
        position += size
    assert _run(new_session(limits=LIMITS), pieces) == _run(new_session(limits=LIMITS), [data])


@settings(max_examples=300)
@given(TRAFFIC, st.sampled_from(Role))
def test_whatever_comes_the_outcome_is_a_documented_one_and_memory_is_bounded(data, role):
    budget = CreditBudget()
    session = new_session(role, limits=LIMITS, budget=budget)
    lines, _ = _run(session, [data])
    failures = [line for line in lines if line[0] == "failed"]
    assert len(failures) == (session.failure is not None)
    if failures:
        assert failures == lines[-1:]
        assert failures[0][1] in PEERS_FAULTS
    assert len(session.streams) <= LIMITS.max_streams
    assert session.held_bytes() == budget.held_bytes <= LIMITS.max_streams * LIMITS.initial_window_bytes
    for stream in session.streams.values():
        assert stream.receive_window >= 0
        assert stream.receive_window + stream.unconsumed_bytes <= stream.window_bytes
        assert 0 <= stream.send_window < 2**32


@given(st.binary(max_size=400), st.integers(1, 20))
def test_garbage_raises_nothing(data, size):
    session = new_session(limits=LIMITS)
    for position in range(0, len(data), size):
        session.receive_data(data[position : position + size], 0.0)
        session.handle_deadline(1.0)
        session.data_to_send()
