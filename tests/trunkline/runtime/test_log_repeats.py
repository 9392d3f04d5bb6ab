"""The same words over and over."""

import logging

from trunkline.runtime.log_repeats import MOST_REMEMBERED, WINDOW_SECONDS, WORDS_AT_ONCE, RepeatedLines


class Lines:
    """What comes through the filter, at a time of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[object] = []
        self._filter = RepeatedLines(lambda: self.now)

    def say(self, message: object, level: int = logging.ERROR, error: Exception | None = None) -> None:
        record = logging.LogRecord("relay", level, "file", 1, message, (), None)
        record.exc_info = None if error is None else (type(error), error, None)
        if self._filter.filter(record):
            self.written.append(record.msg)


def full(timestamp: int) -> dict[str, object]:
    return {"event": "storage.full", "reason": "the disk is full", "timestamp": timestamp}


def test_of_the_same_lines_some_a_minute_are_written_and_the_rest_counted():
    lines = Lines()
    for number in range(100):
        lines.say(full(number))
    assert len(lines.written) == WORDS_AT_ONCE
    lines.now = WINDOW_SECONDS
    lines.say(full(100))
    assert lines.written[-1] == full(100) | {"repeated": 100 - WORDS_AT_ONCE}
    lines.say(full(101))
    assert lines.written[-1] == full(101)


def test_lines_of_libraries_are_counted_as_well():
    lines = Lines()
    for _ in range(7):
        lines.say("no room")
    lines.now = WINDOW_SECONDS
    lines.say("no room")
    assert lines.written == ["no room"] * WORDS_AT_ONCE + ["no room (repeated 2 times)"]


def test_what_differs_what_informs_and_what_has_a_traceback_is_always_written():
    lines = Lines()
    for number in range(20):
        lines.say({"event": "relay.cut", "node_id": number})
        lines.say({"event": "file.read"}, logging.INFO)
        lines.say({"event": "failed", "exc_info": ValueError()})
        lines.say("failed", error=ValueError())
    assert len(lines.written) == 80


def test_no_more_words_than_a_bound_are_remembered():
    lines = Lines()
    for number in range(MOST_REMEMBERED + 1):
        for _ in range(WORDS_AT_ONCE):
            lines.say({"event": "said", "number": number})
    before = len(lines.written)
    lines.say({"event": "said", "number": MOST_REMEMBERED})
    assert len(lines.written) == before
    lines.say({"event": "said", "number": 0})
    assert len(lines.written) == before + 1
