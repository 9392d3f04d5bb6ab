"""The next head out of bytes as they come: cut out where it lies in one piece, as nearly all do, and else collected."""

from trunkline.channel.fields import HEAD_END, MAX_HEAD_BYTES
from trunkline.channel.heads import HeadBuffer


class NextHead:
    """Takes bytes until a head is whole, one head after the other, in bounded memory.

    Any split of the bytes gives the same heads. Only a head in pieces costs a buffer.
    """

    __slots__ = ("_buffer", "_leftover")

    def __init__(self) -> None:
        self._buffer: HeadBuffer | None = None
        self._leftover = b""

    @property
    def begun(self) -> bool:
        """Whether part of a head is held."""
        return self._buffer is not None

    def next_head(self, data: bytes) -> bytes | None:
        """Takes bytes; returns a head once it is whole, and raises HeadError for what can no longer become one."""
        buffer = self._buffer
        if buffer is None:
            end = data.find(HEAD_END, 0, MAX_HEAD_BYTES) + len(HEAD_END)
            if end >= len(HEAD_END):
                self._leftover = data[end:]
                return data[:end]
            buffer = self._buffer = HeadBuffer()
        raw = buffer.receive_data(data)
        if raw is not None:
            self._buffer = None
            self._leftover = buffer.leftover
        return raw

    def take_leftover(self) -> bytes:
        """Returns what came behind the last whole head, and keeps nothing of it."""
        leftover, self._leftover = self._leftover, b""
        return leftover
