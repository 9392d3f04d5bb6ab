"""Connections as they arrive, counted when they end before TLS is set up, which the event loop tells nobody."""

import asyncio

from relay.sender_connection import SenderConnection
from relay.sender_port import SenderPort
from relay.tallies import Tally


class ArrivingConnection(SenderConnection):
    """A connection that counts itself as a failed handshake if it is let go of without ever having been made."""

    __slots__ = ("_failures",)

    def __init__(self, port: SenderPort, failures: Tally) -> None:
        super().__init__(port)
        self._failures: Tally | None = failures

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up."""
        self._failures = None
        super().connection_made(transport)

    def __del__(self) -> None:
        if self._failures is not None:
            self._failures.count += 1
