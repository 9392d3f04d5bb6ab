"""The listening socket of the API: TLS, a bound on connections, and deadlines for clients that dawdle.

aiohttp ends a connection that sent no whole request head within the keep-alive time; bodies have their deadline where
they are read. What is left is a client that does not take its answer: a sweep over the connections, once a second,
ends those whose unsent bytes have not become fewer for too long.
"""

import asyncio
import logging
import resource
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from certs.tls import ServerTls
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import LimitSettings, ListenSettings
from trunkline.channel.unsent import unsent_bytes, untaken_bytes
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import get_logger

SWEEP_SECONDS = 1.0
GOODBYE_SECONDS = 2.0
RESERVED_FILES = 256
"""Descriptors of other kinds than connections: the database, links to relays, kept outputs."""
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
        self._server: asyncio.Server | None = None
        self._stalls: dict[asyncio.Transport, tuple[int, float]] = {}
        self._transports: dict[web.RequestHandler, asyncio.Transport] = {}
        self._arriving: WeakSet[_Arrival] = WeakSet()
        self._most_connections = connections_within(limits.most_connections)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=limits.idle_seconds,
            lingering_time=2.0,
            max_line_size=LARGEST_HEAD_FIELD_BYTES,
            max_field_size=LARGEST_HEAD_FIELD_BYTES,
            auto_decompress=False,
            logger=_HttpLogger("control_plane.http"),
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            self._listen.address,
            self._listen.port,
            ssl=self._tls.context,
            ssl_handshake_timeout=self._limits.handshake_seconds,
            ssl_shutdown_timeout=self._limits.write_stall_seconds,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_accepting()
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None  # noqa: S101 - asked for before it was opened
        return int(self._server.sockets[0].getsockname()[1])

    def stop_accepting(self) -> None:
        """Take no new connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def drain(self) -> None:
        """End the connections, each after the answer that it is at."""
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()
            await self._runner.server.shutdown(self._limits.drain_seconds)

    async def sweep(self) -> None:
        """Look after the connections for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweep_once(self._clock.monotonic())

    def _accept(self) -> asyncio.Protocol:
        """Make the protocol of a connection that was accepted, and sets up TLS next; beyond the bound it is closed."""
        server = self._runner.server
        if server is None or self._is_full(server):
            self._metrics.connections_closed.labels("too_many").inc()
            raise ConnectionRefusedError  # which closes it before anything is spent on it
        arrival = _Arrival(server, self._arriving, self._clock.monotonic())
        self._arriving.add(arrival)
        return arrival

    def _is_full(self, server: web.Server) -> bool:
        """Whether there are as many connections as may be, those that have not set up TLS yet included."""
        return len(self._arriving) + len(server.connections) >= self._most_connections

    def _sweep_once(self, now: float) -> None:
        server = self._runner.server
        connections = server.connections if server is not None else []
        self._metrics.connections.set(len(connections))
        # The transports of asyncio's own loop are in cycles, and not gone at once.
        late = now - self._limits.handshake_seconds - SWEEP_SECONDS
        self._arriving -= {arrival for arrival in self._arriving if arrival.accepted_at <= late}
        self._transports = dict(self._with_transports(connections))
        before, self._stalls = self._stalls, {}
        for connection, transport in self._transports.items():
            closed = connection.transport is None or transport.is_closing()
            unsent = untaken_bytes(transport) if closed else unsent_bytes(transport)
            if unsent == 0 and not closed:
                continue
            least, since = before.get(transport, (unsent + 1, now))
            self._stalls[transport] = (unsent, now) if unsent < least else (least, since)
            stalled_seconds = now - self._stalls[transport][1]
            if unsent == 0 and stalled_seconds >= GOODBYE_SECONDS:
                transport.abort()
            elif stalled_seconds >= self._limits.write_stall_seconds:
                self._metrics.connections_closed.labels("write_stall").inc()
                transport.abort()

    def _with_transports(
        self, connections: list[web.RequestHandler]
    ) -> Iterator[tuple[web.RequestHandler, asyncio.Transport]]:
        """Each with its transport; aiohttp lets go of some that are not gone yet."""
        for connection in connections:
            transport = connection.transport or self._transports.get(connection)
            if transport is not None:
                yield connection, transport


class _Arrival(asyncio.Protocol):
    """A connection until TLS is set up, for which it is then served; one that never does is gone with its transport."""

    def __init__(self, server: web.Server, arriving: WeakSet["_Arrival"], accepted_at: float) -> None:
        self.accepted_at = accepted_at
        self._server = server
        self._arriving = arriving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._arriving.discard(self)
        connection = self._server()
        transport.set_protocol(connection)
        connection.connection_made(transport)


def connections_within(wanted: int) -> int:
    """Return how many connections there may be, each of which is a descriptor, where `wanted` are asked for.

    The process takes as many descriptors as it may have for that; some are left for what else it opens.
    """
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY or wanted + RESERVED_FILES <= most:
        return wanted
    bound = max(most - RESERVED_FILES, most // 2)
    get_logger("control_plane.api").warning(
        "api.fewer_connections", most_connections=bound, wanted=wanted, hint="raise LimitNOFILE"
    )
    return bound


class _HttpLogger(logging.Logger):
    """The logger handed to aiohttp: what a client sent wrongly is one line without a traceback."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.parent = logging.getLogger()

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        """Log a client's fault shortly, and anything else as usual."""
        if isinstance(exc_info, HttpProcessingError):
            self.info("a client sent what is not HTTP: %s", type(exc_info).__name__)
        else:
            super().exception(msg, *args, exc_info=exc_info, **options)
