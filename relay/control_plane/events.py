"""The wire form of a stream of events (text/event-stream): bytes to events, in bounded memory, without input or output.

Only what the control plane sends is understood: `event` and `data` fields, comments, lines that end in LF or CRLF.
"""

from typing import NamedTuple

MAX_EVENT_BYTES = 16 * 1024 * 1024


class ServerEvent(NamedTuple):
    """One event: its name, and its data lines joined by line feeds."""

    name: str
    data: str


class EventError(Exception):
    """The stream is not one of events, or one of them is too large."""


class EventReader:
    """Takes bytes, returns events; the same bytes give the same events however they are split."""

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._name = ""
        self._lines: list[str] = []
        self._size = 0

    def receive_data(self, data: bytes) -> list[ServerEvent]:
        """Take bytes and return the events that they complete.

        Raises:
            EventError: a line or an event is longer than allowed, or not UTF-8.
        """
        self._buffer += data
        events = []
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            self._scanned = 0
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        self._scanned = len(self._buffer)
        if self._size + len(self._buffer) > self._max_event_bytes:
            raise EventError(f"an event is larger than {self._max_event_bytes} bytes")
        return events

    def _take_line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._finish()
        self._size += len(line)
        if self._size > self._max_event_bytes:
            raise EventError(f"an event is larger than {self._max_event_bytes} bytes")
        try:
            field, _, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            raise EventError("an event is not UTF-8") from None
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._lines.append(value)
        return None

    def _finish(self) -> ServerEvent | None:
        event = ServerEvent(self._name or "message", "\n".join(self._lines)) if self._lines else None
        self._name, self._lines, self._size = "", [], 0
        return event
