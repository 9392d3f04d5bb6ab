"""The bytes that one link holds for those who do not take them: a budget for each link, looked at once a second.

Theory of operation. What has come over a link and was not taken on the other side stays counted by its session, and a
stream gets no credit for it, so that each stream is bounded by its window. All streams of a link together are bounded
here: a link that holds more than `limits.link_held_bytes` for as long as a reader may stand still has the streams that
hold most reset, as many as it takes, of which there may be thousands, a few at a time; the link itself goes on. What
all links hold together is bounded by `CreditBudget`, which does not wait.
"""

import asyncio
from collections.abc import Callable, Iterable

from relay.bounds.spreading import Spreading
from relay.metrics import RelayMetrics
from trunkline.channel.errors import ErrorCode, StreamReset
from trunkline.channel.limits import CreditBudget
from trunkline.channel.link import Link, LinkStream

LINK_BUDGET = "link"
PROCESS_BUDGET = "process"


class HeldWatch:
    """Watches what links hold; `look` is to be called about once a second."""

    def __init__(
        self,
        links: Callable[[], Iterable[Link]],
        budget: CreditBudget,
        *,
        link_held_bytes: int,
        stall_seconds: float,
        metrics: RelayMetrics,
    ) -> None:
        """Prepare it; it begins with the first `look`."""
        self._links = links
        self._budget = budget
        self._link_held_bytes = link_held_bytes
        self._stall_seconds = stall_seconds
        loop = asyncio.get_running_loop()
        self._time = loop.time
        self._cuts: Spreading[LinkStream] = Spreading(loop, self._cut)
        self._over_since: dict[Link, float] = {}
        self._held = metrics.held_bytes
        self._cut_for_link = metrics.streams_cut.of(LINK_BUDGET)
        self._cut_for_process = metrics.streams_cut.of(PROCESS_BUDGET)

    def look(self) -> None:
        """Reset what has held too much for too long."""
        self._held.set(self._budget.held_bytes)
        self._cut_for_process.count = self._budget.streams_cut
        now = self._time()
        self._over_since = {link: self._over_since.get(link, now) for link in self._over()}
        for link, since in self._over_since.items():
            if now - since >= self._stall_seconds:
                self._relieve(link)

    def _over(self) -> list[Link]:
        """The links that hold too much; where all of them together do not, none does, and none is asked."""
        if self._budget.held_bytes <= self._link_held_bytes:
            return []
        return [link for link in self._links() if self._is_over(link)]

    def _is_over(self, link: Link) -> bool:
        return link.session.held_bytes() > self._link_held_bytes

    def _relieve(self, link: Link) -> None:
        excess_bytes = link.session.held_bytes() - self._link_held_bytes
        due = []
        for stream in sorted(link.session.streams.values(), key=lambda stream: stream.unconsumed_bytes, reverse=True):
            if excess_bytes <= 0:
                break
            excess_bytes -= stream.unconsumed_bytes
            due.append(stream)
        self._cuts.add(due)

    def _cut(self, stream: LinkStream) -> None:
        if not stream.lost and stream.unconsumed_bytes:
            stream.cut(StreamReset("its reader stalled, and its link held too much", ErrorCode.BUDGET_EXCEEDED))
            self._cut_for_link.count += 1
