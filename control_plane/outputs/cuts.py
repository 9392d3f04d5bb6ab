"""How much of a command's output is kept: the whole if it is small, else its beginning and its end."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """What is kept of one stream of `size_bytes`: the first `head_bytes` and the last `tail_bytes`."""

    size_bytes: int
    head_bytes: int
    tail_bytes: int

    @property
    def kept_bytes(self) -> int:
        """How many bytes are kept."""
        return self.head_bytes + self.tail_bytes

    @property
    def missing(self) -> tuple[int, int] | None:
        """From which offset to which the bytes are not kept; None if all are."""
        begin, end = self.head_bytes, self.size_bytes - self.tail_bytes
        return (begin, end) if begin < end else None

    def place(self, offset: int) -> tuple[int, int] | None:
        """Return where the kept bytes from `offset` on are among those kept, and how many follow without a gap.

        None if the byte at `offset` is not kept, or lies beyond the end.
        """
        if offset < self.head_bytes:
            return offset, self.head_bytes - offset
        begin = self.size_bytes - self.tail_bytes
        if begin <= offset < self.size_bytes:
            return self.head_bytes + offset - begin, self.size_bytes - offset
        return None


def cuts_of(stdout_bytes: int, stderr_bytes: int, most_bytes: int) -> tuple[Cut, Cut]:
    """Share `most_bytes` among the two streams; what one does not need, the other has."""
    half = most_bytes // 2
    stdout_room = max(half, most_bytes - stderr_bytes)
    stderr_room = most_bytes - min(stdout_bytes, stdout_room)
    return _cut(stdout_bytes, stdout_room), _cut(stderr_bytes, stderr_room)


def _cut(size_bytes: int, room_bytes: int) -> Cut:
    if size_bytes <= room_bytes:
        return Cut(size_bytes, size_bytes, 0)
    head_bytes = room_bytes // 2
    return Cut(size_bytes, head_bytes, room_bytes - head_bytes)
