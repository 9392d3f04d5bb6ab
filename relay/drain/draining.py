"""The graceful end of the relay: it tells everybody while it still serves, then lets what is under way finish.

Theory of operation. Three parts, each of which the demand to stop at once cuts short:

    lead     for `limits.drain_lead_seconds`: readiness fails, so that load balancers send nobody new; listeners get a
             notice and senders' links a GoAway, so that each makes its next link first. Connections and calls that come
             are served all the same, and every answer to a kept-alive sender says that it is the last.
    finish   for `limits.drain_seconds` at most: the port is closed, no call begins, those under way end.
    close    what is left is cut.
"""

import asyncio
from typing import Any

from relay.drain.unfinished import unfinished
from relay.links.registry import Registry
from relay.port.acceptor import Acceptor
from relay.port.handshakes import SHUTDOWN_SECONDS
from relay.senders.sender_port import SenderPort
from relay.settings import LimitsSettings
from trunkline.runtime.clock import Clock
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import Logger


class Draining:
    """Ends the relay in order, and tells meanwhile what is left."""

    def __init__(
        self,
        *,
        acceptor: Acceptor,
        port: SenderPort,
        registry: Registry,
        lifecycle: Lifecycle,
        limits: LimitsSettings,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._acceptor = acceptor
        self._port = port
        self._registry = registry
        self._lifecycle = lifecycle
        self._limits = limits
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Drain, then close all connections and links; the port is closed when it returns."""
        self._registry.announce_drain()
        self._port.announce_drain()
        lead_seconds = self._limits.drain_lead_seconds
        await self._lifecycle.within_drain(asyncio.sleep(lead_seconds), lead_seconds + SHUTDOWN_SECONDS)
        self._acceptor.close()
        finished = await self._lifecycle.within_drain(self._finish(), self._limits.drain_seconds)
        left = self.left()
        self._log.info("relay.drained", finished=finished, calls_cut=left["calls_open"])
        await self._close_links()
        await self._acceptor.stop()
        await self._port.drain(0)

    def left(self) -> dict[str, Any]:
        """Return what is left, as `unfinished` has it."""
        behind_seconds = self._clock.now() - asyncio.get_running_loop().time()
        return unfinished(self._registry, self._port, behind_seconds=behind_seconds)

    async def _finish(self) -> None:
        deadline = self._limits.drain_seconds
        await asyncio.gather(self._port.drain(deadline), *(link.drain(deadline) for link in self._registry.links))

    async def _close_links(self) -> None:
        await asyncio.gather(*(link.end(SHUTDOWN_SECONDS) for link in self._registry.links))
