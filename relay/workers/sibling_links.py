"""The links of a worker to the others: made of the ends that the parent hands in, and awaited before it serves."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable

from relay.composition import Footing, Serving
from relay.links.registry import Spawn
from relay.workers.hop import hop_limits
from relay.workers.passing import End, handed_in
from relay.workers.siblings import Siblings
from relay.workers.splice import HopDoor
from trunkline.channel.link import Link, Role

SIBLINGS_SECONDS = 5.0
"""How long a worker that starts waits for its links to the others, before it serves without them."""


class SiblingLinks:
    """Makes the links to the other workers, and knows which of those that it expects are missing."""

    def __init__(
        self, siblings: Siblings, footing: Footing, serving: Serving, *, expected: Iterable[int], spawn: Spawn
    ) -> None:
        """Begin without links; `siblings` hear of each, and `expected` are the workers that it is to have links to."""
        self._siblings = siblings
        self._limits = limits = footing.settings.limits
        self._metrics = footing.metrics
        self._serving = serving
        self._spawn = spawn
        self._missing = set(expected)
        self._all_linked = asyncio.Event()
        self._door = HopDoor(
            find=siblings.listener,
            hopped=self._count_hop,
            lost=siblings.unlinked,
            deadlines=serving.deadlines,
            untaken=serving.port.front.untaken,
            listener_seconds=limits.listener_seconds,
            stall_seconds=limits.stream_stall_seconds,
        )
        self._look_whether_linked()

    def follow(self, passing: socket.socket) -> None:
        """Make a link of each end that comes on this socket, until the parent is gone."""
        passing.setblocking(False)
        asyncio.get_running_loop().add_reader(passing.fileno(), self._take_ends, passing)

    async def wait_for_all(self) -> None:
        """Wait for the links to all that are expected, `SIBLINGS_SECONDS` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SIBLINGS_SECONDS):
                await self._all_linked.wait()

    def expect_no_more(self, worker: int) -> None:
        """Wait no longer for the link to another worker: it is there, or the worker has ended."""
        self._missing.discard(worker)
        self._look_whether_linked()

    def abort(self) -> None:
        """End all links at once."""
        for link in self._siblings.links.values():
            link.abort()

    def _look_whether_linked(self) -> None:
        if not self._missing:
            self._all_linked.set()

    def _take_ends(self, passing: socket.socket) -> None:
        try:
            for end in handed_in(passing):
                self._spawn(self._link(end))
        except EOFError:
            asyncio.get_running_loop().remove_reader(passing.fileno())

    async def _link(self, end: End) -> None:
        limits, loop = self._limits, asyncio.get_running_loop()
        link = Link(
            Role.CLIENT if end.client else Role.SERVER,
            self._door,
            loop=loop,
            limits=hop_limits(window_bytes=limits.window_bytes, budget_bytes=limits.credit_budget_bytes),
            send_window_bytes=limits.window_bytes,
            compact=True,
            budget=self._serving.budget,
            keepalive_seconds=None,
            flusher=self._serving.flusher,
            alarms=self._serving.alarms,
        )
        await loop.create_unix_connection(link.as_protocol, sock=end.socket)
        self._siblings.linked(end.worker, link)
        self.expect_no_more(end.worker)

    def _count_hop(self) -> None:
        self._metrics.hops.of().count += 1
