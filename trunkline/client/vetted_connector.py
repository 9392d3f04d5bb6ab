"""Connections to the control plane on which nothing is said before its certificate was looked at once more."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.tracing import Trace

Vet = Callable[[asyncio.BaseTransport], str | None]
"""Why the server of a connection, whose certificate TLS has verified, is not to be spoken to; None: it is."""


class ServerRefused(aiohttp.ClientConnectionError):
    """The server is not to be spoken to, and was not: the message says why."""


class VettedConnector(aiohttp.TCPConnector):
    """A connector that asks before each request, on connections that were kept as well."""

    def __init__(self, vet: Vet, **options: Any) -> None:
        """Prepare; `options` are those of aiohttp's own."""
        super().__init__(**options)
        self._vet = vet

    async def connect(
        self, req: "ClientRequest", traces: list["Trace"], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """Return a connection to a server that may be spoken to.

        Raises:
            ServerRefused: it may not; the connection is closed.
        """
        connection = await super().connect(req, traces, timeout)
        refusal = None if connection.transport is None else self._vet(connection.transport)
        if refusal is None:
            return connection
        connection.close()
        raise ServerRefused(refusal)
