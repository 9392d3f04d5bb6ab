"""Connecting to one of several addresses: the first at which the connection is of use, which is more than being there.

Theory of operation. RFC 8305 races TCP connections. But an address may take connections and never speak: a backend that
has hung, or a balancer in front of none. So an attempt lasts until its connection is secured (TLS, and what a proxy
says before), and the next address is tried when the last one has failed, has no connection after
`CONNECT_PATIENCE_SECONDS`, or has one and is not secured `SECURE_PATIENCE_SECONDS` later. Whoever was overtaken so goes
on: on a slow way it is still the first.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from trunkline.channel.addresses import Address
from trunkline.channel.errors import HandshakeFailed

T = TypeVar("T")
Secure = Callable[[socket.socket], Awaitable[T]]
"""Makes something of a connected socket, which is its own from then on; raises OSError or ChannelError."""

CONNECT_PATIENCE_SECONDS: Final = 0.25
"""RFC 8305 section 5."""
SECURE_PATIENCE_SECONDS: Final = 4.0
"""A relay to which a fleet comes back keeps handshakes in line for three seconds; two of each would make it worse."""
MOST_ATTEMPTS: Final = 8
"""Addresses that are tried; of those that failed, others are tried the next time (see `addresses`)."""
_LOOPS_WORDS: Final = re.compile(r"(?:\[Errno (\d+)\] )?Connect call failed")


async def connect_first(
    addresses: Sequence[Address], secure: Secure[T], *, avoid: Callable[[Address], None]
) -> tuple[Address, T]:
    """Return what `secure` made first, and of which address.

    Args:
        addresses: in the order in which they are to be tried; one at least.
        secure: is called with each socket that is connected. What it makes of more than one at the same moment is its
            own affair: at most one may succeed.
        avoid: is told of the addresses that failed, or were still at it when another one was there.

    Raises:
        OSError, ChannelError: every address failed; the first reason for which trying again may help, or the first.
    """
    attempts: list[_Attempt[T]] = []
    won: _Attempt[T] | None = None
    try:
        for address in addresses[:MOST_ATTEMPTS]:
            attempts.append(_Attempt(address, secure))
            won = await _settled(attempts, until_all=len(attempts) == min(len(addresses), MOST_ATTEMPTS))
            if won is not None:
                return won.address, won.task.result()
        raise _reason([attempt.task.exception() for attempt in attempts])
    finally:
        for attempt in attempts:
            if attempt is not won:
                avoid(attempt.address)
        await _end([attempt.task for attempt in attempts])


def connect_reason(error: OSError) -> str:
    """Return what an error of a connection says, in the system's words: refused, say, or without a route.

    Event loops have their own for all that is wrong with an address (*Connect call failed*), also where they tell of
    several addresses in one error.
    """

    def systems_words(found: re.Match[str]) -> str:
        number = found[1] or error.errno
        return os.strerror(int(number)) if number else found[0]

    return _LOOPS_WORDS.sub(systems_words, error.strerror or str(error) or type(error).__name__)


class _Attempt(Generic[T]):
    """One address, from the first packet on."""

    def __init__(self, address: Address, secure: Secure[T]) -> None:
        self.address = address
        self._secure = secure
        self._loop = asyncio.get_running_loop()
        self._patience_ends_at = self._loop.time() + CONNECT_PATIENCE_SECONDS
        self.connected: asyncio.Future[None] = self._loop.create_future()
        self.task: asyncio.Task[T] = self._loop.create_task(self._run(), name="trunkline-connect")

    @property
    def patience_seconds(self) -> float:
        """For how long no other address is tried for its sake."""
        return max(0.0, self._patience_ends_at - self._loop.time())

    @property
    def won(self) -> bool:
        """Whether it has succeeded."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    async def _run(self) -> T:
        connection = socket.socket(self.address.family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            # Loops do that to sockets of their own only; without it a small frame waits 40 ms for an acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(connection, self.address.address)
        except BaseException:
            connection.close()
            raise
        self._patience_ends_at = self._loop.time() + SECURE_PATIENCE_SECONDS
        self.connected.set_result(None)
        return await self._secure(connection)


async def _settled(attempts: list[_Attempt[T]], *, until_all: bool) -> _Attempt[T] | None:
    """Wait until an attempt has won, and return it; None once the next is to be begun, or all have failed."""
    last = attempts[-1]
    while True:
        waited: set[asyncio.Future[T] | asyncio.Future[None]] = {one.task for one in attempts if not one.task.done()}
        if waited and not last.connected.done():
            waited.add(last.connected)
        if waited:
            patience_seconds = None if until_all else last.patience_seconds
            await asyncio.wait(waited, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
        won = next((attempt for attempt in attempts if attempt.won), None)
        if won is not None or not waited:
            return won
        if not until_all and (last.task.done() or not last.patience_seconds):
            return None


async def _end(tasks: list[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reason(failures: list[BaseException | None]) -> BaseException:
    """Of the reasons why all failed, the one to tell."""
    reasons = [failure for failure in failures if failure is not None]
    again = [reason for reason in reasons if not isinstance(reason, (ssl.SSLError, HandshakeFailed))]
    return (again or reasons)[0]
