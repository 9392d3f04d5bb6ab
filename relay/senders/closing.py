"""The end of a sender's transport: what this process still holds for it counts as held, and its deadline is counted."""

import asyncio
import functools
from typing import TYPE_CHECKING, Final

from trunkline.channel.closing import Closing, Patience
from trunkline.channel.unsent import unsent_bytes

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor
    from trunkline.channel.errors import ChannelError

GOODBYE_SECONDS: Final = 2.0


class SenderClosing(Closing):
    """Closes one sender's transport. A slow reader that takes some now and then is left alone, for as long as it likes.

    What it has not taken of an answer that is complete counts as held, see `Untaken`.
    """

    __slots__ = ("_front",)

    def __init__(self, transport: asyncio.Transport, front: "FrontDoor", stall_seconds: float) -> None:
        self._front = front
        patience = Patience(stall_seconds, GOODBYE_SECONDS)
        passed = functools.partial(front.deadline_passed, "write_stall")
        super().__init__(transport, asyncio.get_running_loop(), patience, passed)

    def begin(self) -> None:
        """Close once everything was taken; at once where it is on its way, since the sender may wait for the end."""
        if unsent_bytes(self._transport):
            super().begin()
        else:
            self.close()

    def end(self) -> None:
        """The transport is gone."""
        super().end()
        self._front.untaken.forget(self)

    def cut(self, error: "ChannelError") -> None:
        """Memory is needed: the sender does not get the rest."""
        self.end()
        self._transport.abort()

    def _look(self, wait_seconds: float) -> None:
        self._front.untaken.note(self, unsent_bytes(self._transport))
        super()._look(wait_seconds)
