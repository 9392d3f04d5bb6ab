"""The port of a relay with workers: they share it among themselves, and with nobody else.

The kernel spreads connections over all sockets that listen on a port with SO_REUSEPORT, whichever relay of this user
they are of (socket(7)). Another relay on the same port by mistake would get half of the connections, without a word
from either. So nobody may listen there when the port is reserved; and a name of the port is held in the kernel (an
abstract address, unix(7)) by whoever has reserved it, since a port that no worker listens on yet looks free. Anybody on
the machine can hold a name, and only processes of one user share a port: a name that another user holds is ignored.
"""

import asyncio
import errno
import os
import socket
import struct
from contextlib import ExitStack
from typing import Final

from relay.port.listening import open_listening

FREE_WITHIN_SECONDS: Final = 5.0
"""Workers whose parent was killed just now take a moment to end."""
LOOK_SECONDS: Final = 0.05
ASKED_AT_MOST: Final = 4096
"""How often it may be asked whose a name is: the one who holds it answers nobody, and the kernel answers for it."""
_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group (SO_PEERCRED, unix(7))."""


async def reserve(address: str, port: int, *, within_seconds: float = FREE_WITHIN_SECONDS) -> list[socket.socket]:
    """Reserve a port for workers, once it is free, for which it waits so long; see `open_listening`.

    Returns:
        The port's sockets, which do not listen, and last the one that holds its name; all to be kept.

    Raises:
        OSError: it is taken, or cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + within_seconds
    while True:
        late = loop.time() >= ends
        try:
            return await _reserve_now(address, port, late=late)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or late:
                raise
            await asyncio.sleep(LOOK_SECONDS)


async def _reserve_now(address: str, port: int, *, late: bool) -> list[socket.socket]:
    with ExitStack() as held:
        name = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        if port:
            _hold(name, f"\0trunkline-relay/{os.geteuid()}/{address}/{port}", late=late)
        for place in await open_listening(address, port, backlog=None):
            place.close()
        places = await open_listening(address, port, backlog=None, shared=True)
        held.pop_all()
    return [*places, name]


def _hold(holder: socket.socket, name: str, *, late: bool) -> None:
    """Hold a name; where another user's process does, and keeps it for as long as one of ours would, go on without."""
    try:
        holder.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not late or _is_ours(name):
            raise
        return
    holder.listen(ASKED_AT_MOST)


def _is_ours(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(name)
        except OSError:
            return False
        found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(found)
    return bool(user == os.geteuid())
