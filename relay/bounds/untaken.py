"""What senders have not taken of answers that are complete: it counts as held until they have.

Theory of operation. While a call is in progress, what its sender does not take is counted at the node's stream, which
gets no credit for it. A complete response lets go of that stream, and what is left of it waits for the sender alone,
who may take as long as he takes a little now and then. So it counts here from then on, as large as it was when it was
last looked at, and towards the budget of all links: where that is overdrawn, and these are what holds most of it, the
largest is cut first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trunkline.channel.limits import CreditBudget, Held


class Untaken:
    """What waits for the senders of calls that are over; one for a relay."""

    __slots__ = ("_budget", "_held_bytes", "_sizes")

    def __init__(self, budget: CreditBudget) -> None:
        """Begin without any; what is noted counts towards the budget."""
        self._budget = budget
        self._sizes: dict[Held, int] = {}
        self._held_bytes = 0
        budget.attach(self)

    def note(self, holder: Held, size_bytes: int) -> None:
        """Count what a holder holds now, in place of what it held before."""
        self._count(size_bytes - self._sizes.get(holder, 0))
        self._sizes[holder] = size_bytes

    def forget(self, holder: Held) -> None:
        """It holds nothing any more."""
        self._count(-self._sizes.pop(holder, 0))

    def held_bytes(self) -> int:
        """What all hold together."""
        return self._held_bytes

    def largest_holder(self) -> Held | None:
        """Who holds most; None if nobody holds anything."""
        return max(self._sizes, key=self._sizes.__getitem__, default=None)

    def _count(self, change_bytes: int) -> None:
        self._held_bytes += change_bytes
        self._budget.held_bytes += change_bytes
