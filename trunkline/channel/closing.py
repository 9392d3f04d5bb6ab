"""Closing a transport behind bytes that its peer has still to take.

Theory of operation. A transport that is closed gives the last bytes as long as a goodbye may take, a few seconds, and
throws away what is left of them; and a socket that is closed loses what the kernel holds as soon as the peer says
anything. So a transport is closed only once the peer's system has all that was written, which is looked for, ever less
often: nobody tells. It is aborted where nothing is taken for `TAKING_SECONDS`, where only a goodbye is left for
`GOODBYE_SECONDS`, and in any case after `LONGEST_SECONDS`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from trunkline.channel.unsent import untaken_bytes

GOODBYE_SECONDS: Final = 5.0
"""How long a goodbye may take, before TLS has said its own and while it does."""
TAKING_SECONDS: Final = 15.0
"""Of which a peer takes something, or is gone: pings find out within as long."""
LONGEST_SECONDS: Final = 60.0
GOODBYE_BYTES: Final = 4096
"""What goodbyes, resets and answers to pings come to, at most; nobody waits long to get rid of those."""
FIRST_LOOK_SECONDS: Final = 0.002
LONGEST_LOOK_SECONDS: Final = 0.25


class Closing:
    """Closes one transport, to which nothing is written any more.

    Attributes:
        cut: whether it was aborted, so that bytes may have been lost.
    """

    __slots__ = ("_began_at", "_least_bytes", "_loop", "_taken_at", "_timer", "_transport", "cut")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._began_at = self._taken_at = loop.time()
        self._least_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.cut = False

    def begin(self) -> None:
        """Close once everything was taken."""
        self._least_bytes = untaken_bytes(self._transport)
        self._look(FIRST_LOOK_SECONDS)

    def close(self) -> None:
        """Close now."""
        self._transport.close()
        self._timer = self._loop.call_later(GOODBYE_SECONDS, self._transport.abort)

    def end(self) -> None:
        """The transport is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, wait_seconds: float) -> None:
        left_bytes = untaken_bytes(self._transport)
        now = self._loop.time()
        if left_bytes < self._least_bytes:
            self._least_bytes = left_bytes
            self._taken_at = now
        patience_seconds = TAKING_SECONDS if left_bytes > GOODBYE_BYTES else GOODBYE_SECONDS
        if not left_bytes:
            self.close()
        elif now >= min(self._taken_at + patience_seconds, self._began_at + LONGEST_SECONDS):
            self.cut = True
            self._transport.abort()
        else:
            next_wait_seconds = min(2 * wait_seconds, LONGEST_LOOK_SECONDS)
            self._timer = self._loop.call_later(wait_seconds, self._look, next_wait_seconds)
