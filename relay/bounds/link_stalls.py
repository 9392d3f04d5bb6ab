"""The deadline of a link whose peer takes nothing of what is written to it, though it may say enough to seem alive."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from trunkline.channel.link import Link
from trunkline.channel.taking import Taking

STALL_SECONDS: Final = 20.0
"""As long as a peer may say nothing, by the defaults: a link that takes nothing is as good as dead."""


class LinkStalls:
    """Watches the links whose transports are full; `look` is to be called about once a second."""

    def __init__(self, links: Callable[[], Iterable[Link]], passed: Callable[[str], None]) -> None:
        """Prepare it; `passed` is told the name of the deadline for each link that is aborted."""
        self._links = links
        self._passed = passed
        self._time = asyncio.get_running_loop().time
        self._stuck: dict[Link, Taking] = {}

    def look(self) -> None:
        """Abort the links of which not one byte was taken for so long."""
        now = self._time()
        before, self._stuck = self._stuck, {}
        for link in self._links():
            unsent_bytes = link.unsent_bytes
            if not unsent_bytes:
                continue
            taking = self._stuck[link] = before.get(link) or Taking(unsent_bytes, now)
            if taking.idle_seconds(unsent_bytes, now) >= STALL_SECONDS:
                self._passed("link_stall")
                link.abort()
