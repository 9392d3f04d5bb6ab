"""Where a name leads: look-ups that are few and do not pile up, and which of the addresses were no good of late.

Theory of operation. Of a name one look-up is under way at a time, however many dials wait for it: a resolver that hangs
holds a thread for each, of which event loops have few, and goes on holding it when whoever waited has given up. What a
look-up has brought, an error as well, is good for `FRESH_SECONDS`, since a relay that is away is dialled many times a
second at first.

Where the resolver fails, or takes longer than `PATIENCE_SECONDS`, the last good answer serves on, for `STALE_SECONDS`
at most (RFC 8767). That is safe here: whoever is found at an old address has to prove by TLS that it bears the name.
That there is no such name is an answer, and ends what there was.

Addresses are tried in the order of the resolver, families in turn (RFC 8305 section 4), but those at which a dial came
to nothing, or which another one overtook, behind the others for `AVOIDED_SECONDS`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias, cast

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

FRESH_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 1.8
"""For the resolver, where there is an earlier answer: the client response timer of RFC 8767 section 5."""
STALE_SECONDS: Final = 86_400.0
"""RFC 8767 section 5 recommends one to three days."""
AVOIDED_SECONDS: Final = 300.0
MOST_NAMES: Final = 256
MOST_ADDRESSES: Final = 64
"""Of a name; what a resolver says beyond that is not looked at."""
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Address(NamedTuple):
    """An address to connect a TCP socket to."""

    family: int
    address: SocketAddress


LookUp = Callable[[str, int], Awaitable[list[Address]]]
"""Asks the resolver for the addresses of a host and port; raises OSError."""


class Addresses:
    """The addresses of the names that a process dials; used from one event loop."""

    def __init__(self, look_up: LookUp | None = None) -> None:
        """Know nothing yet; `look_up` takes the place of the system's resolver."""
        self._look_up = look_up or _ask_the_system
        self._names: dict[tuple[str, int], _Name] = {}

    async def find(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host and port in the order in which they are to be tried; one at least.

        Raises:
            OSError: the resolver knows none, or fails, and nothing is known from before. Without an earlier answer the
                resolver is waited for as long as it takes: the caller bounds that.
            UnicodeError: the host cannot be the name of one.
        """
        literal = _read_literal(host, port)
        if literal is not None:
            return [literal]
        name = self._name(host, port)
        await name.refresh()
        return name.in_order()

    def avoid(self, host: str, port: int, address: Address) -> None:
        """Note that a dial of this address came to nothing, or that another address was quicker by far."""
        name = self._names.get((host, port))
        if name is not None:
            name.avoid(address)

    def welcome(self, host: str, port: int, address: Address) -> None:
        """Note that a dial of this address succeeded."""
        name = self._names.get((host, port))
        if name is not None:
            name.avoided.pop(address, None)

    def _name(self, host: str, port: int) -> _Name:
        name = self._names.pop((host, port), None)
        if name is None:
            name = _Name(host, port, self._look_up)
            if len(self._names) >= MOST_NAMES:
                del self._names[next(iter(self._names))]
        self._names[host, port] = name  # the one that was used last is at the end
        return name


class _Name:
    """What is known of one name."""

    def __init__(self, host: str, port: int, look_up: LookUp) -> None:
        self._host = host
        self._port = port
        self._look_up = look_up
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.Task[None] | None = None
        self._asked_at: float | None = None
        self._known: list[Address] = []
        self._known_at = 0.0
        self._failure: Exception | None = None
        self.avoided: dict[Address, float] = {}

    async def refresh(self) -> None:
        """Have an answer that is fresh, or an earlier one where the resolver takes its time; or neither."""
        if self._looking is None:
            if self._asked_at is not None and self._loop.time() < self._asked_at + FRESH_SECONDS:
                return
            self._looking = self._loop.create_task(self._look(), name="trunkline-look-up")
        # Not awaited as it is: who gives up must not end the look-up, which goes on in its thread whatever is done.
        await asyncio.wait([self._looking], timeout=PATIENCE_SECONDS if self._usable else None)

    def in_order(self) -> list[Address]:
        """Return the addresses in the order in which they are to be tried.

        Raises:
            OSError, UnicodeError: there are none; what the resolver has said.
        """
        if not self._usable:
            raise (self._failure or socket.gaierror(socket.EAI_NONAME, "no addresses")).with_traceback(None)
        now = self._loop.time()
        self.avoided = {address: at for address, at in self.avoided.items() if now < at + AVOIDED_SECONDS}
        return sorted(_families_in_turn(self._known), key=lambda address: self.avoided.get(address, float("-inf")))

    def avoid(self, address: Address) -> None:
        self.avoided.pop(address, None)
        if len(self.avoided) >= MOST_ADDRESSES:
            del self.avoided[next(iter(self.avoided))]
        self.avoided[address] = self._loop.time()

    @property
    def _usable(self) -> bool:
        return bool(self._known) and self._loop.time() < self._known_at + STALE_SECONDS

    async def _look(self) -> None:
        try:
            found: list[Address] = await self._look_up(self._host, self._port)
        except (OSError, UnicodeError) as error:
            self._failure = error
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
                self._known = []
        else:
            self._failure = None
            self._known, self._known_at = list(dict.fromkeys(found))[:MOST_ADDRESSES], self._loop.time()
        finally:
            self._asked_at = self._loop.time()
            self._looking = None


async def _ask_the_system(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError:
        raise OSError(errno.EAGAIN, "there is no thread to look the name up") from None
    # The third kind of address that its type names is of a Python without IPv6.
    return [Address(family, cast(SocketAddress, address)) for family, _, _, _, address in found]


def _read_literal(host: str, port: int) -> Address | None:
    """The address that a host is instead of a name; one with a zone is for the system to read."""
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return None
    if literal.version == 4:
        return Address(socket.AF_INET, (host, port))
    return None if "%" in host else Address(socket.AF_INET6, (host, port, 0, 0))


def _families_in_turn(addresses: list[Address]) -> list[Address]:
    """One address of each family after the other, as long as there are any; that of the first address first."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for turn in rounds for address in turn if address is not None]
