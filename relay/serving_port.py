"""The relay's port, opened: listening, accepting, and swept once a second."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import resource
import socket

from relay.bounds.capacity import most_connections
from relay.composition import Footing, Serving
from relay.port.acceptor import Acceptor
from relay.port.listening import open_listening
from relay.settings import RelaySettings
from trunkline.runtime.allocator import give_back
from trunkline.runtime.clock import Clock
from trunkline.runtime.daemon import EXIT_UNAVAILABLE, StartError
from trunkline.runtime.descriptors import RESERVED, connections_within
from trunkline.runtime.logs import get_logger

SWEEP_SECONDS = 1.0
AGING_SWEEPS = 60
"""What was made of heads is forgotten once it has been of no use for so many sweeps, or twice as many; and so often
free memory goes back to the system."""


async def open_port(footing: Footing, serving: Serving, *, port: int, shared: bool = False) -> Acceptor:
    """Listen on the relay's address, and return what will accept there.

    Args:
        footing: whose settings say where.
        serving: what serves the connections.
        port: 0 lets the system pick one.
        shared: other processes of the same user may listen there too, and have their part of the connections.

    Raises:
        StartError: it cannot be listened on.
    """
    listen = footing.settings.listen
    try:
        listening = await open_listening(listen.address, port, backlog=listen.backlog, shared=shared)
    except OSError as error:
        where = f"{listen.address}:{port}"
        raise StartError(f"cannot listen on {where}: {error}; change [listen]", EXIT_UNAVAILABLE) from None
    connections = _most_connections(footing.settings)
    make_room(listening[0], connections + RESERVED)
    return Acceptor(
        listening,
        port=serving.port,
        context=footing.serving.context,
        max_connections=connections,
        metrics=footing.metrics,
        log=get_logger("relay.port"),
    )


def make_room(descriptor: socket.socket, files: int) -> None:
    """Have the kernel make the table of this process's descriptors as large as it may come to be, once.

    It doubles otherwise whenever it is full, at 256, 512 and so on: of a process with threads it then waits until every
    core has seen that (`synchronize_rcu`), for 10 to 25 ms each time, in the middle of an `accept`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):  # as many may not be allowed, or there: the table grows as ever
        os.close(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(files, soft) - 1))


async def sweep(serving: Serving, clock: Clock) -> None:
    """Once a second: drain links whose token has ended, look at locks, memory, stalls and the trust's age."""
    for sweeps in itertools.count(1):
        await asyncio.sleep(SWEEP_SECONDS)
        now = clock.now()
        serving.registry.drain_expired(now)
        serving.memory.look()
        serving.held.look()
        serving.stalls.look()
        serving.trust.look(now)
        serving.trust_age.look()
        if sweeps % AGING_SWEEPS == 0:
            serving.port.front.heads.age()
            give_back()  # or resident memory would creep up to the most that was in use at any time


def _most_connections(settings: RelaySettings) -> int:
    """Return how many connections there may be: as memory and descriptors allow."""
    log = get_logger("relay")
    wanted = most_connections(settings.limits, settings.workers, log)
    bound = connections_within(wanted)
    if bound < wanted:
        log.warning("relay.fewer_connections", max_connections=bound, wanted=wanted, hint="raise LimitNOFILE")
    return bound
