"""A stream that is joined to another side: it sends within its peer's credit, and gives credit as that side takes.

Theory of operation. What does not fit the peer's credit waits, and `congested` says so: the side that it comes from is
to be held until `_all_sent`. What the peer has sent is handed back as credit once the other side took it; while that
side is congested itself, the credit is owed. So the relay holds no more of a stream than the windows of its two sides;
small pieces that wait are joined, so that each costs hardly more than its bytes.
"""

from collections import deque
from typing import Final

from relay.calls.content_rest import JOINED_BYTES
from trunkline.channel.bodies import Chunk
from trunkline.channel.link import LinkStream

HEAD_WINDOW_BYTES: Final = 8 * 1024
"""Credit that the sender of an unfinished head is never without."""


class CreditedStream:
    """The part of a stream's handler that minds credit, both ways."""

    __slots__ = ("_end_sent", "_ending", "_owed_bytes", "_stream", "_waiting")

    def __init__(self) -> None:
        self._stream: LinkStream | None = None
        self._waiting: deque[Chunk] | None = None
        self._ending = False
        self._end_sent = False
        self._owed_bytes = 0

    @property
    def congested(self) -> bool:
        """Whether bytes wait for credit; `_all_sent` follows."""
        return self._waiting is not None

    def window_opened(self) -> None:
        """The peer has room."""
        if self._waiting is not None:
            self._send_waiting()

    # Receiving.

    def _credit(self, size_bytes: int, *, owed: bool) -> None:
        """Hands back bytes that the peer sent, or owes them to it while the other side has no room."""
        if owed:
            self._owed_bytes += size_bytes
        elif self._stream is not None:
            self._stream.consumed(size_bytes)

    def _hold_head(self, size_bytes: int) -> None:
        """Has what is kept of an unfinished head count as held, unless the peer needs the credit for the rest."""
        self._owed_bytes += size_bytes
        if self._stream is not None and self._stream.receive_window < HEAD_WINDOW_BYTES:
            self._pay_credit()

    def _pay_credit(self) -> None:
        """Hands back what is owed: the other side has room."""
        owed, self._owed_bytes = self._owed_bytes, 0
        if owed and self._stream is not None:
            self._stream.consumed(owed)

    def _count_no_more(self) -> None:
        """Has nothing that came count as held here any more, since it counts elsewhere."""
        self._owed_bytes = 0
        if self._stream is not None:
            self._stream.consumed(self._stream.unconsumed_bytes)

    # Sending.

    def _all_sent(self) -> None:
        """Nothing waits any more."""

    def _send(self, data: Chunk) -> None:
        stream = self._stream
        if self._waiting is None and stream is not None and len(data) <= stream.send_room_bytes:
            stream.write(data)
        else:
            self._queue(data)

    def _queue(self, data: Chunk, *, first: bool = False) -> None:
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = deque()
        if first:
            waiting.appendleft(data)
        elif waiting and len(waiting[-1]) + len(data) <= JOINED_BYTES:
            waiting[-1] = b"".join((waiting[-1], data))
        else:
            waiting.append(data)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Sends what the credit allows; the rest waits for `window_opened`."""
        stream, waiting = self._stream, self._waiting
        if stream is None or waiting is None:
            return
        while waiting:
            room = stream.send_room_bytes
            if not room:
                return
            piece = waiting.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                waiting.appendleft(view[room:])
                piece = view[:room]
            stream.write(piece)
        self._waiting = None
        if self._ending:
            self._end_sending()
        self._all_sent()

    def _end(self) -> None:
        """Sends FIN, behind what waits."""
        self._ending = True
        if self._waiting is None:
            self._end_sending()

    def _end_sending(self) -> None:
        stream = self._stream
        if stream is not None and not self._end_sent and stream.writable:
            self._end_sent = True
            stream.end()

    def _reset(self) -> None:
        stream, self._stream = self._stream, None
        self._waiting = None
        if stream is not None:
            stream.reset()
