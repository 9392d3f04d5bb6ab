"""The listening socket of the API: TLS, a bound on connections, and deadlines for clients that dawdle.

aiohttp ends a connection that sent no whole request head within the keep-alive time; bodies have their deadline where
they are read. What is left is a client that does not take its answer: a sweep over the connections, once a second,
ends those whose unsent bytes have not become fewer for too long. A connection that is closed is looked after until its
client has the last of its answer (see `trunkline.channel.closing`), also when the control plane ends.
"""

import asyncio
import logging
from types import TracebackType
from typing import Self

from aiohttp import web

from certs.tls import ServerTls
from control_plane.api.arrivals import ArrivalBounds, Arrivals
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import LimitSettings, ListenSettings
from trunkline.channel.closing import LONGEST_SECONDS, Closing, Patience
from trunkline.channel.taking import Taking
from trunkline.channel.unsent import unsent_bytes
from trunkline.runtime.clock import Clock
from trunkline.runtime.descriptors import connections_within
from trunkline.runtime.http_connections import HttpConnections
from trunkline.runtime.logs import get_logger

SWEEP_SECONDS = 1.0
GOODBYE_SECONDS = 2.0
LAST_GOODBYE_SECONDS = 0.5
"""As the control plane ends, which need not wait for every client's own."""
GOODBYE_BYTES = 64
"""Of TLS."""
MOST_PER_IDENTITY = 64
"""A relay has eight at most, and an agent one for each thing that it asks for."""
LARGEST_HEAD_FIELD_BYTES = 16_384


class ApiListener:
    """Serves the application over TLS while it is open."""

    def __init__(
        self,
        app: web.Application,
        *,
        listen: ListenSettings,
        limits: LimitSettings,
        tls: ServerTls,
        metrics: ControlPlaneMetrics,
        clock: Clock,
    ) -> None:
        self._listen = listen
        self._limits = limits
        self._tls = tls
        self._metrics = metrics
        self._clock = clock
        self._stalls: dict[asyncio.Transport, Taking] = {}
        self._closings: dict[asyncio.Transport, Closing] = {}
        self._connections = HttpConnections(
            app,
            gone=self._gone,
            keepalive_timeout=limits.idle_seconds,
            lingering_time=2.0,
            max_line_size=LARGEST_HEAD_FIELD_BYTES,
            max_field_size=LARGEST_HEAD_FIELD_BYTES,
            logger=logging.getLogger("control_plane.http"),
        )
        self._arrivals = Arrivals(
            tls.context,
            ArrivalBounds(
                most=_most_connections(limits.most_connections),
                most_per_address=limits.most_connections_per_address,
                most_per_identity=MOST_PER_IDENTITY,
                handshake_seconds=limits.handshake_seconds,
                shutdown_seconds=max(LONGEST_SECONDS, limits.write_stall_seconds),
            ),
            connections=self._connections.__len__,
            serve=self._connections.connection,
            refused=lambda reason: metrics.connections_closed.labels(reason).inc(),
        )

    async def __aenter__(self) -> Self:
        await self._connections.start()
        await self._arrivals.listen(self._listen.address, self._listen.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._arrivals.close()
        await self._connections.close()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._arrivals.port

    def stop_accepting(self) -> None:
        """Take no new connections; those that are open go on."""
        self._arrivals.stop_accepting()

    async def drain(self) -> None:
        """End the connections, each after the answer that it is at, once its client has that."""
        await self._connections.finish_answers()
        for transport in self._connections.transports:
            self._look_after(transport, LAST_GOODBYE_SECONDS)
        await self._connections.none_left()

    async def sweep(self) -> None:
        """Look after the connections for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep_once(self._clock.monotonic())

    def _sweep_once(self, now: float) -> None:
        self._metrics.connections.set(len(self._connections))
        before, self._stalls = self._stalls, {}
        for transport in self._connections.transports:
            unsent = unsent_bytes(transport)
            if transport.is_closing():
                self._look_after(transport, GOODBYE_SECONDS)
            elif unsent:
                taking = self._stalls[transport] = before.get(transport) or Taking(unsent, now)
                if taking.idle_seconds(unsent, now) >= self._limits.write_stall_seconds:
                    transport.abort()
                    self._stalled()

    def _look_after(self, transport: asyncio.Transport, goodbye_seconds: float) -> None:
        """Aiohttp has closed it, and turned away."""
        if transport not in self._closings:
            patience = Patience(self._limits.write_stall_seconds, goodbye_seconds, goodbye_bytes=GOODBYE_BYTES)
            closing = Closing(transport, asyncio.get_running_loop(), patience, self._stalled)
            self._closings[transport] = closing
            closing.begin()

    def _gone(self, transport: asyncio.Transport) -> None:
        self._arrivals.gone(transport)
        closing = self._closings.pop(transport, None)
        if closing is not None:
            closing.end()

    def _stalled(self) -> None:
        self._metrics.connections_closed.labels("write_stall").inc()


def _most_connections(wanted: int) -> int:
    bound = connections_within(wanted)
    if bound < wanted:
        log = get_logger("control_plane.api")
        log.warning("api.fewer_connections", most_connections=bound, wanted=wanted, hint="raise LimitNOFILE")
    return bound
