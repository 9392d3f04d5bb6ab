"""How long a client is used: on one event loop, which its connections belong to, and until it is closed."""

from __future__ import annotations

import asyncio

from trunkline.client.errors import Unreachable


class Lifetime:
    """Asked before each use, so that a use too late neither opens what nobody closes nor fails without saying why."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def end(self) -> None:
        """Let there be no further use."""
        self._closed = True

    def check(self) -> None:
        """Take note of a use.

        Raises:
            Unreachable: the client is closed.
            RuntimeError: it was used on another event loop before.
        """
        if self._closed:
            raise Unreachable("this client is closed", retry=False)
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise RuntimeError("this client was used on another event loop before: make one for each loop")
