"""How servers accept: a few in a turn, and where there are no descriptors, or no memory, they rest for a moment.

aiofastnet's own (1.2.0) mean to, and fail with an AttributeError in the middle of it: the loop then turns as fast as it
can, and two lines are logged each time.
"""

import asyncio
import errno
import functools
import socket
from collections.abc import Callable
from typing import Any, Final

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPTS_PER_TURN: Final = 4
"""Each sets up TLS next, which takes milliseconds. Of a hundred at once a turn is so long that whoever asked before,
and whose answer needs dozens of turns, waits for seconds; who is not accepted yet waits in the kernel's backlog."""
REST_SECONDS: Final = 0.25


def accept_some(listening: socket.socket, take: Callable[[socket.socket, Any], object]) -> OSError | None:
    """Accept a few connections and have each taken, with the address that it came from.

    Returns:
        Why the system gives no more at present: rest for `REST_SECONDS`. None where all is well.
    """
    for _ in range(ACCEPTS_PER_TURN):
        try:
            accepted, place = listening.accept()
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                return error
            continue  # accept(2) hands on what has happened to that one connection
        take(accepted, place)
    return None


def resting(loop: asyncio.AbstractEventLoop, add_reader: Callable[..., None]) -> Callable[..., None]:
    """Return an `add_reader` of the loop by which servers of aiofastnet accept as here."""
    from aiofastnet.api_utils import Server

    @functools.wraps(add_reader)
    def added(descriptor: Any, callback: Callable[..., object], *arguments: Any) -> None:
        server = getattr(callback, "__self__", None)
        if isinstance(server, Server):
            callback = functools.partial(_accept, loop, server)
        add_reader(descriptor, callback, *arguments)

    return added


def _accept(loop: asyncio.AbstractEventLoop, server: Any, listening: socket.socket) -> None:
    def take(accepted: socket.socket, _: Any) -> None:
        accepted.setblocking(False)
        loop.create_task(server._accept_connection2(accepted))  # noqa: SLF001 - as the release does that is pinned

    error = accept_some(listening, take)
    if error is not None:
        _rest(loop, server, listening, error)


def _rest(loop: asyncio.AbstractEventLoop, server: Any, listening: socket.socket, error: OSError) -> None:
    message = "no new connections are accepted for a moment: raise LimitNOFILE"
    loop.call_exception_handler({"message": message, "exception": error})
    loop.remove_reader(listening.fileno())
    loop.call_later(REST_SECONDS, _go_on, loop, server, listening)


def _go_on(loop: asyncio.AbstractEventLoop, server: Any, listening: socket.socket) -> None:
    if server.is_serving():
        loop.add_reader(listening.fileno(), functools.partial(_accept, loop, server), listening)
