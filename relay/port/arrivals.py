"""A connection that has been accepted and has no TLS yet; it becomes a sender's connection when it has."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from trunkline.runtime.listening import Source

_TCP_ESTABLISHED: Final = 1
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Arrival(asyncio.Protocol):
    """The protocol that a transport has while it sets up TLS.

    `displaced` says that it was made to end for the sake of others; `task` is what sets TLS up, once it does.
    """

    __slots__ = ("_established", "accepted_at", "begun_at", "displaced", "socket", "source", "task")

    def __init__(
        self,
        accepted: socket.socket,
        source: Source,
        now: float,
        established: "Callable[[Arrival, asyncio.BaseTransport], None]",
    ) -> None:
        """Hold an accepted socket; `established` is called once TLS is up, and gives the transport its protocol."""
        self.socket = accepted
        self.source = source
        self.accepted_at = now
        self.begun_at = now
        self.displaced = False
        self.task: asyncio.Task[None] | None = None
        self._established = established

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up."""
        self._established(self, transport)

    @property
    def gone(self) -> bool:
        """Whether the peer has ended the connection already, which nobody has read from yet."""
        # The first byte of tcp_info is the state of the connection (tcp(7)).
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_ESTABLISHED

    def displace(self) -> None:
        """End a handshake in progress: its transport sees the end of the bytes, and closes as ever."""
        self.displaced = True
        # Not closed here: the number of the descriptor must stay taken for as long as the transport watches it.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Close a socket that no transport has taken yet, with a reset, which leaves nothing behind in the kernel."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()
