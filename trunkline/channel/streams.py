"""The state of one stream, as its session keeps it.

A stream has two halves. `writable` turns False when this side ends or resets it, `readable` when the peer's FIN or
RST has been taken in. With both halves ended the session forgets the stream. `lost` says that it ended by a reset or
with its session: nothing can come of it any more, and whatever the owner still does to it is ignored.

Receiving is bounded by credit: `receive_window + unconsumed_bytes + withheld_bytes + (credit not handed back yet) =
window_bytes`.
"""

from typing import Final

NEVER: Final = float("-inf")


class Stream:
    """One logical duplex. Only its session changes it; owners may derive from it to hang their own state on it."""

    __slots__ = (
        "acknowledged",
        "first_flags",
        "id",
        "lost",
        "readable",
        "receive_window",
        "refused",
        "send_window",
        "sender",
        "timed_bytes",
        "timed_from",
        "unconsumed_bytes",
        "window_bytes",
        "withheld_bytes",
        "writable",
    )

    def __init__(self, stream_id: int, send_window_bytes: int, receive_window_bytes: int, first_flags: int) -> None:
        self.id = stream_id
        self.send_window = send_window_bytes
        """Bytes that may be sent now."""
        self.receive_window = receive_window_bytes
        """Bytes that the peer may still send."""
        self.window_bytes = receive_window_bytes
        """The size of the receive window: what the peer may send while nothing is consumed."""
        self.unconsumed_bytes = 0
        """Bytes delivered to the owner that the owner has not handed back."""
        self.withheld_bytes = 0
        """Bytes that the owner has handed back, and for which the peer is to get no credit yet."""
        self.first_flags = first_flags
        """SYN or ACK, until a frame has carried it."""
        self.sender = 0
        """For whom it was opened here; see `SendingSession.open_stream`."""
        self.acknowledged = True
        self.timed_from = NEVER
        """When it was last looked how fast the window is used up, and how much was granted since then."""
        self.timed_bytes = 0
        self.writable = True
        self.readable = True
        self.lost = False
        self.refused = False
        """Whether it is lost, and the peer has certainly never taken it: it had said GoAway, and never acknowledged."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} send_window={self.send_window} receive_window={self.receive_window}>"
