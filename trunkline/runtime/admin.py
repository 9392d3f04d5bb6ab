"""The admin endpoint of a daemon: /healthz, /readyz and /metrics, on a loopback address and nowhere else."""

import asyncio
import contextlib
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from trunkline.runtime.admin_port import AdminPort
from trunkline.runtime.daemon import EXIT_UNAVAILABLE, StartError
from trunkline.runtime.descriptors import descriptors_remark
from trunkline.runtime.http_connections import HttpConnections
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.listening import listen_on
from trunkline.runtime.logs import Logger

# One exchange a connection, so that a deadline for the connection is one for a peer that dawdles.
CONNECTION_SECONDS = 15.0
# At the end of the process, to take an answer that was asked for before.
LAST_SECONDS = 2.0
MAX_CONNECTIONS = 64
# How often an address that is taken is tried again, where the daemon goes on without it.
RETRY_SECONDS = 1.0


class AdminServer:
    """Serves the state and the metrics of the process; it asks nobody who they are, so it stays on loopback."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        metrics: CollectorRegistry,
        lifecycle: Lifecycle,
        gather: Callable[[], Awaitable[None]] | None = None,
        waiting: Logger | None = None,
    ) -> None:
        """Prepare it.

        Args:
            address: on the loopback.
            port: 0 lets the system pick one.
            metrics: what /metrics shows.
            lifecycle: what /readyz tells of.
            gather: brings the metrics up to date before they are shown, where that takes waiting.
            waiting: if given, an address that is taken is no error but told here, and waited for: any user of the
                machine may take a port, so a daemon that must not be kept from starting by one goes on without.
        """
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError(f"the admin endpoint belongs on a loopback address, not {address}")
        self._place = (address, port)
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._gather = gather
        self._waiting = waiting
        self._waiter: asyncio.Task[None] | None = None
        self._port: AdminPort | None = None
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        app.on_response_prepare.append(_close_after)
        self._connections = HttpConnections(app, gone=self._gone, max_line_size=4096, max_field_size=4096)
        lifecycle.remark("descriptors", descriptors_remark)

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            StartError: the address is taken, or cannot be listened on.
        """
        await self._connections.start()
        try:
            self._listen()
        except OSError as error:
            where = _url(*self._place).removeprefix("http://")
            reason = os.strerror(error.errno) if error.errno else error
            if self._waiting is None or error.errno != errno.EADDRINUSE:
                await self._connections.close()
                raise StartError(f"cannot listen on {where}: {reason}; change [admin]", EXIT_UNAVAILABLE) from None
            consequence = "there is no admin endpoint until whoever has the address lets go of it"
            self._waiting.error("admin.address_taken", address=where, consequence=consequence, hint="change [admin]")
            self._waiter = asyncio.create_task(self._listen_later())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiter is not None:
            self._waiter.cancel()
            await asyncio.wait([self._waiter])
        if self._port is not None:
            self._port.stop_accepting()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._connections.finish_answers()
                    await self._connections.none_left()
        await self._connections.close()
        if self._port is not None:
            self._port.close()

    @property
    def url(self) -> str:
        """Where it listens, or is to listen once it can."""
        return _url(*(self._place if self._port is None else self._port.place))

    def _listen(self) -> None:
        address, _ = self._place
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._port = AdminPort(listen_on(family, self._place, backlog=MAX_CONNECTIONS), self._protocol)

    async def _listen_later(self) -> None:
        while self._port is None:
            await asyncio.sleep(RETRY_SECONDS)
            with contextlib.suppress(OSError):
                self._listen()

    def _gone(self, transport: asyncio.Transport) -> None:
        if self._port is not None:
            self._port.connection_gone()

    def _protocol(self) -> asyncio.Protocol:
        if len(self._connections) >= MAX_CONNECTIONS:
            return _Refused()
        connection = self._connections.connection()
        asyncio.get_running_loop().call_later(CONNECTION_SECONDS, self._connections.abort, connection)
        return connection

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        lifecycle = self._lifecycle
        status = 200 if lifecycle.ready else 503
        if "verbose" not in request.query:
            return web.Response(status=status, text="ready\n" if status == 200 else "not ready\n")
        body = {"ready": lifecycle.ready, "draining": lifecycle.draining, "unmet": lifecycle.unmet_conditions()}
        body |= {"remarks": remarks} if (remarks := lifecycle.remarks()) else {}
        body |= {"left": left} if (left := lifecycle.left()) is not None else {}
        return web.Response(status=status, text=json.dumps(body) + "\n", content_type="application/json")

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        if self._gather is not None:
            await self._gather()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        assert self._port is not None  # noqa: S101 - a request came in by it
        with self._port.spare.lent():
            page = encode(self._metrics)
        return web.Response(body=page, headers={"Content-Type": content_type})


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Refused(asyncio.Protocol):
    """A connection over the bound: dropped as soon as it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are derived from asyncio.Transport.
        cast(asyncio.Transport, transport).abort()


async def _close_after(request: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
