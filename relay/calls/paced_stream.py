"""The stream of a call as its quota of bytes sees it: what passes is charged, and goes no faster than may be.

Theory of operation. Bytes are charged as they pass, in both directions. Once the quota is used up the call is `paced`:
it waits at `Pacing`, and goes on by turns. Until then its node gets no credit for what has passed to the sender, which
is held nowhere and counts as held no more; what the sender sends is passed on up to `ROOM_BYTES`, behind which the call
is `congested`, and the sender is not read. So interactive streams hardly notice, and bulk does. The control plane's
own calls are charged, and never wait: whoever uses a quota up would keep commands and health checks from the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.admission.grants import CONTROL_PLANE
from relay.calls.credited_stream import CreditedStream

if TYPE_CHECKING:
    from relay.admission.grants import Grant
    from relay.admission.quotas import Use
    from relay.doors.front_door import FrontDoor

ROOM_BYTES: Final = 16 * 1024
"""What a sender may send before he has to wait for his turn."""


class PacedStream(CreditedStream):
    """The part of a call's stream that minds its quota.

    Attributes:
        paced: whether the call waits for its turn.
    """

    __slots__ = ("_front", "_grant", "_sent_ahead_bytes", "_use", "_was_paced", "paced")

    def __init__(self, front: FrontDoor, grant: Grant) -> None:
        CreditedStream.__init__(self)
        self._front = front
        self._grant = grant
        self._use = grant.use
        self._sent_ahead_bytes = 0
        self._was_paced = False
        self.paced = False

    @property
    def congested(self) -> bool:
        """Whether nothing more is to come of the sender's; `request_taken` follows."""
        return self._waiting is not None or self._sent_ahead_bytes > ROOM_BYTES

    @property
    def node_has_room(self) -> bool:
        """Whether all that came of the sender's has gone to the node."""
        return self._waiting is None

    def take_turn(self, most_bytes: int) -> int:
        """Go on by so many bytes, or wait no more if less was held back; returns how many it was."""
        stream, given = self._stream, 0
        if stream is not None and stream.withheld_bytes:
            given = min(stream.withheld_bytes, most_bytes)
            stream.give(given)
        taken = min(self._sent_ahead_bytes, most_bytes - given)
        if given + taken < most_bytes:
            self.paced = False
        if taken:
            was_congested = self.congested
            self._sent_ahead_bytes -= taken
            if was_congested and not self.congested:
                self._request_taken()
        return given + taken

    def take_was_paced(self) -> bool:
        """Whether the call has waited for its turn at any time since this was last asked."""
        was_paced, self._was_paced = self._was_paced, self.paced
        return was_paced

    def _request_taken(self) -> None:
        """More of the request may come."""
        raise NotImplementedError

    def _charge_sent(self, size_bytes: int) -> None:
        """Count bytes of the sender's."""
        self._front.sent_bytes.count += size_bytes
        if self._use is not None:
            self._charge(self._use, size_bytes)
            if self.paced:
                self._sent_ahead_bytes += size_bytes

    def _charge_received(self, size_bytes: int) -> None:
        """Count bytes of the node's, which the sender is sent."""
        self._front.received_bytes.count += size_bytes
        if self._use is not None:
            self._charge(self._use, size_bytes)

    def _charge(self, use: Use, size_bytes: int) -> None:
        use.spend(size_bytes)
        if use.overdrawn and not self.paced and self._grant.sender != CONTROL_PLANE:
            self.paced = self._front.pacing.holds(self, use)
            self._was_paced |= self.paced

    def _credit(self, size_bytes: int, *, owed: bool) -> None:
        """Hands back bytes that the node sent, owes them while the sender has no room, or withholds the credit."""
        if owed:
            self._owed_bytes += size_bytes
        elif self._stream is not None:
            if self.paced:
                self._stream.withhold(size_bytes)
            else:
                self._stream.consumed(size_bytes)

    def _pay_credit(self) -> None:
        owed, self._owed_bytes = self._owed_bytes, 0
        if owed:
            self._credit(owed, owed=False)

    def _end_use(self) -> None:
        """The call is over."""
        use = self._use
        if use is not None:
            use.end()
            if self.paced:
                self.paced = False
                self._front.pacing.forget(self, use)
