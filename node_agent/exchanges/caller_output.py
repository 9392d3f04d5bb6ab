"""What goes to the caller of a forwarded exchange: written as the stream has room, the rest held for a moment."""

from collections.abc import Callable

from trunkline.channel.link import LinkStream


class CallerOutput:
    """The sending half of a stream. While bytes wait, whoever makes more is asked to stop."""

    __slots__ = ("_changed", "_pending", "_stream", "ending", "waiting")

    def __init__(self, stream: LinkStream, changed: Callable[[], None]) -> None:
        """Write to `stream`; `changed` is called when `waiting` has changed, or bytes that waited have moved."""
        self._stream = stream
        self._changed = changed
        self._pending = memoryview(b"")
        self.ending = False
        self.waiting = False

    def write(self, data: bytes) -> None:
        """Send `data` now or as room comes."""
        if not self._pending and len(data) <= self._stream.send_room_bytes:
            self._stream.write(data)
            return
        self._pending = memoryview(bytes(self._pending) + data) if self._pending else memoryview(data)
        self.drain()

    def end(self) -> None:
        """Send no more than what waits."""
        self.ending = True
        self._end_if_written()

    @property
    def ended(self) -> bool:
        """Whether everything is written, and the end too."""
        return self.ending and not self._pending

    def drop(self) -> None:
        """Forget what waits."""
        self._pending = memoryview(b"")
        self.waiting = False

    def drain(self) -> None:
        """Write what waits, as far as there is room."""
        stream = self._stream
        before = len(self._pending)
        while self._pending and stream.writable:
            room = stream.send_room_bytes
            if room <= 0:
                break
            piece, self._pending = self._pending[:room], self._pending[room:]
            stream.write(piece)
        waiting = bool(self._pending)
        if waiting != self.waiting or (waiting and len(self._pending) < before):
            self.waiting = waiting
            self._changed()
        self._end_if_written()

    def _end_if_written(self) -> None:
        if self.ended and self._stream.writable:
            self._stream.end()
