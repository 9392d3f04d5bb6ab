"""Our standard output and error, whose readers may stand still (a pager, Ctrl-S) without holding up anything else.

A write that blocks holds up the whole loop, and with it the signals by which the user asks for the end. So bytes are
written where there is room for them, as poll(2) says, held where there is none, and passed on when there is again.
Whoever writes much waits with `passed` before writing more: that bounds what is held.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import stat
from typing import BinaryIO, Protocol


class Destination(Protocol):
    """What is needed of a binary file, such as our standard output."""

    def write(self, content: bytes, /) -> object:
        """Take bytes."""
        ...

    def flush(self) -> object:
        """Let them go."""
        ...

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        ...


class PatientOutput:
    """Writes to a descriptor in order, on the running loop; what fails is raised by the next `write` or `passed`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = _opened_anew(descriptor) if os.isatty(descriptor) else descriptor
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._watched = False
        self._error: OSError | None = None
        self._waiters: list[asyncio.Future[None]] = []
        # A pipe that has room takes so much at once without blocking (pipe(7)); a file takes anything.
        self._most_bytes = None if stat.S_ISREG(os.fstat(descriptor).st_mode) else select.PIPE_BUF
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def flush(self) -> None:
        """Nothing waits that could go."""

    def write(self, content: bytes) -> None:
        """Take bytes, and pass on what there is room for.

        Raises:
            OSError: whoever read it has gone, or it takes no more.
        """
        self._held += content
        if not self._watched:
            self._pass_on()
        self._raise()

    async def passed(self) -> None:
        """Wait until all has been passed on; raises as `write`."""
        while self._held:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        self._raise()

    def _pass_on(self) -> None:
        try:
            while self._held and self._room.poll(0):
                del self._held[: os.write(self._descriptor, self._held[: self._most_bytes])]
        except BlockingIOError:
            pass  # somebody who has it open too was faster
        except OSError as error:
            self._error = error
            self._held.clear()
        self._watch(wanted=bool(self._held))
        if not self._held:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    def _watch(self, *, wanted: bool) -> None:
        if wanted and not self._watched:
            self._loop.add_writer(self._descriptor, self._pass_on)
        elif self._watched and not wanted:
            self._loop.remove_writer(self._descriptor)
        self._watched = wanted

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _opened_anew(terminal: int) -> int:
    """The same terminal, for us alone not to block: with room for one byte it would take any number, and wait."""
    try:
        return os.open(f"/proc/self/fd/{terminal}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # of another user, behind su(1) say
        return terminal


def patient(stream: BinaryIO) -> Destination:
    """A standard stream, from now on written to by nobody else; what stands for one without a descriptor as it is."""
    stream.flush()
    try:
        return PatientOutput(stream.fileno())
    except io.UnsupportedOperation:
        return stream


async def passed(destination: Destination) -> None:
    """Wait until a destination has passed on what it was given; raises as its `write`."""
    if isinstance(destination, PatientOutput):
        await destination.passed()
