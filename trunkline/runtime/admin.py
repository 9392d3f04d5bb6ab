"""The admin endpoint of a daemon: /healthz, /readyz and /metrics, on a loopback address and nowhere else."""

import asyncio
import contextlib
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

# One exchange a connection, so that a deadline for the connection is one for a peer that dawdles.
CONNECTION_SECONDS = 15.0
# At the end of the process, to take an answer that was asked for before.
LAST_SECONDS = 2.0
MAX_CONNECTIONS = 64


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
    ) -> None:
        """Prepare it; `gather` brings the metrics up to date before they are shown, where that takes waiting."""
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError(f"the admin endpoint belongs on a loopback address, not {address}")
        self._place = (address, port)
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._gather = gather
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
        address, port = self._place
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listening = listen_on(family, (address, port), backlog=MAX_CONNECTIONS)
            self._port = AdminPort(listening, self._protocol)
        except OSError as error:
            await self._connections.close()
            where = f"{address}:{port}"
            reason = os.strerror(error.errno) if error.errno else error
            raise StartError(f"cannot listen on {where}: {reason}; change [admin]", EXIT_UNAVAILABLE) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Where it listens, once it does."""
        assert self._port is not None  # noqa: S101 - asked for before it was opened
        host, port = self._port.place
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

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


class _Refused(asyncio.Protocol):
    """A connection over the bound: dropped as soon as it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are derived from asyncio.Transport.
        cast(asyncio.Transport, transport).abort()


async def _close_after(request: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
