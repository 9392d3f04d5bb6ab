import pytest

from relay.control_plane.events import EventError, EventReader, ServerEvent

STREAM = (
    b": a comment\n\n"
    b"event: trust_document\ndata: eyJ.a.b\n\n"
    b"event:heartbeat\r\ndata:7\r\n\r\n"
    b"data: one\ndata: two\n\n"
    b"event: nothing\n\n"
    b"id: 3\nretry: 5\ndata: x: y\n\n"
)
EVENTS = [
    ServerEvent("trust_document", "eyJ.a.b"),
    ServerEvent("heartbeat", "7"),
    ServerEvent("message", "one\ntwo"),
    ServerEvent("message", "x: y"),
]


def test_events_come_out_whole():
    assert EventReader().receive_data(STREAM) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_split_gives_the_same_events(size):
    reader = EventReader()
    events = []
    for start in range(0, len(STREAM), size):
        events += reader.receive_data(STREAM[start : start + size])
    assert events == EVENTS


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 100, b"data: 12345678\n" * 10, b"x" * 101])
def test_events_are_bounded(stream):
    reader = EventReader(max_event_bytes=100)
    with pytest.raises(EventError, match="larger"):
        reader.receive_data(stream)


def test_what_is_not_text_is_refused():
    with pytest.raises(EventError, match="UTF-8"):
        EventReader().receive_data(b"data: \xff\n")
