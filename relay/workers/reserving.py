"""The port of a relay with workers: they share it among themselves, and with nobody else.

The kernel spreads connections over all sockets that listen on a port with SO_REUSEPORT, whichever relay of this user
they are of (socket(7)). Another relay on the same port by mistake would get half of the connections, without a word
from either; so nobody may listen there when the port is reserved.
"""

import asyncio
import errno
import socket
from typing import Final

from relay.listening import open_listening

FREE_WITHIN_SECONDS: Final = 5.0
"""Workers whose parent was killed just now take a moment to end."""
LOOK_SECONDS: Final = 0.05


async def reserve(address: str, port: int, *, within_seconds: float = FREE_WITHIN_SECONDS) -> list[socket.socket]:
    """Reserve a port for workers, once it is free, for which it waits so long; see `open_listening`.

    Raises:
        OSError: it is taken, or cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + within_seconds
    while True:
        try:
            found = await open_listening(address, port, backlog=None)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or loop.time() >= ends:
                raise
            await asyncio.sleep(LOOK_SECONDS)
        else:
            for place in found:
                place.close()
            return await open_listening(address, port, backlog=None, shared=True)
