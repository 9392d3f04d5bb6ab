"""Closing a transport behind bytes that its peer has still to take: of links, of senders, of an HTTP server's clients.

Theory of operation. A transport that is closed throws away what it holds after a while of its own, and a socket that is
closed loses what the kernel holds as soon as the peer says anything. So nobody closes and turns away. In order:

    what was written    is looked at, ever less often, since nobody tells when the last of it is taken. Who waits with
                        `begin` closes only then; with `close` at once, which is for who has nothing unsent, or whose
                        transport is closed already
    the goodbye         TLS says its own; a peer that has taken everything and does not answer is aborted soon

A peer that takes nothing for a while is aborted, and any after the longest time: `Patience` says how long. It ends when
the transport is gone, which its owner tells. Until then it has one timer, and nobody awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from trunkline.channel.taking import Taking
from trunkline.channel.unsent import untaken_bytes

FIRST_LOOK_SECONDS: Final = 0.002
LONGEST_LOOK_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 60.0
"""What a transport may take to close by itself (`ssl_shutdown_timeout`), where somebody looks after it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer is waited for, in seconds.

    Attributes:
        taking_seconds: in which it takes something of what is left for it.
        goodbye_seconds: for its goodbye once it has taken everything, and to take the last `goodbye_bytes`.
        longest_seconds: for all of it together.
        goodbye_bytes: what is nothing but a goodbye.
    """

    taking_seconds: float
    goodbye_seconds: float
    longest_seconds: float = float("inf")
    goodbye_bytes: int = 0


class Closing:
    """Closes one transport, to which nothing is written any more.

    Attributes:
        given_up: whether it was aborted before everything was taken.
    """

    __slots__ = (
        "_began_at", "_closed", "_loop", "_on_given_up", "_patience", "_taken", "_taking", "_timer", "_transport",
        "given_up",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        patience: Patience,
        on_given_up: Callable[[], None] | None = None,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._patience = patience
        self._on_given_up = on_given_up
        self._began_at = loop.time()
        self._taking = Taking(untaken_bytes(transport), self._began_at)
        self._taken = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self.given_up = False

    def begin(self) -> None:
        """Close once everything was taken."""
        self._look(FIRST_LOOK_SECONDS)

    def close(self) -> None:
        """Close now, and look after what is on its way."""
        self._close()
        self._look_in(LONGEST_LOOK_SECONDS)

    def end(self) -> None:
        """The transport is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, wait_seconds: float) -> None:
        left_bytes = untaken_bytes(self._transport)
        now = self._loop.time()
        patience = self._patience
        idle_seconds = self._taking.idle_seconds(left_bytes, now)
        most_seconds = patience.taking_seconds if left_bytes > patience.goodbye_bytes else patience.goodbye_seconds
        self._taken = self._taken or not left_bytes
        if not left_bytes and not self._closed:
            self._close()
        elif idle_seconds >= most_seconds or now - self._began_at >= patience.longest_seconds:
            self._give_up()
            return
        self._look_in(wait_seconds)

    def _look_in(self, wait_seconds: float) -> None:
        self._timer = self._loop.call_later(wait_seconds, self._look, min(2 * wait_seconds, LONGEST_LOOK_SECONDS))

    def _close(self) -> None:
        self._closed = True
        if not self._transport.is_closing():  # closed twice, asyncio's TLS transports answer nothing any more
            self._transport.close()

    def _give_up(self) -> None:
        """The peer has had its time."""
        self._transport.abort()
        self.given_up = not self._taken
        if self.given_up and self._on_given_up is not None:
            self._on_given_up()
