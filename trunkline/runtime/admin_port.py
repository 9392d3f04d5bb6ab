"""The listening socket of the admin endpoint, which is answered on when the process has no descriptors left.

That is when an operator asks what is wrong. So two descriptors are kept back: where an accept finds none, one of them
is given up for the connection, and the other while its answer is made, since metrics are read from files. As soon as
there are any again, as many are taken back; until then the next connection waits.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Final

from trunkline.runtime.accepting import OUT_OF_RESOURCES, REST_SECONDS

KEPT_BACK: Final = 2


class SpareDescriptors:
    """Descriptors that are open for nothing but to be given up."""

    def __init__(self, count: int) -> None:
        """Open as many as there are to be had."""
        self._count = count
        self._open: list[int] = []
        self.take_back()

    def give_up(self) -> bool:
        """Let go of one; False if there is none."""
        if not self._open:
            return False
        os.close(self._open.pop())
        return True

    def take_back(self) -> bool:
        """Open what has been given up; whether all are there again."""
        with contextlib.suppress(OSError):
            while len(self._open) < self._count:
                self._open.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return len(self._open) == self._count

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Have one free for what is opened and closed within the block, in which nobody else has a turn."""
        self.give_up()
        try:
            yield
        finally:
            self.take_back()

    def close(self) -> None:
        """Let go of all."""
        self._count = 0
        while self.give_up():
            pass


class AdminPort:
    """Accepts the connections, and has the spare descriptors."""

    def __init__(self, listening: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Accept on a socket that listens; `make` makes the protocol of a connection."""
        self.spare = SpareDescriptors(KEPT_BACK)
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._make = make
        self._timer: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._watch()

    @property
    def place(self) -> tuple[str, int]:
        """The address and port that are listened on."""
        host, port = self._listening.getsockname()[:2]
        return str(host), int(port)

    def connection_gone(self) -> None:
        """Take back what was given up for it, before anybody else gets it: its own is closed in this turn."""
        self._loop.call_soon(self._look)

    def stop_accepting(self) -> None:
        """Listen no more."""
        if not self._is_closed:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()

    def close(self) -> None:
        """Listen no more, and let go of everything."""
        self.stop_accepting()
        self.spare.close()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _is_closed(self) -> bool:
        return self._listening.fileno() < 0

    def _watch(self) -> None:
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except OSError as error:  # accept(2) hands on what has happened to one connection, too
            if error.errno in OUT_OF_RESOURCES:
                self._without_room()
            return
        opening = self._loop.create_task(self._open(accepted))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._make, accepted)
        except OSError:
            accepted.close()

    def _without_room(self) -> None:
        """Give up a spare one, for the next attempt, which the loop makes at once; or rest for a moment."""
        if not self.spare.give_up():
            self._loop.remove_reader(self._listening.fileno())
        self._look_later()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(REST_SECONDS, self._look)

    def _look(self) -> None:
        """Take back what there is, and go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_closed:
            return
        if not self.spare.take_back():
            self._look_later()
        self._watch()
