"""The deadline of a sender that does not take what is written to it, and the count of it once the call is over."""

from typing import TYPE_CHECKING, Final, Protocol

from trunkline.channel.taking import Taking
from trunkline.channel.unsent import unsent_bytes

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor
    from trunkline.channel.errors import ChannelError

LOOKS: Final = 4


class Outgoing(Protocol):
    """A transport, or a stream of a link: what a sender is to take bytes from."""

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the sender."""
        ...

    def abort(self) -> None:
        """End at once."""
        ...


class WriteStall:
    """Watches a congested transport or stream: whoever takes not one byte for so many seconds is cut off.

    A slow reader that takes some is left alone, for as long as it likes; it holds its own call only. It is looked at
    several times in that while, since what was on its way from the node when the transport filled hides what it takes.
    What waits is counted at the node's stream while the call is in progress; `hold` has it counted from then on.
    """

    __slots__ = ("_front", "_holds", "_taking", "_transport", "deadline", "seconds")

    def __init__(self, transport: Outgoing, front: "FrontDoor", seconds: float) -> None:
        self._front = front
        self._transport = transport
        self._taking = Taking(unsent_bytes(transport), front.deadlines.now)
        self._holds = False
        self.seconds = seconds
        self.deadline = front.deadlines.now + seconds / LOOKS
        front.deadlines.watch(self)

    def hold(self) -> None:
        """The call is over: what still waits for the sender counts as held, see `Untaken`."""
        self._holds = True
        self._front.untaken.note(self, unsent_bytes(self._transport))

    def end(self) -> None:
        """The sender takes bytes again, or is gone."""
        self._front.deadlines.forget(self)
        self._front.untaken.forget(self)

    def cut(self, error: "ChannelError") -> None:
        """Memory is needed: the sender does not get the rest."""
        self.end()
        self._transport.abort()

    def deadline_reached(self, now: float) -> None:
        """Cuts, unless some bytes went out at one of the last looks."""
        size = unsent_bytes(self._transport)
        left_seconds = self.seconds - self._taking.idle_seconds(size, now)
        if self._holds:
            self._front.untaken.note(self, size)
        if left_seconds > 0:
            self.deadline = now + min(self.seconds / LOOKS, left_seconds)
        else:
            self.end()
            self._front.deadline_passed("write_stall")
            self._transport.abort()
